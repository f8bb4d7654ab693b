"""Rows of requests: the cache that finds the row of a request at once, and the function that stores a request in it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Final

from ...shm.layout import EXPECTED_COUNT
from ...shm.schema import FIRST_BUCKET, RESPONSE_SIZE_SUM, SIZE_BUCKETS
from ...shm.slot import Slot
from .recorder import METHODS, Recorder, Row

SMALL: Final = SIZE_BUCKETS[0]
"""Bytes. Most responses are no larger."""
Store = Callable[[Row, int, float, int], None]
"""Store a finished request: its row, its in-flight entry, its duration in seconds, bytes of the response's body."""

Rows = dict[int, Row]
"""Rows by kind, see ``kind_of``, of one method and one endpoint or path."""
CACHED_KEYS: Final = 4096
CACHED_KEY: Final = 256
"""Bounds of the cache: number of endpoints, number of paths, and length of one of them."""
FAILURE: Final = 10**12
"""Added to the kind of a 5xx."""
NO_ROWS: Final[Rows] = {}


class Cache:
    """Rows of recent requests, by method and path, and by method and endpoint."""

    def __init__(self, recorder: Recorder) -> None:
        self.paths: dict[str, dict[str, tuple[Rows, float]]] = {}
        """By path, then by method: rows and the in-flight entry's ``PATH_REF``. 0.0: the entry has them as text."""
        self.endpoints: dict[tuple[str, str], Rows] = {}
        self._recorder = recorder

    def keep(self, method: str, path: str, label: str | None, kind: int, row: Row) -> None:
        """Keep the row of a request.

        Args:
            method: of the request.
            path: of the request.
            label: its endpoint, from the user or the framework; None if the endpoint was made from the path.
            kind: see ``kind_of``.
            row: to be found by the next request of this kind.
        """
        if method not in METHODS or len(label or path) > CACHED_KEY:
            return
        is_excluded = self._recorder.is_excluded
        if is_excluded is not None and is_excluded(path):
            return  # the application has changed the path: a request that comes with this one is left out
        if label:
            if len(self.endpoints) >= CACHED_KEYS and (method, label) not in self.endpoints:
                self.endpoints.clear()
            self.endpoints.setdefault((method, label), {})[kind] = row
            if len(path) <= CACHED_KEY:
                self._rows_of_path(method, path)  # with a PATH_REF the path need not be written as text
        else:
            self._rows_of_path(method, path)[kind] = row

    def _rows_of_path(self, method: str, path: str) -> Rows:
        methods = self.paths.get(path)
        if methods is None:
            if len(self.paths) >= CACHED_KEYS:
                self.paths.clear()
            methods = self.paths[path] = {}
        if method not in methods:
            methods[method] = {}, self._recorder.path(method, path)
        return methods[method][0]


def kind_of(status: int, request_size: int, response_size: int) -> int:
    """Return status and both size classes as one number.

    It is the status alone where both bodies are small and the status is below 500. A 5xx is also a failure, to be
    counted on the slow path: a lookup by its plain status finds nothing.
    """
    return status + 10**10 * request_size + 10**11 * response_size + (FAILURE if status >= 500 else 0)


def make_store(slot: Slot, bounds: Sequence[float]) -> Store:
    """Return the function that stores a finished request, for all kinds of workers.

    A closure: its variables are the quickest to reach. No other code stores requests.

    Args:
        slot: the memory.
        bounds: of the duration buckets.
    """
    words, fast = slot.words, bounds[0]

    def store(row: Row, at: int, duration: float, sent: int) -> None:
        first = row.at
        if sent:
            words[first + RESPONSE_SIZE_SUM] = row.sent = row.sent + sent
        words[first] = row.seconds = row.seconds + duration
        # The order of these three stores is part of the layout: from the second one on the request is answered, no
        # longer in progress, and sure to be counted, by the master if the worker is killed before the third.
        if duration <= fast:
            row.fast = count = row.fast + 1.0
            words[at + EXPECTED_COUNT] = count
            words[at] = row.done
            words[first + FIRST_BUCKET] = count
            return
        cell = first + FIRST_BUCKET + bisect_left(bounds, duration)
        count = words[cell] + 1.0
        words[at + EXPECTED_COUNT] = count
        words[at] = -float(cell)
        words[cell] = count

    return store
