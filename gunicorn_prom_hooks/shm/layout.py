"""The layout of a slot: a piece of shared memory that one live worker writes and the master reads.

A slot is anonymous shared memory that the master maps before it forks. All numbers are native-endian, since both sides
are one machine. Counts and times are IEEE doubles at offsets that are multiples of 8. So each one is written and read
in one piece, also by a writer that is killed.

=================  ==============  =====================================================================
offset in bytes    size in bytes   contents
=================  ==============  =====================================================================
0                  512             header: 64 doubles, numbered by the constants below
512                128 * 256       in-flight table
33,280             256             overflow entry, of requests without an in-flight entry
33,536             8 * C           cells: doubles that only grow; C is in the header
33,536 + 8 * C     D               directory: the labels of the cells; D is in the header
=================  ==============  =====================================================================

**Header.** ``VERSION`` is 1 once the slot is laid out. ``DIRECTORY_BYTES`` is the number of bytes of the directory that
are valid. ``WORKER`` is the serial number of the worker that has the slot, 0 when it is free. ``BOOTING_AT`` to
``ABORT_AT`` are the unix times, in seconds, at which that worker entered the state, 0 for a state that it has not been
in. ``RUNNING_CLOCK`` is ``RUNNING_AT`` on ``CLOCK_MONOTONIC``, written before it; durations are taken from that clock.
``EXIT_MARK`` is 0 until an orderly exit, then 1 + the exit code (0 to 255). ``EXIT_CAUSE`` is then the cause, one of
the ``CAUSE_`` numbers. ``INTERRUPTED_REQUEST`` is the index among the slot's doubles of the start of an in-flight entry
whose request was ended by the signal that ends the worker, 0 if there is none. ``INTERRUPTED_START`` is the start of
that request. ``STACKS`` is whether the worker writes its stacks on the signal for that: 0, it does not, or one of the
``STACKS_`` numbers. ``LOOP_DUE`` is when the timer in the worker's event loop is due next, in seconds of
``CLOCK_MONOTONIC``, 0 without an event loop. The timer first moves ``LOOP_DUE``, then counts how late it was.

**Untracked requests** are those in progress that found no free entry in the in-flight table. Two cells of the header
describe them: their number, and the sum of their starts in seconds of ``CLOCK_MONOTONIC``. There are two such pairs,
one after the other from ``UNTRACKED_PAIRS`` on. ``UNTRACKED`` is the number of changes: while it is even, the first
pair is valid, while it is odd, the second one. A writer writes the other pair, then adds 1 to ``UNTRACKED``. So one
store changes both numbers, and a writer that is killed leaves a valid pair.

**In-flight entry.** 0: method, 16 bytes. 16: path, 216 bytes. Both are UTF-8, cut to fit, padded with NUL. Then three
doubles. 232: ``expected``, see below. 240: ``reference``. If it is 0.0, method and path are the text before it. Else
they are the labels of the directory entry whose first cell has this index among the slot's doubles, and the text is an
old one. 248: ``start`` of the request in seconds of ``CLOCK_MONOTONIC``, written last. It is 0.0 or less when the entry
is free. In the overflow entry, ``reference`` is a value of ``UNTRACKED``. If that is still its value and ``start`` is
negative, see below, one of the requests that the valid pair counts is answered, and no longer in progress.

**Counting.** A request is counted by one store into one cell. Before it, ``expected`` becomes what that cell will hold,
and ``start`` the index of that cell among the slot's doubles, negative. So the entry of a worker that is killed in
between shows that a request was answered and not counted. The master counts it, see ``SlotReader.commit_pending``.

**Directory.** Entries one after the other, never changed, never removed. An entry is a head (``ENTRY``: u16 length
of the whole entry, u16 number of cells, u32 first cell, u32 CRC-32 of the whole entry with zero in this place,
u8 family, u8 number of labels, f64 unix time in seconds at which the entry was added, 0.0 if it is as old as the slot),
then per label a u16 length and that many bytes of UTF-8. The cells of consecutive entries are consecutive. A writer
first writes the entry, then moves ``DIRECTORY_BYTES`` past it, and only then touches its cells. So a partial entry is
never read, and the next writer overwrites it.

Cells and directory outlive the worker. Its successor in the slot counts on in the same cells.
"""

from __future__ import annotations

import struct
from typing import Final

LAYOUT_VERSION: Final = 1.0

HEADER_CELLS: Final = 64
VERSION: Final = 0
CELLS: Final = 1
DIRECTORY_SIZE: Final = 2
DIRECTORY_BYTES: Final = 3
WORKER: Final = 4
PID: Final = 5
BOOTING_AT: Final = 6
RUNNING_AT: Final = 7
QUIT_AT: Final = 8
ABORT_AT: Final = 9
EXIT_MARK: Final = 10
UNTRACKED: Final = 11
EXIT_CAUSE: Final = 12
INTERRUPTED_REQUEST: Final = 13
INTERRUPTED_START: Final = 14
UNTRACKED_PAIRS: Final = 15
STACKS: Final = 19
RUNNING_CLOCK: Final = 20
LOOP_DUE: Final = 21

CAUSE_UNKNOWN: Final = 0.0
CAUSE_MAX_REQUESTS: Final = 1.0
CAUSE_RELOADER: Final = 2.0
"""gunicorn's reloader has seen a changed file."""
CAUSE_UNCOUNTED: Final = 3.0
"""No signal, but a worker class that does not count requests for gunicorn, and ``max_requests`` is set: likely that."""
CAUSE_SIGNAL: Final = 100.0
"""Plus the number of the signal that made the worker exit."""

STACKS_ARMED: Final = 1.0
STACKS_ASKED: Final = 2.0
"""It writes them, and the signal was already sent."""

INFLIGHT_AT: Final = HEADER_CELLS * 8
INFLIGHT_ENTRIES: Final = 128
INFLIGHT_BYTES: Final = 256
OVERFLOW_ENTRY: Final = INFLIGHT_ENTRIES
"""Number of the overflow entry. It counts requests that found no free entry, and does not name them."""
INFLIGHT_TEXT: Final = struct.Struct("=16s216s")
"""Method and path."""
INFLIGHT_START: Final = 248
"""Offset of the start in an entry."""
PATH_REF: Final = -1
EXPECTED_COUNT: Final = -2
"""The other two doubles of an in-flight entry, relative to the index of its start."""

CELLS_AT: Final = INFLIGHT_AT + (INFLIGHT_ENTRIES + 1) * INFLIGHT_BYTES

ENTRY: Final = struct.Struct("=HHIIBBd")
LABEL: Final = struct.Struct("=H")
MAX_LABEL_BYTES: Final = 256
"""A longer label value is cut at a character."""


def slot_bytes(cells: int, directory: int) -> int:
    """Return the size in bytes of a slot with this number of cells and this number of directory bytes."""
    return CELLS_AT + 8 * cells + directory
