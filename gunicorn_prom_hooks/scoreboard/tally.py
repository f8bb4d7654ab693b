"""Adding up slots: what all workers counted, and what one of them did."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain, repeat
from operator import add, sub
from typing import NamedTuple

from .directory import CorruptDirectory, Entry
from .reader import SlotReader

Labels = tuple[str, ...]
Rename = Callable[[int, Labels], Labels]
"""Family number and label values, to the label values they are shown under; always the same ones for the same."""


class Tally:
    """Cells by family number and label values, added up."""

    def __init__(self, rename: Rename) -> None:
        self._rename = rename
        self._families: dict[int, dict[Labels, list[float]]] = {}

    def series(self, family: int) -> dict[Labels, list[float]]:
        """The series of a family: label values to cells."""
        return self._families.get(family, {})

    def add(self, entries: Iterable[Entry], values: Sequence[float]) -> None:
        """Adds one slot's cells, ``values``, which ``entries`` explain. Series that are all zero are left out."""
        for family, labels, first, count in entries:
            cells = list(values[first : first + count])
            if not any(cells):
                continue
            shown = self._rename(family, labels)
            series = self._families.setdefault(family, {})
            known = series.get(shown)
            series[shown] = cells if known is None else list(map(add, known, cells))


class SlotCopy(NamedTuple):
    """What a slot held at one moment.

    Attributes:
        entries: of its directory.
        values: the cells that they speak of.
        error: something else has written into the slot, and this is what came of it.
    """

    entries: Sequence[Entry]
    values: Sequence[float]
    error: CorruptDirectory | None


def copy_slot(reader: SlotReader) -> SlotCopy:
    """What the slot holds now."""
    error = None
    try:
        reader.update()
    except CorruptDirectory as corrupt:
        error = corrupt
    return SlotCopy(list(reader.entries), reader.values(), error)


def tally_all(slots: Iterable[SlotCopy], rename: Rename) -> Tally:
    """All slots added up.

    Raises:
        CorruptDirectory: something else has written into one of them.
    """
    tally = Tally(rename)
    for slot in slots:
        if slot.error is not None:
            raise slot.error
        tally.add(slot.entries, slot.values)
    return tally


def tally_own(slot: SlotCopy, base: Sequence[float], rename: Rename) -> Tally:
    """What the worker that has this slot did itself, ``base`` being what was in it when the worker got it."""
    tally = Tally(rename)
    own = list(map(sub, slot.values, chain(base, repeat(0.0)))) if any(base) else slot.values
    tally.add(slot.entries, own)
    return tally


class EndpointCap:
    """Holds the label ``endpoint`` to so many values over all slots: each worker only knows its own.

    Whoever comes first stays; later ones are shown as ``other`` for ever, so that no series goes backwards.

    Args:
        limit: how many values are shown.
        positions: by family number, where in its label values the endpoint stands.
        exempt: values that are shown besides.
        other: what the others are shown as.
        remember: keep what is shown as ``other``. The same values come again at each scrape, so they are bounded by
            what the slots hold, and are counted in ``folded``. Values that come once, and are added up under what they
            are shown as, are not kept: there may be any number of them.
    """

    def __init__(
        self, limit: int, positions: dict[int, int], exempt: frozenset[str], other: str, *, remember: bool = True
    ) -> None:
        self.limit = limit
        self.folded: set[str] = set()
        self._positions = positions
        self._other = other
        self._exempt = exempt
        self._shown: set[str] = set()
        self._remember = remember

    def __call__(self, family: int, labels: Labels) -> Labels:
        """The label values to show; a ``Rename``."""
        at = self._positions.get(family)
        if at is None or labels[at] in self._shown or labels[at] in self._exempt:
            return labels
        if labels[at] not in self.folded and len(self._shown) < self.limit:
            self._shown.add(labels[at])
            return labels
        if self._remember:
            self.folded.add(labels[at])
        return (*labels[:at], self._other, *labels[at + 1 :])
