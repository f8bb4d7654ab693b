"""The values of many files merged, whole columns at a time, and the samples that they become."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, repeat
from typing import Final, NamedTuple

from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Sample
from prometheus_client.utils import floatToGoString

from .layouts import Key, Labels, Values

Totals = dict[int, float]
"""Merged values by target, a number. All values with the same target are merged into one."""
Merge = Callable[[float, float], float]


def _last(_: float, value: float) -> float:
    return value


def _most_recent(_: float, value: float) -> float:
    raise NotImplementedError("it needs the timestamps")


MERGES: Final[Mapping[str, Merge]] = {
    "sum": operator.add,
    "min": min,  # as with prometheus_client's comparisons, the first of two equal values is kept
    "max": max,
    "all": _last,
    "mostrecent": _most_recent,
}
"""The function that merges two values, by the mode of a gauge. All other types are added."""


class Step(NamedTuple):
    """The values of a file that are merged in the same way, and their targets."""

    merge: Merge
    targets: Sequence[int]
    positions: Sequence[int] | None
    """Positions of these values in the file; None: all."""
    distinct: bool
    """No two of them go to the same target."""

    def run(self, files: Iterable[Values], totals: Totals, stamps: Totals) -> None:
        """Merge the values of these files, one after the other, into the totals."""
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
        merged = list(map(totals.setdefault, self.targets, first))
        for column in columns:
            merged = list(map(self.merge, merged, column))
        totals.update(zip(self.targets, merged, strict=True))

    def _add_values(self, values: Sequence[float], totals: Totals) -> None:
        for target, value in zip(self.targets, values, strict=True):
            before = totals.get(target, 0.0 if self.merge is operator.add else value)
            totals[target] = self.merge(before, value)

    def _keep_most_recent(
        self, values: Sequence[float], timestamps: Sequence[float], totals: Totals, stamps: Totals
    ) -> None:
        for target, value, stamp in zip(self.targets, values, timestamps, strict=False):  # only gauges have timestamps
            if stamps.get(target, 0.0) < stamp:
                totals[target] = value
                stamps[target] = stamp


class Family:
    """A family of metrics. Its samples come in the order in which the files have them."""

    def __init__(self, name: str, documentation: str, typ: str, mode: str) -> None:
        self.typ = typ
        self.mode = mode
        self._name = name
        self._documentation = documentation
        self._plain: dict[Labels, dict[str, int]] = {}
        """Slots by labels and name of the sample."""
        self._buckets: dict[Labels, dict[float, int]] = {}
        """Slots of a histogram's buckets by labels, without ``le``, and bound."""
        self._names: list[str] = []
        self._labels: list[dict[str, str]] = []
        self._targets: list[tuple[list[int], list[int]]] = []
        """By labels: targets of the plain values, then of the buckets; the count follows the last bucket."""

    def target(self, key: Key, labels: Labels, new: int) -> int:
        """Return the target of this key's values; ``new`` if it has none yet."""
        if self.typ == "histogram" and key.bound is not None:
            without_le = tuple(label for label in labels if label[0] != "le")
            return self._buckets.setdefault(without_le, {}).setdefault(key.bound, new)
        return self._plain.setdefault(labels, {}).setdefault(key.name, new)

    def complete(self) -> None:
        """Prepare the samples, once all targets are known."""
        for labels in {**self._plain, **self._buckets}:
            plain = dict(self._plain.get(labels, {}))
            buckets = dict(sorted(self._buckets.get(labels, {}).items()))
            names = [(name, labels) for name in plain]
            if buckets:  # the count is computed from the buckets, whatever a file has
                if plain.pop(f"{self._name}_count", None) is not None:
                    names.remove((f"{self._name}_count", labels))
                bounds = map(floatToGoString, buckets)
                names += [(f"{self._name}_bucket", (*labels, ("le", bound))) for bound in bounds]
                names.append((f"{self._name}_count", labels))
            self._targets.append((list(plain.values()), list(buckets.values())))
            for name, its_labels in names:
                self._names.append(name)
                self._labels.append(dict(its_labels))

    def metric(self, totals: Totals) -> Metric:
        """Return the family with these values; a sample whose target has none is left out."""
        family = Metric(self._name, self._documentation, self.typ)
        family.samples = [
            Sample(name, labels.copy(), value)
            for name, labels, value in zip(self._names, self._labels, self._values(totals), strict=True)
            if value is not None
        ]
        return family

    def _values(self, totals: Totals) -> Iterator[float | None]:
        for plain, buckets in self._targets:
            yield from map(totals.get, plain)
            if buckets:
                counts = list(accumulate(totals[bucket] for bucket in buckets))
                yield from counts
                yield counts[-1]
