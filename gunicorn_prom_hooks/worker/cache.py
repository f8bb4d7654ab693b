"""What a worker keeps of the requests it has seen, so that the next one like them finds its row at once."""

from __future__ import annotations

from typing import Final

from .recorder import METHODS, Recorder, Row

Rows = dict[int, Row]
"""Rows by kind (see ``kind_of``); of one method and one endpoint or path."""
CACHED_KEYS: Final = 4096
CACHED_KEY: Final = 256
"""Bounds of what is kept: how many endpoints, how many paths, and the length of one."""
NO_ROWS: Final[Rows] = {}
UNKNOWN: Final = NO_ROWS, 0.0
"""What is kept of a path that has not been seen."""


class Cache:
    """What a worker keeps of requests like those it has seen, by method and path, and by method and endpoint."""

    def __init__(self, recorder: Recorder) -> None:
        self.paths: dict[tuple[str, str], tuple[Rows, float]] = {}
        """With what stands for the path in the in-flight table; 0.0: it is written out."""
        self.endpoints: dict[tuple[str, str], Rows] = {}
        self._recorder = recorder

    def keep(self, method: str, path: str, label: str | None, kind: int, row: Row) -> None:
        """Keeps the row of a request whose endpoint was told, ``label``, or made from the path."""
        if method not in METHODS or len(label or path) > CACHED_KEY:
            return
        if label:
            if len(self.endpoints) >= CACHED_KEYS and (method, label) not in self.endpoints:
                self.endpoints.clear()
            self.endpoints.setdefault((method, label), {})[kind] = row
            return
        known = self.paths.get((method, path))
        if known is None:
            if len(self.paths) >= CACHED_KEYS:
                self.paths.clear()
            known = self.paths[method, path] = {}, self._recorder.path(method, path)
        known[0][kind] = row


def kind_of(status: int, request_size: int, response_size: int) -> int:
    """Status and the two size classes as one number; the status itself where both bodies are small or empty."""
    return status + 1000 * request_size + 10000 * response_size
