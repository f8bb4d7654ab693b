"""Places in the in-flight table for workers that have many requests in progress on one thread."""

from __future__ import annotations

from typing import Final

from ...shm.layout import INFLIGHT_ENTRIES, OVERFLOW_ENTRY, PATH_REF, UNTRACKED, UNTRACKED_PAIRS
from ...shm.schema import OTHER
from ...shm.slot import Slot, inflight_start, write_out
from .recorder import METHOD_BYTES

OVERFLOW_AT: Final = inflight_start(OVERFLOW_ENTRY)
_OTHER: Final = OTHER.encode()


class UntrackedRequests:
    """The requests in progress that found no free entry: their number, and the sum of their starts.

    Not locked. Of a worker with threads the caller holds the recorder's lock.
    """

    def __init__(self, slot: Slot) -> None:
        self._header = slot.header
        self._words = slot.words
        self._changes = 0
        self._number = 0
        self._starts = 0.0

    def add(self, started: float) -> None:
        """Add a request that began at this time, in seconds of the monotonic clock."""
        self._number += 1
        self._starts += started
        self._publish()

    def remove(self, started: float) -> None:
        """Remove a request that has ended, by the start with which it was added."""
        self._number -= 1
        self._starts = self._starts - started if self._number else 0.0  # with none left, rounding errors end, too
        self._publish()

    def _publish(self) -> None:
        header, words = self._header, self._words
        self._changes = changes = self._changes + 1
        pair = UNTRACKED_PAIRS + 2 * (changes & 1)
        header[pair] = self._number
        header[pair + 1] = self._starts
        header[UNTRACKED] = changes
        # Only now: until then this entry and the number of changes tell that the request is answered and still counted.
        words[OVERFLOW_AT] = 0.0
        words[OVERFLOW_AT + PATH_REF] = changes


class InFlightTable:
    """The entries that are free, by where their start is among the slot's doubles.

    Requests that find none are only counted, see ``UntrackedRequests``.
    """

    def __init__(self, slot: Slot) -> None:
        self.free = list(map(inflight_start, range(INFLIGHT_ENTRIES)))
        self.untracked = UntrackedRequests(slot)
        self._slot = slot
        self._words = slot.words

    def enter(self, method: str, path: str, known: float, started: float) -> int:
        """A request begins: the place among the slot's doubles of the start of its entry.

        Args:
            method: of the request.
            path: of the request.
            known: what stands for both of them; 0.0: they are written out.
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

    def leave(self, at: int, started: float) -> None:
        """The request that had this place, and began at this time of the monotonic clock, has ended."""
        if at == OVERFLOW_AT:
            self.untracked.remove(started)
        else:
            self._words[at] = 0.0
            self.free.append(at)
