"""Sums over slots: what all workers counted, and what one worker counted."""

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
from .index import CorruptIndex, Series, SeriesIndex
from .schema import PER_WORKER, REQUESTS

if TYPE_CHECKING:
    from .reader import SlotReader

MADV_WIPEONFORK: Final = 18
"""Linux's value; the module ``mmap`` has no name for it."""


class Summary(NamedTuple):
    """The counts in one slot that are also exposed per worker.

    Attributes:
        requests: the sum of all request rows, cell by cell; empty if there is no row.
        cells: by number of each family in ``PER_WORKER``, the cells of all its series, one after the other.
    """

    requests: Sequence[float]
    cells: Mapping[int, Sequence[float]]


class WorkerTotals(NamedTuple):
    """What one worker counted, without its predecessors in the slot.

    Attributes:
        requests: the sum of its request rows, cell by cell; empty if there is no row.
        tally: the families in ``PER_WORKER``.
    """

    requests: Sequence[float]
    tally: Tally


def column_sums(rows: array[float], columns: int) -> list[float]:
    """Return the sum of each column of a table whose rows are stored one after the other.

    The first column may hold fractions, all others hold whole numbers. Fractions are added without intermediate
    rounding. So a sum of numbers that only grow never shrinks.
    """
    zeros = bytes(8 * len(rows) // columns)
    sums = []
    for number in range(columns):
        column = rows[number::columns]
        if column.tobytes() == zeros:  # true for most buckets of most rows
            sums.append(0.0)
        else:
            sums.append(sum(column) if number else fsum(column))
    return sums


def summarize(series: Mapping[int, Series], slot: memoryview) -> Summary:
    """Return the per-worker counts of a slot.

    Args:
        series: of the slot, by family number.
        slot: all cells of the slot, as bytes.
    """
    requests = series.get(REQUESTS.number)
    return Summary(
        () if requests is None else array("d", column_sums(requests.read(slot), requests.cells)),
        {family.number: series[family.number].read(slot) for family in PER_WORKER if family.number in series},
    )


class SlotsCopy:
    """A copy of all slots at one moment. Made with the fork lock held; its methods need no lock.

    Leased slots are copied. Free slots do not change, and are read when they are added up.

    Args:
        readers: of all slots, by number.
        live: numbers of the leased slots.
        index: of the series in all slots.
        error: raised by ``totals``: something else has written into a slot.
    """

    def __init__(
        self, readers: Sequence[SlotReader], live: Sequence[int], index: SeriesIndex, error: CorruptIndex | None
    ) -> None:
        self.error = error
        self._locations = index.locations()
        self._slots = [reader.slot for reader in readers]
        self._cells = [reader.cells for reader in readers]
        self._series = {number: readers[number].copy_series() for number in live}
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
            CorruptIndex: something else has written into one of them.
        """
        if self.error is not None:
            raise self.error
        tally = Tally(rename)
        for family, labels, location, length in self._locations:
            cells = column_sums(location.read(self._cells, length), location.cells)
            tally.add(family, labels, cells, location.since)
        for slot in self._slots:
            slot.release_pages()
        return tally

    def of_worker(self, number: int, baseline: Summary, rename: Rename) -> WorkerTotals:
        """Return what the worker counted that has a slot.

        Args:
            number: of the slot.
            baseline: what was in the slot when it was leased.
            rename: from recorded to shown label values.
        """
        series = self._series[number]
        now = summarize(series, self._cells[number])
        tally = Tally(rename)
        for family, cells in now.cells.items():
            rows = zip(*[_difference(cells, baseline.cells.get(family, ()))] * series[family].cells, strict=True)
            for labels, row, since in zip(series[family].labels, rows, series[family].since, strict=True):
                tally.add(family, labels, row, since)
        return WorkerTotals(list(_difference(now.requests, baseline.requests)), tally)


def _difference(now: Sequence[float], before: Sequence[float]) -> Iterator[float]:
    return map(sub, now, chain(before, repeat(0.0)))


def _memory(size: int) -> memoryview:
    """Return memory that is returned to the system after use, and that workers forked meanwhile do not inherit."""
    memory = mmap.mmap(-1, max(1, size), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError, AttributeError):  # not available on every system
        memory.madvise(MADV_WIPEONFORK)
    return memoryview(memory)


class EndpointCap:
    """Limits the number of values of the label ``endpoint`` over all slots. Each worker only knows its own values.

    The first values are shown. Later ones are shown as ``other`` from then on, so that no series goes backwards.

    Args:
        limit: number of values that are shown.
        positions: by family number, the position of the endpoint among the label values.
        exempt: values that are always shown, and not counted.
        other: the value that replaces the others.
        remember: keep the replaced values in ``folded``. At a scrape the same values come each time, and the slots
            bound their number. Values that come only once must not be kept: there may be any number of them.
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
        """Return the label values to show; a ``Rename``."""
        position = self._positions.get(family)
        if position is None or labels[position] in self._shown or labels[position] in self._exempt:
            return labels
        if labels[position] not in self.folded and len(self._shown) < self.limit:
            self._shown.add(labels[position])
            return labels
        if self._remember:
            self.folded.add(labels[position])
        return (*labels[:position], self._other, *labels[position + 1 :])
