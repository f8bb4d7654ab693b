"""Adding up slots: what all workers counted, and what one of them did."""

from __future__ import annotations

import contextlib
import mmap
from array import array
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, repeat
from math import fsum
from operator import sub
from typing import TYPE_CHECKING, Final, NamedTuple

from ..model.counts import Labels, Rename, Tally
from .index import CorruptIndex, Index, Series
from .schema import PER_WORKER, REQUESTS

if TYPE_CHECKING:
    from .reader import SlotReader

MADV_WIPEONFORK: Final = 18
"""Linux's; the module ``mmap`` has no name for it."""


class Summary(NamedTuple):
    """What was counted in one slot, as far as it is shown for single workers.

    Attributes:
        requests: the rows of all requests added up, cell by cell; empty if there is no row.
        cells: of each family in ``PER_WORKER``, those of all its series, one behind the other.
    """

    requests: Sequence[float]
    cells: Mapping[int, Sequence[float]]


class Own(NamedTuple):
    """What a worker did itself.

    Attributes:
        requests: the rows of all its requests added up, cell by cell.
        tally: the families in ``PER_WORKER``.
    """

    requests: Sequence[float]
    tally: Tally


def columns_added(rows: array[float], columns: int) -> list[float]:
    """Return the sum of each column of a table whose rows stand one behind the other.

    The first column may hold fractions, all others hold whole numbers. Fractions are added without rounding in between,
    so that a sum of numbers that only grow never shrinks.
    """
    nothing = bytes(8 * len(rows) // columns)
    sums = []
    for number in range(columns):
        column = rows[number::columns]
        if column.tobytes() == nothing:  # as most buckets of most rows are
            sums.append(0.0)
        else:
            sums.append(sum(column) if number else fsum(column))
    return sums


def summarize(series: Mapping[int, Series], slot: memoryview) -> Summary:
    """Return what these cells of a slot hold, as bytes, which the series explain."""
    requests = series.get(REQUESTS.number)
    return Summary(
        () if requests is None else array("d", columns_added(requests.read(slot), requests.cells)),
        {family.number: series[family.number].read(slot) for family in PER_WORKER if family.number in series},
    )


class SlotsCopy:
    """All slots at one moment. To be made with the master's lock held; what is made of it needs no lock.

    Slots of workers are copied. In those that are free nothing is counted: these are looked at when they are added up.

    Args:
        readers: of all slots, by number.
        live: numbers of the slots that workers have.
        index: of all slots.
        error: something else has written into a slot, and this is what came of it.
    """

    def __init__(
        self, readers: Sequence[SlotReader], live: Sequence[int], index: Index, error: CorruptIndex | None
    ) -> None:
        self.error = error
        self._places = index.captured()
        self._slots = [reader.slot for reader in readers]
        self._cells = [reader.cells for reader in readers]
        self._series = {number: readers[number].captured() for number in live}
        copied = _memory(sum(len(self._cells[number]) for number in live))
        at = 0
        for number in live:
            cells = self._cells[number]
            copy = copied[at : at + len(cells)]
            copy[:] = cells
            self._cells[number] = copy
            at += len(cells)

    def totals(self, rename: Rename) -> Tally:
        """Return the sum over all slots.

        Raises:
            CorruptDirectory: something else has written into one of them.
        """
        if self.error is not None:
            raise self.error
        tally = Tally(rename)
        for family, labels, place, length in self._places:
            tally.add(family, labels, columns_added(place.read(self._cells, length), place.cells))
        for slot in self._slots:
            slot.let_go()
        return tally

    def own(self, number: int, base: Summary, rename: Rename) -> Own:
        """Return what the worker did that has this slot, ``base`` being what was in it when the worker got it."""
        series = self._series[number]
        now = summarize(series, self._cells[number])
        tally = Tally(rename)
        for family, cells in now.cells.items():
            rows = zip(*[_less(cells, base.cells.get(family, ()))] * series[family].cells, strict=True)
            for labels, own in zip(series[family].labels, rows, strict=True):
                tally.add(family, labels, own)
        return Own(list(_less(now.requests, base.requests)) or [0.0] * REQUESTS.cells, tally)


def _less(now: Sequence[float], before: Sequence[float]) -> Iterator[float]:
    return map(sub, now, chain(before, repeat(0.0)))


def _memory(size: int) -> memoryview:
    """Return memory that goes back to the system after use, and that no worker forked meanwhile inherits."""
    memory = mmap.mmap(-1, max(1, size), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError, AttributeError):  # not on every system
        memory.madvise(MADV_WIPEONFORK)
    return memoryview(memory)


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
