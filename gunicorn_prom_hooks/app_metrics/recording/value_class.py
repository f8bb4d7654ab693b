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
from .cell import NOT_OPEN, Cell, write
from .store import Store

_pack: Final = struct.Struct("=dd").pack


def value_class(
    store: Store, is_configured: Callable[[str], bool] = lambda _: False, named: Callable[[str], None] = lambda _: None
) -> type:
    """Return the class of which prometheus_client is to make values.

    A metric is made when the application is imported, and an exception there would end the server. It is made and
    changed with locks of prometheus_client held, so nothing is logged here.

    A change may come within another one of the same value, in the same thread: from a signal handler, or from
    a finalizer when the garbage collector runs. So both numbers are changed without a call in between, and what is then
    stored is stored again if it has changed meanwhile.

    Args:
        store: keeps the values.
        is_configured: returns whether gunicorn is configured to use this directory. Where the application names another
            one, its metrics are prometheus_client's own, as without this package.
        named: called with the path of that directory, once in each process.
    """
    shared = store.place.shared
    standard: list[Any] = []

    def is_own(path: str) -> bool:
        """Return whether the application has named this directory, and not gunicorn's configuration."""
        if path == store.place.path or not path or is_configured(path) or not os.path.isdir(path):
            return False
        return not _is_same(path, store.place.path)

    class Value:
        """One value."""

        __slots__ = ("__weakref__", "_exemplar", "_generation", "_is_gauge", "_own", "cell", "group", "key")

        _multiprocess = True

        def __new__(cls, *args: Any, **keywords: Any) -> Any:
            """Make a value of prometheus_client's own where the application has named a directory since the start."""
            path = named_directory()
            if not is_own(path):
                return super().__new__(cls)
            if not standard:
                standard.append(values.MultiProcessValue())  # type: ignore[no-untyped-call]
                named(path)
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
            metric_name, name, help_text = _text(metric_name), _text(name), _text(help_text)
            labelnames, labelvalues = list(map(_text, labelnames)), list(map(_text, labelvalues))
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
            """Continue in this cell, with what was counted or set while there was no room in a file."""
            before = self.cell
            if self._generation != store.generation:
                self._generation = store.generation
                if store.announced:
                    self._own = 0.0
                self.cell = cell
            elif before.kept is None or before is cell:
                self.cell = cell
            elif not self._is_gauge:
                cell.total += before.total
                self.cell = cell
                write(cell, 0.0)
            elif before.kept.timestamp or before.kept.start is not before.total:
                cell.total = before.total
                self.cell = cell
                write(cell, before.kept.timestamp)
            else:
                self.cell = cell

        def to_keep(self) -> float:
            """Return the number with which to begin where there is no file: of a gauge, the one that is in its file."""
            cell = self.cell
            is_in_file = self._is_gauge and self._generation == store.generation and cell is not NOT_OPEN
            return cell.total if is_in_file and cell.kept is None else 0.0

        def inc(self, amount: float) -> None:
            """Add an amount."""
            with store.lock:
                if shared[0] != store.seen:
                    store.renew()
                generation = self._generation
                cell = self.cell
                before = cell.total
                own = self._own
                total = cell.total = before + amount
                self._own = own + amount
                try:
                    cell.memory[cell.place] = _pack(total, 0.0)
                except ValueError:
                    self._add_again(amount, amount, cell, generation)
                except (struct.error, OverflowError):  # it is no number, or too large: the caller's fault
                    cell.total, self._own = before, own
                    raise
                else:
                    if cell.total is not total:
                        write(cell, 0.0)

        def set(self, value: float, timestamp: float | None = None) -> None:
            """Set the value. A counter that is reset gives up the counts of this process only."""
            with store.lock:
                if shared[0] != store.seen:
                    store.renew()
                generation = self._generation
                cell = self.cell
                before = cell.total
                own = self._own
                total = cell.total = value if self._is_gauge else before + value - own
                self._own = value
                try:
                    cell.memory[cell.place] = _pack(total, timestamp or 0.0)
                except ValueError:
                    if self._is_gauge:
                        self._set_again(value, timestamp or 0.0)
                    else:
                        self._add_again(value - own, value, cell, generation)
                except (struct.error, OverflowError):
                    cell.total, self._own = before, own
                    raise
                else:
                    if cell.total is not total:
                        write(cell, timestamp or 0.0)

        def get(self) -> float:
            """Return the value that this process has counted or set."""
            if store.announced and self._generation != store.generation:
                return 0.0
            return self._own

        @property
        def _value(self) -> float:
            """The value, under the name that it has in a value of prometheus_client's own, which applications use."""
            return self.get()

        @_value.setter
        def _value(self, value: float) -> None:
            self.set(value)

        @property
        def _lock(self) -> Any:
            """The lock, under the name that it has there."""
            return store.lock

        def set_exemplar(self, exemplar: Any) -> None:
            """Keep the exemplar, in this process only."""
            self._exemplar = exemplar

        def get_exemplar(self) -> Any:
            """Return the exemplar of this process."""
            return self._exemplar

        def _add_again(self, amount: float, from_zero: float, cell: Cell, generation: int) -> None:
            """Add an amount that this process has counted already, once more to the page.

            Args:
                amount: to add.
                from_zero: the amount instead, where the process begins to count at 0.
                cell: the one without a file, to which the amount was added.
                generation: of the value then.
            """
            if cell.kept is None:
                cell.total -= amount
            try:
                store.attach(self.group, self)
            except BaseException:  # from a signal handler of the application
                if self._generation == generation:
                    self._own -= amount
                    if cell.kept is not None and self.cell is cell:
                        cell.total -= amount
                raise
            if self._generation == generation:
                if cell.kept is not None:
                    amount = 0.0  # the first cell after that one has taken it over
            elif store.announced:
                amount = from_zero
                self._own += from_zero
            cell = self.cell
            cell.total += amount
            write(cell, 0.0)

        def _set_again(self, value: float, timestamp: float) -> None:
            store.attach(self.group, self)
            cell = self.cell
            cell.total = self._own = value
            write(cell, timestamp)

    return Value


def _text(value: Any) -> str:
    """Return the text of a name, a label value or a help text. Some are no strings: Django translates them later."""
    try:
        return str.__str__(value if issubclass(type(value), str) else str(value))
    except Exception:  # noqa: BLE001 - the application's own class
        return ""


def _is_same(path: str, other: str) -> bool:
    try:
        return os.path.samefile(path, other)
    except OSError:
        return path == other
