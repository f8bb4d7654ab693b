"""Where a worker's numbers go: label values to cells of its slot, within fixed bounds.

No method here locks. With more than one thread the callers hold ``lock`` around every call and every store.
"""

from __future__ import annotations

from typing import Any, Final

from ..native import new_reentrant_lock
from ..scoreboard.directory import clean_label
from ..scoreboard.families import (
    ERROR_HANDLING,
    EXPORTER_ERRORS,
    FAILED,
    INVALID,
    OTHER,
    OVERFLOWED,
    REQUESTS,
    UNKNOWN_SIZE,
    UNMATCHED,
    Family,
)
from ..scoreboard.layout import CELLS_AT
from ..scoreboard.slot import Slot, SlotFull, SlotWriter

METHODS: Final = frozenset(
    (
        *("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"),
        *("PROPFIND", "PROPPATCH", "MKCOL", "COPY", "MOVE", "LOCK", "UNLOCK"),
    )
)
"""RFC 9110's, PATCH, and WebDAV's; any other is ``<other>``."""

MAX_ERROR_TYPES: Final = 100
RESERVE: Final = 16384
"""Bytes of the directory and number of cells kept for the series that must always find room."""


class Recorder:
    """The write side of one worker's slot, in terms of label values.

    Args:
        slot: leased to this worker.
        max_endpoints: how many endpoints this slot may know.

    Raises:
        CorruptDirectory: something else has written into the slot.
    """

    def __init__(self, slot: Slot, max_endpoints: int) -> None:
        self.slot = slot
        self.lock: Any = new_reentrant_lock()
        self.failing: dict[int, tuple[str, str]] = {}
        """Method and endpoint of a request whose exception is on its way to gunicorn, by id of the request."""
        self._writer = SlotWriter(slot, reserve=RESERVE)
        self._caps = {"endpoint": max_endpoints, "error_type": MAX_ERROR_TYPES}
        self._known: dict[str, set[str]] = {"endpoint": {OTHER, UNMATCHED}, "error_type": {OTHER}}
        self._room = {label: cap + len(self._known[label]) for label, cap in self._caps.items()}
        for family in (REQUESTS, FAILED, ERROR_HANDLING, INVALID):
            self._writer.add(family.number, (OTHER,) * len(family.labels), family.cells, essential=True)
            for number, values in self._writer.series:
                if number == family.number:
                    for label, value in zip(family.labels, values, strict=True):
                        if label in self._known:
                            self._known[label].add(value)
        for label in (*self._caps, "series"):
            self._writer.add(OVERFLOWED.number, (label,), 1, essential=True)

    def row(self, method: str, endpoint: str, status: int, request_size: int, response_size: int) -> int:
        """Where the row of requests with these labels starts, among the doubles of the slot; sizes are classes."""
        first = self._cells(REQUESTS, (method, endpoint, str(status), str(request_size), str(response_size)))
        return CELLS_AT // 8 + first

    def count(self, family: Family, *labels: str) -> None:
        """Adds one to a series of a family that has one cell."""
        self.slot.cells[self._cells(family, labels)] += 1.0

    def endpoint(self, value: str) -> str:
        """The value as the label may carry it; ``<other>`` if there are too many already."""
        return self._capped("endpoint", value)

    def error_type(self, value: str) -> str:
        """The value as the label may carry it; ``<other>`` if there are too many already."""
        return self._capped("error_type", value)

    def exporter_error(self, where: str) -> None:
        """Counts a failure of our own. It takes the lock itself, which whoever failed may hold."""
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
        try:
            return self._writer.add(family.number, labels, family.cells)
        except SlotFull:
            self.count(OVERFLOWED, "series")
        named = zip(family.labels, labels, strict=True)
        folded = tuple(OTHER if name == "endpoint" else value for name, value in named)
        try:
            return self._writer.add(family.number, folded, family.cells, essential=True)
        except SlotFull:
            return self._writer.add(family.number, (OTHER,) * len(labels), family.cells, essential=True)


def method_label(method: str | None) -> str:
    """The label value for a request method; malformed requests have none."""
    return method if method in METHODS else OTHER


assert UNKNOWN_SIZE < 10  # noqa: S101 - a size class is one digit in the directory
