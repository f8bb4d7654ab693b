"""The leases of slots: a new worker gets the lowest free slot, and another slot is mapped if all are leased."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Final

from .aggregate import SlotsCopy, Summary, summarize
from .index import CorruptIndex, SeriesIndex
from .layout import ABORT_AT, BOOTING_AT, EXIT_MARK, HEADER_CELLS, OVERFLOW_ENTRY, PID, WORKER
from .reader import SlotReader
from .schema import PATHS
from .slot import Slot

_FREE_ENTRIES: Final = memoryview(array("d", bytes(8 * (OVERFLOW_ENTRY + 1))))
_EMPTY: Final = Summary((), {})
MAX_CORRUPT: Final = 16
"""Corrupt slots that are replaced. Beyond that, something writes into each new slot, and no more are mapped."""


@dataclass(eq=False)
class Lease:
    """A worker's lease of a slot, from before its fork until its exit is recorded.

    Attributes:
        number: of the slot, from 0.
        worker: serial number of the worker, from 1.
        since: monotonic seconds at which the lease began.
        reader: of the slot.
        baseline: what the slot held then. What the worker counts is the difference to it.
        is_new: no worker has had the slot before.
    """

    number: int
    worker: int
    since: float
    reader: SlotReader
    baseline: Summary = field(repr=False)
    is_new: bool = False

    @property
    def slot(self) -> Slot:
        """The slot."""
        return self.reader.slot


class SlotAllocator:
    """The slots of a server. All methods but ``update`` are called with the fork lock held.

    Args:
        make_slot: maps another slot; called when all are leased.
        fits: whether a slot is large enough for the current settings. One that is not is never leased again.
    """

    def __init__(self, make_slot: Callable[[], Slot], fits: Callable[[Slot], bool] = lambda slot: True) -> None:
        self._make_slot = make_slot
        self._fits = fits
        self.readers: list[SlotReader] = []
        """One per slot, leased or free, by the slot's number."""
        self._leases: dict[int, Lease] = {}
        self._free: list[int] = []
        """Numbers of the slots that can be leased again; a heap."""
        self._corrupt = 0
        """Number of slots that were taken out of ``_free`` because something else has written into them."""
        self._index = SeriesIndex(frozenset({PATHS.number}))

    def lease(self, worker: int, now: float) -> Lease:
        """Lease the lowest free slot to a worker that is about to be forked, at unix time ``now``.

        Raises:
            OSError: all slots are leased and there is no memory for another one.
            CorruptIndex: something else has written into the slot; it is not leased again. Or no slot is free, and
                ``MAX_CORRUPT`` slots were lost in this way.
        """
        while self._free and not self._is_fit(self._free[0]):
            self._corrupt += self.readers[heappop(self._free)].corrupt  # for good
        number = self._free[0] if self._free else len(self.readers)
        if number == len(self.readers):
            if self._corrupt >= MAX_CORRUPT:
                raise CorruptIndex("something else has written into too many slots")
            self.readers.append(SlotReader(self._make_slot(), number, self._index))
        reader, baseline, is_new = self.readers[number], _EMPTY, not self._free
        if not is_new:
            reader.update()
            baseline = summarize(reader.series, reader.cells)
            heappop(self._free)
            _wipe(reader.slot)
        lease = Lease(number, worker, time.monotonic(), reader, baseline, is_new)
        reader.slot.header[WORKER] = worker
        reader.slot.header[BOOTING_AT] = now
        self._leases[number] = lease
        return lease

    def _is_fit(self, number: int) -> bool:
        """Return whether this slot can be leased."""
        reader = self.readers[number]
        return not reader.corrupt and self._fits(reader.slot)

    def release(self, lease: Lease) -> None:
        """Free the slot; its counts stay. A second call has no effect."""
        if self._leases.get(lease.number) is lease:
            del self._leases[lease.number]
            heappush(self._free, lease.number)
            _wipe(lease.slot)

    def update(self, hold_lock: Callable[[], AbstractContextManager[object]] = nullcontext) -> CorruptIndex | None:
        """Parse the new entries in all slots, one slot at a time: after a reload there may be many.

        Args:
            hold_lock: returns a context manager that holds the fork lock, for one slot. The caller does not hold it.

        Returns:
            The error of a slot into which something else has written; None if there is none.
        """
        error = None
        for reader in list(self.readers):
            if reader.has_updates:
                with hold_lock():
                    try:
                        reader.update()
                    except CorruptIndex as corrupt:
                        error = corrupt
        return error

    def copy(self, error: CorruptIndex | None = None) -> SlotsCopy:
        """Return a copy of all cells whose entries have been parsed. ``error`` is what ``update`` has returned."""
        return SlotsCopy(self.readers, sorted(self._leases), self._index, error)

    @property
    def live(self) -> list[Lease]:
        """The current leases, by slot number."""
        return [self._leases[number] for number in sorted(self._leases)]


def _wipe(slot: Slot) -> None:
    """Clear what belongs to one worker: its states, its in-flight requests."""
    for cell in (WORKER, PID, *range(BOOTING_AT, ABORT_AT + 1), *range(EXIT_MARK, HEADER_CELLS)):
        slot.header[cell] = 0.0
    slot.starts[:] = _FREE_ENTRIES
