"""One file: its keys are parsed once, its values are read each time."""

from __future__ import annotations

import os
import stat
import struct
import time

from .file_names import FileName
from .layouts import FIRST_BYTES, HEADER_BYTES, BadFile, Layout, Layouts, OtherKeys, Values

_USED = struct.Struct("=I")
_READ_AHEAD = 1 << 12
_MOST_USED = 1 << 28
"""More than any process has metrics: it is a broken header, which must not cost that much memory."""
_MOMENT_SECONDS = 5.0
"""How long a file may be without a size: it is made first and gets its size then, at once if the process may run."""
_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
"""With O_NONBLOCK a FIFO without a writer is opened at once."""


class ValuesFile:
    """A file that some process writes while we read it: it only ever appends, and changes numbers in place.

    It is read, not mapped: touching a mapping that another process truncates would end this process.
    """

    def __init__(self, path: str, name: FileName, layouts: Layouts) -> None:
        self.name = name
        self._path = path
        self._layouts = layouts
        self._nothing = layouts.empty(timed=name.typ == "gauge")
        self._layout = self._nothing

    def read(self) -> tuple[Layout, Values]:
        """Return the keys and their current values; none of a file that is just being made.

        Raises:
            BadFile: it cannot be read, or holds something else; nothing of it counts then.
        """
        data = self._data()
        if data is None:
            return self._nothing, Values((), ())
        (used,) = _USED.unpack_from(data)
        try:
            values = self._layout.read(data, used)
        except OtherKeys:  # another file in its place
            self._layout = self._nothing
            values = Values((), ())
        if self._layout.used < used:
            layout = self._layouts.extended(self._layout, data, used)
            if self.name.typ == "histogram" and any(key.is_bucket and key.bound is None for key in layout.keys):
                raise BadFile("a bucket with a bound that is no number")
            values = layout.read(data, used)
            self._layout = layout
        return self._layout, values

    def _data(self) -> bytes | None:
        """Return the used part of the file, and maybe more; None for a file that is just being made."""
        try:
            descriptor = os.open(self._path, _FLAGS)
        except FileNotFoundError:
            if self.name.live:  # they are removed when their process ends
                return None
            raise BadFile("vanished") from None
        except OSError as error:
            raise BadFile(error.strerror or type(error).__name__) from error
        try:
            return self._used_part(descriptor)
        except OSError as error:
            raise BadFile(error.strerror or type(error).__name__) from error
        finally:
            os.close(descriptor)

    def _used_part(self, descriptor: int) -> bytes | None:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise BadFile("no regular file")
        known = self._layout.used
        data = os.pread(descriptor, known + _READ_AHEAD if known > HEADER_BYTES else FIRST_BYTES, 0)
        if not data:
            if time.time() - status.st_mtime > _MOMENT_SECONDS:
                raise BadFile("empty")
            return None
        if len(data) < HEADER_BYTES:
            raise BadFile(f"only {len(data)} bytes")
        (used,) = _USED.unpack_from(data)
        if used == 0:
            return None
        if not HEADER_BYTES <= used <= _MOST_USED:
            raise BadFile(f"{used} bytes used")
        if used > len(data):  # the header was read before the rest, so all of that is there by now
            data += os.pread(descriptor, used - len(data), len(data))
        if used > len(data):
            raise BadFile(f"{used} bytes used, of {len(data)}")
        return data
