"""The read side of a slot: what its worker counted, what it is at, and what it left undone when it died."""

from __future__ import annotations

from math import inf
from typing import Final, NamedTuple, cast

from .directory import CorruptDirectory, Entry, decode, written
from .families import PATHS
from .layout import (
    CELLS_AT,
    COUNTED,
    DIED_ON,
    DIED_START,
    DIRECTORY_BYTES,
    INFLIGHT_BYTES,
    INFLIGHT_ENTRIES,
    INFLIGHT_TEXT,
    KNOWN,
    NOWHERE,
    UNTRACKED,
    UNTRACKED_PAIRS,
)
from .slot import Slot, inflight_offset, inflight_start

_READS: Final = 100
"""Attempts to read the same state of the untracked requests twice in a row."""
_PLAUSIBLE: Final = 1e9
"""More untracked requests than this is a number that no writer of ours wrote."""


class Untracked(NamedTuple):
    """Requests in progress without an entry in the in-flight table.

    Attributes:
        number: of requests.
        starts: sum of their starts in monotonic seconds; infinite if it could not be read.
    """

    number: int
    starts: float

    def seconds(self, clock: float) -> float:
        """Return the sum of their ages in seconds at this time of the monotonic clock."""
        return max(0.0, self.number * clock - self.starts)


class InFlight(NamedTuple):
    """A request that a worker is at: start in monotonic seconds, method and path as text, cut to fit."""

    start: float
    method: str
    path: str


class SlotReader:
    """The read side. Remembers what it has parsed: each look costs only what is new."""

    def __init__(self, slot: Slot) -> None:
        self.slot = slot
        self.entries: list[Entry] = []
        self.corrupt = False
        """Something else has written into the slot: no more is read of its directory."""
        self._failures = 0
        self._parsed = 0
        self._used = 0
        self._paths: dict[float, tuple[str, str]] = {}

    def update(self) -> list[Entry]:
        """The entries that are new since the last call.

        Raises:
            CorruptDirectory: something else has written into the slot. It is said twice, since on a processor that
                reorders stores the first time may be a moment's; from then on there is nothing new, and what was
                read before stays.
        """
        if self.corrupt:
            return []
        try:
            end = written(self.slot.directory, self.slot.header[DIRECTORY_BYTES], self._parsed)
            new = list(decode(self.slot.directory, self._parsed, end))
        except CorruptDirectory:
            self._failures += 1
            self.corrupt = self._failures > 1
            raise
        self._failures = 0
        self._parsed = end
        self.entries += new
        self._paths.update(
            (CELLS_AT // 8 + entry.first, (entry.labels[0], entry.labels[1]))
            for entry in new
            if entry.family == PATHS.number
        )
        if new:
            self._used = new[-1].first + new[-1].cells
        return new

    def values(self) -> list[float]:
        """A copy of all cells that the entries parsed so far speak of."""
        return cast("list[float]", self.slot.cells[: self._used].tolist())

    def in_flight(self) -> list[InFlight]:
        """The requests in the in-flight table, oldest first."""
        words = self.slot.words
        found = []
        for number in range(INFLIGHT_ENTRIES):
            at = inflight_start(number)
            start = words[at]
            if start > 0.0:
                request = InFlight(start, *self._request(number))
                if words[at] == start:  # else it has ended meanwhile, and the entry may be another one's
                    found.append(request)
        return sorted(found)

    def died_on(self) -> list[InFlight]:
        """The requests that a worker which is gone was at, oldest first: in progress, or ended by its own end.

        Raises:
            CorruptDirectory: something else has written into the slot.
        """
        found = self.in_flight()
        number, odd = divmod(self.slot.header[DIED_ON] - inflight_start(0), INFLIGHT_BYTES // 8)
        if not odd and 0 <= number < INFLIGHT_ENTRIES:
            found.append(InFlight(self.slot.header[DIED_START], *self._request(int(number))))
        return sorted(set(found))

    def finish(self) -> int:
        """Counts the requests that a worker which is gone had answered and was about to count; says how many.

        Raises:
            CorruptDirectory: something else has written into the slot.
        """
        self.update()
        words = self.slot.words
        finished = 0
        for number in range(NOWHERE + 1):
            at = inflight_start(number)
            cell = -words[at]
            if not 0.0 <= cell - CELLS_AT // 8 < self._used or not cell.is_integer():
                continue
            if words[at + COUNTED] == words[int(cell)] + 1.0:
                words[int(cell)] += 1.0
                finished += 1
        return finished

    def _request(self, number: int) -> tuple[str, str]:
        """Method and path of an in-flight entry."""
        known = self.slot.words[inflight_start(number) + KNOWN]
        if known:
            if known not in self._paths:
                self.update()
            return self._paths.get(known, ("", ""))
        method, path = INFLIGHT_TEXT.unpack_from(self.slot.memory, inflight_offset(number))
        return _text(method), _text(path)

    def untracked(self) -> Untracked:
        """Return the requests in progress that have no entry in the in-flight table.

        The worker may change them meanwhile: only a state that is read twice in a row is taken.
        """
        state = self._untracked_state()
        for _ in range(_READS):
            before, state = state, self._untracked_state()
            if state == before:
                break
        else:
            return Untracked(_plausible(state[1]), inf)
        changes, number, starts, marker, marked = state
        count = _plausible(number)
        if count and marker < 0.0 and marked == changes:  # one of them is answered; which one is not known
            return Untracked(count - 1, starts * (count - 1) / count)
        return Untracked(count, starts)

    def _untracked_state(self) -> tuple[float, ...]:
        """Number of changes, valid pair, and what the entry of requests without one says."""
        header, words, at = self.slot.header, self.slot.words, inflight_start(NOWHERE)
        changes = header[UNTRACKED]
        pair = UNTRACKED_PAIRS + 2 * (changes % 2 == 1)
        return changes, header[pair], header[pair + 1], words[at], words[at + KNOWN]


def _plausible(number: float) -> int:
    return int(number) if 0.0 <= number <= _PLAUSIBLE else 0


def _text(raw: bytes) -> str:
    return raw.rstrip(b"\0").decode("utf-8", "replace")
