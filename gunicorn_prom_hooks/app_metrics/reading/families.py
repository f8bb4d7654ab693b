"""A family while files are merged: which slot belongs to which of its samples, and the samples in the end."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate

from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Sample
from prometheus_client.utils import floatToGoString

from .columns import Totals
from .keys import Key, Labels


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
        self._slots: list[tuple[list[int], list[int]]] = []
        """Of the samples: slots of plain values, then of buckets; behind the last bucket is a count."""

    def slot(self, key: Key, labels: Labels, new: int) -> int:
        """The slot that this key's values go to; ``new`` if it has none yet."""
        if self.typ == "histogram" and key.bound is not None:
            without_le = tuple(label for label in labels if label[0] != "le")
            return self._buckets.setdefault(without_le, {}).setdefault(key.bound, new)
        return self._plain.setdefault(labels, {}).setdefault(key.name, new)

    def complete(self) -> None:
        """Prepares the samples; all slots are known."""
        for labels in {**self._plain, **self._buckets}:
            plain = dict(self._plain.get(labels, {}))
            buckets = dict(sorted(self._buckets.get(labels, {}).items()))
            names = [(name, labels) for name in plain]
            if buckets:  # they tell the count, whatever a file says
                if plain.pop(f"{self._name}_count", None) is not None:
                    names.remove((f"{self._name}_count", labels))
                bounds = map(floatToGoString, buckets)
                names += [(f"{self._name}_bucket", (*labels, ("le", bound))) for bound in bounds]
                names.append((f"{self._name}_count", labels))
            self._slots.append((list(plain.values()), list(buckets.values())))
            for name, its_labels in names:
                self._names.append(name)
                self._labels.append(dict(its_labels))

    def metric(self, totals: Totals) -> Metric:
        """The family with these values; a sample whose slot has none is left out."""
        family = Metric(self._name, self._documentation, self.typ)
        family.samples = [
            Sample(name, labels.copy(), value)
            for name, labels, value in zip(self._names, self._labels, self._values(totals), strict=True)
            if value is not None
        ]
        return family

    def _values(self, totals: Totals) -> Iterator[float | None]:
        for plain, buckets in self._slots:
            yield from map(totals.get, plain)
            if buckets:
                counts = list(accumulate(totals[bucket] for bucket in buckets))
                yield from counts
                yield counts[-1]
