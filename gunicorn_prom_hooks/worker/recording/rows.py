"""What a worker keeps of the requests it has seen, so that the next one like them finds its row at once."""

from __future__ import annotations

from typing import Final

from .recorder import METHODS, Recorder, Row

Rows = dict[int, Row]
"""Rows by kind (see ``kind_of``); of one method and one endpoint or path."""
CACHED_KEYS: Final = 4096
CACHED_KEY: Final = 256
"""Bounds of what is kept: how many endpoints, how many paths, and the length of one."""
FAILURE: Final = 10**12
"""What the kind of a 5xx has in addition."""
NO_ROWS: Final[Rows] = {}


class Cache:
    """What a worker keeps of requests like those it has seen, by method and path, and by method and endpoint."""

    def __init__(self, recorder: Recorder) -> None:
        self.paths: dict[str, dict[str, tuple[Rows, float]]] = {}
        """By path, then method, with what stands for both in the in-flight table; 0.0: they are written out."""
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
            if len(path) <= CACHED_KEY:
                self._rows_of_path(method, path)  # that it has a number saves writing it out
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
    """Status and the two size classes as one number; the status alone where both bodies are small and it is no 5xx.

    A 5xx has more to be done about it than its row: whoever looks for the row of a plain status must not find it.
    """
    return status + 10**10 * request_size + 10**11 * response_size + (FAILURE if status >= 500 else 0)
