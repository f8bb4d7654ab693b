"""Places in the in-flight table for workers that have many requests in progress on one thread."""

from __future__ import annotations

from ..scoreboard.layout import INFLIGHT_ENTRIES, KNOWN, NOWHERE, UNTRACKED
from ..scoreboard.slot import Slot, inflight_start, write_out
from .recorder import method_label


class Places:
    """The entries that are free. Requests that find none are only counted."""

    def __init__(self, slot: Slot) -> None:
        self._slot = slot
        self._words = slot.words
        self._free = list(range(INFLIGHT_ENTRIES))

    def enter(self, method: str, path: str, known: float, started: float) -> int:
        """A request begins: the place among the slot's doubles of the start of its entry.

        Args:
            method: of the request.
            path: of the request.
            known: what stands for both of them; 0.0: they are written out.
            started: in seconds of the monotonic clock.
        """
        if not self._free:
            self._slot.header[UNTRACKED] += 1.0
            return NOWHERE_AT
        number = self._free[-1]
        at = STARTS[number]
        if known:
            self._words[at + KNOWN] = known
        else:
            write_out(self._slot, number, method_label(method).encode(), path.encode("utf-8", "replace"))
        self._words[at] = started
        self._free.pop()
        return at

    def leave(self, at: int) -> None:
        """The request that had this place has ended."""
        self._words[at] = 0.0
        if at == NOWHERE_AT:
            self._slot.header[UNTRACKED] -= 1.0
        else:
            self._free.append(NUMBERS[at])


STARTS = tuple(map(inflight_start, range(INFLIGHT_ENTRIES)))
NUMBERS = {at: number for number, at in enumerate(STARTS)}
NOWHERE_AT = inflight_start(NOWHERE)
