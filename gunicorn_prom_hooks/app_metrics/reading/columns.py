"""The numbers of many files merged into one another, whole columns at a time."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import repeat
from typing import Final, NamedTuple

from .layouts import Values

Totals = dict[int, float]
"""Merged values by slot. A slot is what all values that are merged into one have in common."""
Merge = Callable[[float, float], float]


def _last(_: float, value: float) -> float:
    return value


def _most_recent(_: float, value: float) -> float:
    raise NotImplementedError("only the timestamps tell")


MERGES: Final[Mapping[str, Merge]] = {
    "sum": operator.add,
    "min": min,  # like prometheus_client's comparisons, these two keep the first one where neither is less
    "max": max,
    "all": _last,
    "mostrecent": _most_recent,
}
"""What is made of a value and the next one, by the mode of a gauge; all that is no gauge is added."""


class Step(NamedTuple):
    """Where the values of a file go that are merged in one way."""

    merge: Merge
    slots: Sequence[int]
    positions: Sequence[int] | None
    """Which values of the file these are; None if all."""
    distinct: bool
    """No two of them go to the same slot."""

    def run(self, files: Iterable[Values], totals: Totals, stamps: Totals) -> None:
        """Merges the values of these files, one after the other, into the totals."""
        if self.merge is _most_recent:
            for file in files:
                self._keep_most_recent(self._take(file.values), self._take(file.timestamps), totals, stamps)
        elif self.distinct:
            self._add_columns([self._take(file.values) for file in files], totals)
        else:
            for file in files:
                self._add_values(self._take(file.values), totals)

    def _take(self, numbers: Sequence[float]) -> Sequence[float]:
        if self.positions is None or not numbers:
            return numbers
        return [numbers[at] for at in self.positions]

    def _add_columns(self, columns: Sequence[Sequence[float]], totals: Totals) -> None:
        first = repeat(0.0) if self.merge is operator.add else columns[0]
        merged = list(map(totals.setdefault, self.slots, first))
        for column in columns:
            merged = list(map(self.merge, merged, column))
        totals.update(zip(self.slots, merged, strict=True))

    def _add_values(self, values: Sequence[float], totals: Totals) -> None:
        for slot, value in zip(self.slots, values, strict=True):
            before = totals.get(slot, 0.0 if self.merge is operator.add else value)
            totals[slot] = self.merge(before, value)

    def _keep_most_recent(
        self, values: Sequence[float], timestamps: Sequence[float], totals: Totals, stamps: Totals
    ) -> None:
        for slot, value, stamp in zip(self.slots, values, timestamps, strict=False):  # only gauges have timestamps
            if stamps.get(slot, 0.0) < stamp:
                totals[slot] = value
                stamps[slot] = stamp
