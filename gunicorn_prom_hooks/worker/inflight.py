"""Places in the in-flight table for workers that have many requests in progress on one thread."""

from __future__ import annotations

from typing import Final

from ..scoreboard.families import OTHER
from ..scoreboard.layout import INFLIGHT_ENTRIES, KNOWN, NOWHERE, UNTRACKED
from ..scoreboard.slot import Slot, inflight_start, write_out
from .recorder import METHOD_BYTES

NOWHERE_AT: Final = inflight_start(NOWHERE)
_OTHER: Final = OTHER.encode()


class Places:
    """The entries that are free, by where their start is among the slot's doubles.

    Requests that find none are only counted.
    """

    def __init__(self, slot: Slot) -> None:
        self.free = list(map(inflight_start, range(INFLIGHT_ENTRIES)))
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
            self._slot.header[UNTRACKED] += 1.0
            return NOWHERE_AT
        at = self.free[-1]
        if known:
            self._words[at + KNOWN] = known
        else:
            write_out(self._slot, at, METHOD_BYTES.get(method, _OTHER), path.encode("utf-8", "replace"))
        self._words[at] = started
        self.free.pop()
        return at

    def leave(self, at: int) -> None:
        """The request that had this place has ended."""
        self._words[at] = 0.0
        if at == NOWHERE_AT:
            self._slot.header[UNTRACKED] -= 1.0
        else:
            self.free.append(at)
