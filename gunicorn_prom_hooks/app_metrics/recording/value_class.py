"""What prometheus_client makes metrics of: a number in the memory of its process, added up in a file beside it.

A process reads of its metrics what it would read without us. Other processes' counts are in the files only.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from typing import Any, Final

from prometheus_client import values
from prometheus_client.mmap_dict import mmap_key

from ...settings import announce_directory, named_directory
from .mapped_file import Cell
from .store import NOT_OPEN, Store

_pack: Final = struct.Struct("=dd").pack


def value_class(store: Store, named: str = "", warn: Callable[[str], None] = lambda _: None) -> type:
    """Return the class of which prometheus_client is to make values.

    A metric is made when the application is imported, and an exception there would end the server.

    Args:
        store: keeps the values.
        named: the directory that the environment names. Where the store is in a private one, and the application
            names another one later, its metrics are prometheus_client's own, as without this package.
        warn: called with the path of that directory, once in each process.
    """
    shared = store.place.shared
    standard: list[Any] = []

    class Value:
        """One value."""

        __slots__ = ("__weakref__", "_exemplar", "_generation", "_is_gauge", "_own", "cell", "group", "key")

        _multiprocess = True

        def __new__(cls, *args: Any, **keywords: Any) -> Any:
            """Make a value of prometheus_client's own where the application has named a directory since the start."""
            path = "" if store.announced else named_directory()
            if path in ("", named) or not os.path.isdir(path):
                return super().__new__(cls)
            if not standard:
                standard.append(values.MultiProcessValue())  # type: ignore[no-untyped-call]
                warn(path)
            return standard[0](*args, **keywords)

        def __init__(
            self,
            typ: str,
            metric_name: str,
            name: str,
            labelnames: Any,
            labelvalues: Any,
            help_text: str,
            multiprocess_mode: str = "",
            **_: Any,
        ) -> None:
            if store.announced:
                announce_directory(store.place.refresh())
            self.cell = NOT_OPEN
            self.key = mmap_key(metric_name, name, labelnames, labelvalues, help_text).encode()
            self._own = 0.0
            self._exemplar: Any = None
            self._generation = store.generation
            self._is_gauge = typ == "gauge"
            is_bucket = typ == "histogram" and "le" in labelnames
            last = is_bucket and labelvalues[-1] == "+Inf"
            if typ != "histogram":
                last = typ != "summary" or name.endswith("_sum")
            metric = (metric_name, *(labelvalues[:-1] if is_bucket else labelvalues))
            kind = f"{typ}_{multiprocess_mode}" if self._is_gauge else typ
            self.group = store.add(self, metric, kind, last=last)

        def enter(self, cell: Cell) -> None:
            """Continue in this cell."""
            self.cell = cell
            if self._generation != store.generation:
                self._generation = store.generation
                if store.announced:
                    self._own = 0.0

        def inc(self, amount: float) -> None:
            """Add an amount."""
            with store.lock:
                if shared[0] != store.seen:
                    store.renew()
                cell = self.cell
                total = cell.total + amount
                try:
                    cell.memory[cell.start : cell.end] = _pack(total, 0.0)
                except ValueError:
                    store.attach(self.group)
                    cell = self.cell
                    total = cell.total + amount
                    cell.memory[cell.start : cell.end] = _pack(total, 0.0)
                cell.total = total
                self._own += amount

        def set(self, value: float, timestamp: float | None = None) -> None:
            """Set the value. A counter that is reset gives up the counts of this process only."""
            with store.lock:
                if shared[0] != store.seen:
                    store.renew()
                cell = self.cell
                total = value if self._is_gauge else cell.total + value - self._own
                try:
                    cell.memory[cell.start : cell.end] = _pack(total, timestamp or 0.0)
                except ValueError:
                    store.attach(self.group)
                    cell = self.cell
                    total = value if self._is_gauge else cell.total + value - self._own
                    cell.memory[cell.start : cell.end] = _pack(total, timestamp or 0.0)
                cell.total = total
                self._own = value

        def get(self) -> float:
            """Return the value that this process has counted or set."""
            if store.announced and self._generation != store.generation:
                return 0.0
            return self._own

        def set_exemplar(self, exemplar: Any) -> None:
            """Keep the exemplar, in this process only."""
            self._exemplar = exemplar

        def get_exemplar(self) -> Any:
            """Return the exemplar of this process."""
            return self._exemplar

    return Value
