"""Faults for a real server: a call of the product raises, at its first or a later use, and gunicorn's own calls do not.

The config file of the server calls ``intercept`` before it imports the product. The modules are then loaded with their
seams intercepted. The test arms one seam at a time through a file that all processes of the server have mapped.
"""

from __future__ import annotations

import builtins
import importlib.util
import mmap
import os
import ssl
import struct
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, Final

import psutil

from tests.helpers.seams import INTERCEPT, PRODUCT, instrument

_HEADER: Final = struct.Struct("=IIII")
"""Number of the order, uses before the fault, uses that fail, uses so far."""
_TEXT: Final = slice(16, 1024)
"""Name of the seam and the error, one a line, then zeros."""
_USES_AT: Final = 12
BYTES: Final = 4096
RECORD: Final = "record"
"""The name of an order to write the name of each seam that is used to a file."""
ALWAYS: Final = 2**32 - 1
CONFIG: Final = """
from tests.helpers import faults
faults.intercept(FAULTS)
"""
"""The beginning of the config file of a server; FAULTS stands for the path."""


class Orders:
    """The file through which a test arms a fault, on the test's side.

    Args:
        path: of the file, which is made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._number = 0
        path.write_bytes(bytes(BYTES))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), BYTES)

    @property
    def config(self) -> str:
        """The lines that stand before all others in the config file."""
        return CONFIG.replace("FAULTS", repr(str(self.path)))

    def arm(self, seam: str, error: str, *, before: int = 0, times: int = 1) -> None:
        """Make a seam raise an error.

        Args:
            seam: its name.
            error: as ``raise_error`` takes it.
            before: number of uses that succeed before.
            times: number of uses that fail.
        """
        self._write(f"{seam}\n{error}", before, times)

    def disarm(self) -> int:
        """End the fault. Return the number of times that it was raised."""
        _, before, times, uses = _HEADER.unpack_from(self._memory)
        self._write("", 0, 0)
        return int(min(max(0, uses - before), times))

    @property
    def uses(self) -> int:
        """How often the seam was used since it was armed."""
        return int(_HEADER.unpack_from(self._memory)[3])

    def record(self) -> None:
        """Begin to record the seams that are used."""
        self._recorded.write_bytes(b"")
        self._write(RECORD, 0, 0)

    def recorded(self) -> set[str]:
        """Return the names of the seams that were used since ``record``."""
        return set(self._recorded.read_text().splitlines())

    @property
    def _recorded(self) -> Path:
        return self.path.with_suffix(".recorded")

    def _write(self, text: str, before: int, times: int) -> None:
        self._number += 1
        self._memory[_TEXT] = text.encode().ljust(_TEXT.stop - _TEXT.start, b"\0")
        _HEADER.pack_into(self._memory, 0, self._number, before, times, 0)


class Interceptor:
    """The same file in a process of the server.

    Args:
        path: of the file.
    """

    def __init__(self, path: str) -> None:
        with open(path, "r+b") as file:
            self._memory = mmap.mmap(file.fileno(), BYTES)
        self._recorded = str(Path(path).with_suffix(".recorded"))
        self._number = 0
        self._seam = self._error = ""
        self._seen: set[str] = set()

    def __call__(self, seam: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function, or one that raises in its place."""
        number, before, times, uses = _HEADER.unpack_from(self._memory)
        if number != self._number:
            self._read(number)
        if seam == self._seam:
            self._memory[_USES_AT : _USES_AT + 4] = struct.pack("=I", uses + 1)
            if before <= uses < before + times:
                return _failing(function, self._error)
        elif self._seam == RECORD and seam not in self._seen:
            self._seen.add(seam)
            with open(self._recorded, "a") as file:
                file.write(f"{seam}\n")
        return function

    def _read(self, number: int) -> None:
        text = bytes(self._memory[_TEXT]).rstrip(b"\0").decode()
        self._seam, _, self._error = text.partition("\n")
        self._number = number
        self._seen = set()
        # A failure is logged once a minute: of each fault the first one is to be seen.
        state = sys.modules.get("gunicorn_prom_hooks._state")
        if state is not None and hasattr(state, "errors"):
            state.errors._last.clear()


def raise_error(error: str) -> None:
    """Raise an error: "OSError 24", or the name of a class."""
    name, _, number = error.partition(" ")
    if name == "OSError":
        raise OSError(int(number), os.strerror(int(number)))
    if name == "AccessDenied":
        raise psutil.AccessDenied(os.getpid())
    if name == "NoSuchProcess":
        raise psutil.NoSuchProcess(os.getpid())
    if name == "SSLError":
        raise ssl.SSLError(1, "a fault")
    raise getattr(builtins, name)("a fault")


def _failing(function: Callable[..., Any], error: str) -> Callable[..., Any]:
    def fail(*args: Any, **kwargs: Any) -> None:
        if "close" in getattr(function, "__name__", ""):  # Linux has closed the file even if it reports an error
            function(*args, **kwargs)
        raise_error(error)

    return fail


class _Loader(SourceFileLoader):
    def get_code(self, fullname: str) -> CodeType:
        return compile(instrument(Path(self.path))[0], self.path, "exec", dont_inherit=True)


class _Finder:
    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name.partition(".")[0] != PRODUCT.name:
            return None
        place = PRODUCT.parent.joinpath(*name.split("."))
        is_package = place.is_dir()
        file = str(place / "__init__.py" if is_package else place.with_suffix(".py"))
        return importlib.util.spec_from_file_location(
            name, file, loader=_Loader(name, file), submodule_search_locations=[str(place)] if is_package else None
        )


def intercept(path: str) -> None:
    """Load the product's modules with their seams intercepted, in this process. A second call has no effect."""
    if not hasattr(builtins, INTERCEPT):
        assert PRODUCT.name not in sys.modules
        setattr(builtins, INTERCEPT, Interceptor(path))
        sys.meta_path.insert(0, _Finder)
