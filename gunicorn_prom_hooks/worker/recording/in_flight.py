"""The in-flight table of workers with many requests in progress, and the count of those beyond it."""

from __future__ import annotations

from typing import Final

from ...shm.layout import (
    INFLIGHT_ENTRIES,
    INTERRUPTED_REQUEST,
    INTERRUPTED_START,
    OVERFLOW_ENTRY,
    PATH_REF,
    UNTRACKED,
    UNTRACKED_PAIRS,
)
from ...shm.schema import OTHER
from ...shm.slot import Slot, inflight_start, write_out
from .recorder import METHOD_BYTES

OVERFLOW_AT: Final = inflight_start(OVERFLOW_ENTRY)
_OTHER: Final = OTHER.encode()


class UntrackedRequests:
    """The requests in progress without an entry: their number, and the sum of their starts.

    Not locked. In a worker with threads the caller holds the recorder's lock.
    """

    def __init__(self, slot: Slot) -> None:
        self.move_to(slot)
        self._changes = 0
        self._number = 0
        self._starts = 0.0

    def move_to(self, slot: Slot) -> None:
        """Write into this slot from now on."""
        self._header = slot.header
        self._words = slot.words

    def add(self, started: float) -> None:
        """Add a request that began at this time, in seconds of the monotonic clock."""
        self._number += 1
        self._starts += started
        self._publish()

    def remove(self, started: float) -> None:
        """Remove a request that has ended, by the start with which it was added."""
        self._number -= 1
        self._starts = self._starts - started if self._number else 0.0  # with none left, rounding errors end as well
        self._publish()

    def _publish(self) -> None:
        header, words = self._header, self._words
        self._changes = changes = self._changes + 1
        pair = UNTRACKED_PAIRS + 2 * (changes & 1)
        header[pair] = self._number
        header[pair + 1] = self._starts
        header[UNTRACKED] = changes
        # Last: until then this entry and the number of changes tell that the request is answered and still counted.
        words[OVERFLOW_AT] = 0.0
        words[OVERFLOW_AT + PATH_REF] = changes


class InFlightTable:
    """The free entries of the table, each by its start among the slot's doubles.

    Requests that find no free entry are only counted, see ``UntrackedRequests``.
    """

    def __init__(self, slot: Slot) -> None:
        self.free = list(map(inflight_start, range(INFLIGHT_ENTRIES)))
        self.untracked = UntrackedRequests(slot)
        self._slot = slot
        self._words = slot.words

    def add(self, method: str, path: str, known: float, started: float) -> int:
        """Add a request. Return the start of its entry, among the slot's doubles.

        Args:
            method: of the request.
            path: of the request.
            known: the entry's ``PATH_REF``; 0.0: method and path are written as text.
            started: in seconds of the monotonic clock.
        """
        if not self.free:
            self.untracked.add(started)
            return OVERFLOW_AT
        at = self.free[-1]
        if known:
            self._words[at + PATH_REF] = known
        else:
            write_out(self._slot, at, METHOD_BYTES.get(method, _OTHER), path.encode("utf-8", "replace"))
        self._words[at] = started
        self.free.pop()
        return at

    def remove(self, at: int, started: float) -> None:
        """Remove the request with this entry, which began at this time of the monotonic clock."""
        if at == OVERFLOW_AT:
            self.untracked.remove(started)
        else:
            self._words[at] = 0.0
            self.free.append(at)


def mark_interrupted(slot: Slot, at: int) -> None:
    """Record for the master that a signal ended the request whose in-flight entry starts at ``at``, and the worker."""
    slot.header[INTERRUPTED_START] = slot.words[at]
    slot.header[INTERRUPTED_REQUEST] = at
