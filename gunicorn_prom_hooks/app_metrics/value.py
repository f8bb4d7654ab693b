"""A metric's value: in prometheus_client's file as long as that goes well, else in the memory of its process."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from prometheus_client import values

from ..settings import announce_directory

SPARE_BYTES: Final = 1 << 20
"""Room that a disk must have for a file to be made or grown: to write to a mapping with no block behind it kills."""
FIRST_BYTES: Final = 1 << 16
"""The size that prometheus_client gives a new file."""


class NoRoom(OSError):
    """The disk is full, or nearly so."""


def value_class(directory: Callable[[], str], identity: Callable[[], str], failed: Callable[[], None]) -> type:
    """What prometheus_client is to make values of: its own multiprocess ones, as long as there is room for them.

    A metric is made when the application is imported, and an exception there would end the server.

    Args:
        directory: where the files are, whatever the environment has become meanwhile; made again if it is gone.
        identity: of this process.
        failed: books the exception being handled.
    """
    in_file = values.MultiProcessValue(identity)  # type: ignore[no-untyped-call]

    def make(typ: str, *names: Any, mode: str, **more: Any) -> Any:
        folder = directory()
        announce_directory(folder)
        kind = f"{typ}_{mode}" if typ == "gauge" else typ
        path = Path(folder, f"{kind}_{identity()}.db")
        _reserve(path)
        try:
            made = in_file(typ, *names, multiprocess_mode=mode, **more)
        except (RuntimeError, ValueError, PermissionError):
            # Damaged, or another user's; the worker before left it like that.
            os.replace(path, path.with_suffix(".damaged"))
            failed()
            _reserve(path)
            made = in_file(typ, *names, multiprocess_mode=mode, **more)
        _reserve(path)
        return made

    class Value:
        """One value."""

        _multiprocess = True

        def __init__(
            self,
            typ: str,
            metric_name: str,
            name: str,
            labelnames: Any,
            labelvalues: Any,
            help_text: str,
            multiprocess_mode: str = "",
            **more: Any,
        ) -> None:
            names = metric_name, name, labelnames, labelvalues, help_text
            self._in_memory = values.MutexValue(typ, *names, **more)  # type: ignore[no-untyped-call]
            self._value: Any = self._in_memory
            try:
                self._value = make(typ, *names, mode=multiprocess_mode, **more)
            except Exception:  # noqa: BLE001 - the application must be imported for all that
                failed()

        def inc(self, amount: float) -> None:
            """Adds."""
            self._do("inc", amount)

        def set(self, value: float, timestamp: float | None = None) -> None:
            """Sets."""
            self._do("set", value, timestamp)

        def get(self) -> float:
            """The value."""
            return float(self._do("get"))

        def set_exemplar(self, exemplar: Any) -> None:
            """Not kept over processes."""

        def get_exemplar(self) -> None:
            """Not kept over processes."""

        def _do(self, action: str, *arguments: Any) -> Any:
            try:
                return getattr(self._value, action)(*arguments)
            except Exception:  # noqa: BLE001 - in a worker it opens its file only at the first use
                failed()
                self._value = self._in_memory
                return getattr(self._value, action)(*arguments)

    return Value


def _reserve(path: Path) -> None:
    """Sees to it that every byte of the file has room on the disk, and that there is room for more.

    Raises:
        OSError: there is not.
    """
    disk = os.statvfs(path.parent)
    if disk.f_bavail * disk.f_frsize < SPARE_BYTES:
        raise NoRoom(f"no room left in {path.parent}")
    with contextlib.suppress(PermissionError):  # of the worker before; whoever opens it says so
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            size = os.fstat(descriptor).st_size
            if os.fstat(descriptor).st_blocks * 512 < max(size, FIRST_BYTES):
                os.posix_fallocate(descriptor, 0, max(size, FIRST_BYTES))
        finally:
            os.close(descriptor)
