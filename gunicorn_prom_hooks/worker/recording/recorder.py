"""The recorder of a worker: from label values to cells of its slot, within fixed bounds.

No method here locks. With more than one thread the callers hold ``lock`` around every call and every store.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, Final

from ...concurrency import new_reentrant_lock
from ...shm.index import Series, clean_label
from ...shm.layout import CELLS_AT
from ...shm.schema import (
    DEFAULT_BUCKETS,
    DURATION_SUM,
    ERROR_HANDLING,
    EXPORTER_ERRORS,
    FAILED,
    FIRST_BUCKET,
    INVALID,
    LEVELS,
    LOG_MESSAGES,
    LOOP_LAG,
    MAX_PATHS,
    OTHER,
    OVERFLOWED,
    PATHS,
    QUEUE,
    REQUESTS,
    RESPONSE_SIZE_SUM,
    UNKNOWN_SIZE,
    UNMATCHED,
    WEBSOCKETS,
    Family,
    size_label,
)
from ...shm.slot import Content, Slot, SlotFull, SlotWriter

METHODS: Final = frozenset(
    (
        *("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"),
        *("PROPFIND", "PROPPATCH", "MKCOL", "COPY", "MOVE", "LOCK", "UNLOCK"),
    )
)
"""RFC 9110's, PATCH, and WebDAV's; any other is ``<other>``."""

METHOD_BYTES: Final = {method: method.encode() for method in METHODS}

MAX_ERROR_TYPES: Final = 100
RESERVE: Final = 16384
"""Bytes of the directory and number of cells kept for the series that must always find room."""


CAPPED: Final = (REQUESTS, FAILED, ERROR_HANDLING, INVALID, WEBSOCKETS)
"""Families with labels of which there is a bounded number of values."""


class Row:
    """A row of requests. The worker, the only one to write it, need not read back what it has written.

    Attributes:
        at: where it starts, among the doubles of the slot.
        seconds: what its cell ``DURATION_SUM`` holds.
        sent: what its cell ``RESPONSE_SIZE_SUM`` holds, in bytes.
        fast: what its first bucket holds.
        done: what the in-flight entry says when a request is about to be counted in the first bucket.
    """

    __slots__ = ("at", "done", "fast", "seconds", "sent")

    def __init__(self, slot: Slot, at: int) -> None:
        self.at = at
        self.seconds = slot.words[at + DURATION_SUM]
        self.sent = slot.words[at + RESPONSE_SIZE_SUM]
        self.fast = slot.words[at + FIRST_BUCKET]
        self.done = -float(at + FIRST_BUCKET)


class Recorder:
    """The write side of one worker's slot, in terms of label values.

    Args:
        slot: leased to this worker.
        max_endpoints: how many endpoints this slot may know.
        known: as of ``SlotWriter``.
        bounds: of the duration buckets.
        size_histograms: whether the sizes of bodies are recorded.
        is_excluded: tells whether requests for a path are not recorded; None if all are.

    Raises:
        CorruptIndex: something else has written into the slot.
    """

    def __init__(
        self,
        slot: Slot,
        max_endpoints: int,
        known: Mapping[int, Series] | None = None,
        bounds: tuple[float, ...] = DEFAULT_BUCKETS.bounds,
        *,
        size_histograms: bool = True,
        is_excluded: Callable[[str], bool] | None = None,
    ) -> None:
        self.slot = slot
        self.bounds = bounds
        self.is_excluded = is_excluded
        self._size_histograms = size_histograms
        self.lock: Any = new_reentrant_lock()
        self.followers: list[Callable[[], None]] = []
        """Called when ``slot`` and ``lock`` have changed, by ``leave_slot``."""
        self.failing: dict[int, tuple[str, str]] = {}
        """Method and endpoint of a request whose exception is on its way to gunicorn, by id of the request."""
        first = first_content(bounds)
        self._writer = writer = SlotWriter(slot, RESERVE, known, first)
        self._rows: dict[int, Row] = {}
        self._caps = {"endpoint": max_endpoints, "error_type": MAX_ERROR_TYPES}
        self._known: dict[str, set[str]] = {"endpoint": {OTHER, UNMATCHED}, "error_type": {OTHER}}
        self._room = {label: cap + len(self._known[label]) for label, cap in self._caps.items()}
        if writer.written > len(first.directory):
            for family in CAPPED:
                for label, values in self._known.items():
                    if label in family.labels:
                        position = family.labels.index(label)
                        values.update(labels[position] for labels in writer.series.get(family.number, ()))
        self._paths = writer.series.setdefault(PATHS.number, {})
        if not writer.begins_with(first):
            add_essential(writer, bounds)
        self._messages = writer.series[LOG_MESSAGES.number]
        self.queue = CELLS_AT // 8 + writer.series[QUEUE.number][()]
        """Where the cells of ``QUEUE`` start, among the doubles of the slot."""
        self.loop_lag = CELLS_AT // 8 + writer.series[LOOP_LAG.number][()]
        """Where the cells of ``LOOP_LAG`` start, among the doubles of the slot."""

    def leave_slot(self) -> None:
        """Record in memory of this process alone, in a process that the worker has forked.

        The application may leave it by an exception or ``sys.exit``, through the server's code, and greenlets of the
        worker have copies there. A slot has one writer: a second one counts in cells that the worker uses for others.

        Raises:
            OSError: there is no memory.
        """
        self.slot = self._writer.slot = Slot(len(self.slot.cells), len(self.slot.directory))
        self.lock = new_reentrant_lock()  # another thread of the worker may have held it
        for follow in self.followers:
            follow()

    def row(self, method: str, endpoint: str, status: int, request_size: int, response_size: int) -> Row:
        """Return the row of requests with these labels; sizes are classes."""
        if not self._size_histograms:
            request_size = response_size = UNKNOWN_SIZE
        # An application may answer with a member of an enumeration: a number with a text of its own.
        labels = method, endpoint, str(int(status)), size_label(request_size), size_label(response_size)
        at = CELLS_AT // 8 + self._cells(REQUESTS, labels)
        row = self._rows.get(at)
        if row is None:
            row = self._rows[at] = Row(self.slot, at)
        return row

    def path(self, method: str, path: str) -> float:
        """Return the ``PATH_REF`` of method and path for the in-flight table; 0.0 if they must be written as text."""
        labels = method, path
        if labels != tuple(map(clean_label, labels)):
            return 0.0
        if labels not in self._paths and len(self._paths) >= MAX_PATHS:
            return 0.0
        try:
            return float(CELLS_AT // 8 + self._writer.add(PATHS.number, labels, PATHS.cells))
        except SlotFull:
            return 0.0

    def message(self, level: str) -> None:
        """Count a log message, with the lock held: any code may log."""
        with self.lock:
            self.slot.cells[self._messages[level,]] += 1.0

    def count(self, family: Family, *labels: str) -> None:
        """Add one to a series of a family that has one cell."""
        self.slot.cells[self._cells(family, labels)] += 1.0

    def place(self, family: Family, *labels: str) -> int:
        """Return the first cell of a series, among the cells of the slot."""
        return self._cells(family, labels)

    def endpoint(self, value: str) -> str:
        """Return the value as the label may carry it; ``<other>`` if there are too many already."""
        return self._capped("endpoint", value)

    def error_type(self, value: str) -> str:
        """Return the value as the label may carry it; ``<other>`` if there are too many already."""
        return self._capped("error_type", value)

    def exporter_error(self, where: str) -> None:
        """Count a failure of this package, with the lock held, which the failed code may hold already."""
        with self.lock:
            self.slot.cells[self._writer.add(EXPORTER_ERRORS.number, (where,), 1, essential=True)] += 1.0

    def _capped(self, label: str, value: str) -> str:
        known = self._known[label]
        if value in known:
            return value
        value = clean_label(value)
        if value in known:
            return value
        if len(known) < self._room[label]:
            known.add(value)
            return value
        self.count(OVERFLOWED, label)
        return OTHER

    def _cells(self, family: Family, labels: tuple[str, ...]) -> int:
        cells = family.width(self.bounds)
        try:
            return self._writer.add(family.number, labels, cells)
        except SlotFull:
            self.count(OVERFLOWED, "series")
        named = zip(family.labels, labels, strict=True)
        folded = tuple(OTHER if name == "endpoint" else value for name, value in named)
        try:
            return self._writer.add(family.number, folded, cells, essential=True)
        except SlotFull:
            return self._writer.add(family.number, (OTHER,) * len(labels), cells, essential=True)


def add_essential(writer: SlotWriter, bounds: Sequence[float]) -> None:
    """Add the series that every slot has, so that what finds no room is counted under ``<other>``."""
    for family in CAPPED:
        writer.add(family.number, (OTHER,) * len(family.labels), family.width(bounds), essential=True)
    for label in ("endpoint", "error_type", "series"):
        writer.add(OVERFLOWED.number, (label,), 1, essential=True)
    for level in LEVELS:
        writer.add(LOG_MESSAGES.number, (level,), 1, essential=True)
    writer.add(QUEUE.number, (), QUEUE.width(bounds), essential=True)
    writer.add(LOOP_LAG.number, (), LOOP_LAG.cells, essential=True)


@cache
def first_content(bounds: tuple[float, ...]) -> Content:
    """Return what a slot begins with: the series that every slot has.

    First called in the master: so no worker runs the code that makes them, whose memory it would have to copy.
    """
    writer = SlotWriter(Slot(RESERVE, RESERVE), now=float)
    add_essential(writer, bounds)
    return writer.content()


def method_label(method: str | None) -> str:
    """Return the label value of a request method; malformed requests have none."""
    return method if method in METHODS else OTHER
