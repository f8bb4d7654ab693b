"""Who has which slot: the lowest free one goes to the next worker, new ones are mapped as needed."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Final

from .aggregate import SlotsCopy, Summary, summarize
from .index import CorruptIndex, Index
from .layout import ABORT_AT, BOOTING_AT, EXIT_MARK, HEADER_CELLS, OVERFLOW_ENTRY, PID, WORKER
from .reader import SlotReader
from .schema import PATHS
from .slot import Slot

_NO_STARTS: Final = memoryview(array("d", bytes(8 * (OVERFLOW_ENTRY + 1))))
_NOTHING: Final = Summary((), {})
MAX_CORRUPT: Final = 16
"""More slots than this are not replaced, when something else writes into each new one."""


@dataclass(eq=False)
class Lease:
    """One worker's hold on a slot, from before its fork until the master knows that it is gone.

    Attributes:
        number: of the slot, from 0.
        worker: serial number of the worker, from 1.
        since: monotonic seconds at which it was taken.
        baseline: what was in the slot at that moment; what the worker did itself is the difference to it.
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
        """The shared memory."""
        return self.reader.slot


class SlotAllocator:
    """The slots of a server. Not locked: the master's callers hold one lock around each call.

    Args:
        make_slot: maps another slot; called when all are taken.
        fits: whether a slot is large enough for what is wanted now; one that is not is only read from then on.
    """

    def __init__(self, make_slot: Callable[[], Slot], fits: Callable[[Slot], bool] = lambda slot: True) -> None:
        self._make_slot = make_slot
        self._fits = fits
        self.readers: list[SlotReader] = []
        """One per slot, taken or free, by the slot's number."""
        self._taken: dict[int, Lease] = {}
        self._free: list[int] = []
        """Numbers of the slots that can be leased again, as a heap."""
        self._corrupt = 0
        """How many slots have been taken out of these since something else has written into them."""
        self._index = Index(frozenset({PATHS.number}))

    def take(self, worker: int, now: float) -> Lease:
        """Leases the lowest free slot to a worker about to be forked, at unix time ``now``.

        Raises:
            OSError: all slots are taken and there is no memory for another one.
            CorruptDirectory: something else has written into the slot; it is not leased again. Or this has been so
                ``MAX_CORRUPT`` times, and there is no free slot left.
        """
        while self._free and not self._is_fit(self._free[0]):
            self._corrupt += self.readers[heappop(self._free)].corrupt  # it is not asked for again
        number = self._free[0] if self._free else len(self.readers)
        if number == len(self.readers):
            if self._corrupt >= MAX_CORRUPT:
                raise CorruptIndex("too many slots are lost to what else writes into them")
            self.readers.append(SlotReader(self._make_slot(), number, self._index))
        reader, baseline, is_new = self.readers[number], _NOTHING, not self._free
        if not is_new:
            reader.update()
            baseline = summarize(reader.series, reader.cells)
            heappop(self._free)
            _wipe(reader.slot)
        lease = Lease(number, worker, time.monotonic(), reader, baseline, is_new)
        reader.slot.header[WORKER] = worker
        reader.slot.header[BOOTING_AT] = now
        self._taken[number] = lease
        return lease

    def _is_fit(self, number: int) -> bool:
        """Return whether this slot can be leased."""
        reader = self.readers[number]
        return not reader.corrupt and self._fits(reader.slot)

    def give_back(self, lease: Lease) -> None:
        """Frees the slot; what it counted stays. Doing it twice is harmless."""
        if self._taken.get(lease.number) is lease:
            del self._taken[lease.number]
            heappush(self._free, lease.number)
            _wipe(lease.slot)

    def update(self, hold: Callable[[], AbstractContextManager[object]] = nullcontext) -> CorruptIndex | None:
        """Parse what is new in the directories, a slot at a time: after a reload it may be a lot.

        Args:
            hold: holds the lock for one slot. The caller does not hold it.

        Returns:
            What came of something else having written into a slot, if something has.
        """
        error = None
        for reader in list(self.readers):
            if reader.has_news:
                with hold():
                    try:
                        reader.update()
                    except CorruptIndex as corrupt:
                        error = corrupt
        return error

    def copy(self, error: CorruptIndex | None = None) -> SlotsCopy:
        """Return a copy of all that the directories speak of, as far as they are parsed. ``error`` is of ``update``."""
        return SlotsCopy(self.readers, sorted(self._taken), self._index, error)

    @property
    def live(self) -> list[Lease]:
        """The leases that are out, by slot number."""
        return [self._taken[number] for number in sorted(self._taken)]


def _wipe(slot: Slot) -> None:
    """Clears what belongs to one worker: its states, its in-flight requests."""
    for cell in (WORKER, PID, *range(BOOTING_AT, ABORT_AT + 1), *range(EXIT_MARK, HEADER_CELLS)):
        slot.header[cell] = 0.0
    slot.starts[:] = _NO_STARTS
