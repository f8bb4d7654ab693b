"""What a request that is not the usual one is counted under: its endpoint, its row, its failure, its wait."""

from __future__ import annotations

from bisect import bisect_left
from time import time
from typing import Final

from ...paths import normalize_path
from ...shm.schema import DURATION_BUCKETS, FAILED, OTHER, UNMATCHED
from .exceptions import CLIENT_GONE
from .queue_time import waited
from .recorder import Recorder, Row, method_label
from .rows import Cache, kind_of

_UNMATCHED: Final = frozenset({404, 405})
"""What an application answers that has nothing at a path, or nothing for the method."""


class Naming:
    """Off the hot path, for every kind of worker.

    Args:
        recorder: where it is recorded.
        cache: in which the next one like it finds its row.
    """

    def __init__(self, recorder: Recorder, cache: Cache) -> None:
        self._recorder = recorder
        self._cache = cache

    def endpoint(self, path: str, status: int | None, label: str | None) -> str:
        """The label ``endpoint``.

        Args:
            path: of the request.
            status: the application's word, None if it gave none: who hangs up on a 404 has asked for nothing that
                there is, either.
            label: what the user or the framework calls it, if they do.
        """
        if label:
            return self._recorder.endpoint(label)
        if status in _UNMATCHED:
            return UNMATCHED
        return self._recorder.endpoint(normalize_path(path))

    def row(
        self,
        method: str,
        path: str,
        status: int | None,
        label: str | None,
        kind: tuple[int, int, int],
        *,
        keep: bool = True,
    ) -> Row:
        """The row of a request of this kind: status as the client saw it, and the two size classes.

        Args:
            method: of the request.
            path: of the request.
            status: as of ``endpoint``.
            label: as of ``endpoint``.
            kind: of the request.
            keep: whether the next one like it is to find the row by itself.
        """
        endpoint = self.endpoint(path, status, label)
        row = self._recorder.row(method_label(method), endpoint, *kind)
        # What a scanner sends is not kept: it must not push out what real clients ask for again and again. Nor is what
        # its client did not wait for: of the next one like it the application may have said something else.
        if keep and endpoint not in (UNMATCHED, OTHER) and kind[0] != CLIENT_GONE:
            self._cache.keep(method, path, label, kind_of(*kind), row)
        return row

    def failed(self, method: str, path: str, status: int | None, label: str | None, error_type: str) -> tuple[str, str]:
        """Counts a failure; the method and endpoint that it was counted under."""
        known, endpoint = method_label(method), self.endpoint(path, status, label)
        self._recorder.count(FAILED, known, endpoint, self._recorder.error_type(error_type))
        return known, endpoint

    def queued(self, stamp: str, duration: float) -> None:
        """Counts how long a request had waited that took so many seconds, by the proxy's word."""
        seconds = waited(stamp, time() - duration)
        if seconds is not None:
            words, queue = self._recorder.slot.words, self._recorder.queue
            words[queue] += seconds
            words[queue + 1 + bisect_left(DURATION_BUCKETS, seconds)] += 1.0
