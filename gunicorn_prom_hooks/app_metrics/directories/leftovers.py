"""The files of a directory that may be removed: of prometheus_client's format, and without a writer now."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
from pathlib import Path
from typing import NamedTuple

from ..identity import Owner, owner
from ..reading.file_names import FileName, parse_name
from ..reading.layouts import HEADER_BYTES, BadFile, Layouts

_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
_MOST_BYTES = 1 << 28


class Found(NamedTuple):
    """A file with a name of prometheus_client's or of this package."""

    path: Path
    name: FileName
    owner: Owner


def find(folder: str) -> list[Found]:
    """Return the files whose name ends with an identity of this package or with a number.

    Raises:
        OSError: the directory cannot be read.
    """
    found = []
    for file in os.listdir(folder):
        name = parse_name(file)
        if name is not None and (owned_by := owner(name.identity)).kind is not None:
            found.append(Found(Path(folder, file), name, owned_by))
    return found


def remove(path: Path) -> bool:
    """Remove the file if its content has prometheus_client's format. Return whether it had.

    Raises:
        OSError: the file has the format, and cannot be removed.
    """
    if not is_genuine(path):
        return False
    path.unlink(missing_ok=True)
    return True


def is_genuine(path: Path) -> bool:
    """Return whether the content has prometheus_client's format, or is empty."""
    try:
        data = content_of(path)
    except OSError:
        return False
    if not data.strip(b"\0"):
        return True
    used = int.from_bytes(data[:4], "little")
    if not HEADER_BYTES <= used <= len(data):
        return False
    try:
        layouts = Layouts()
        layouts.extended(layouts.empty(timed=False), data, used)
    except BadFile:
        return False
    return True


def content_of(path: Path) -> bytes:
    """Return the content of the file; a link is not followed.

    Raises:
        OSError: it cannot be read, is no file, or larger than any that prometheus_client writes.
    """
    descriptor = os.open(path, _FLAGS)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > _MOST_BYTES:
            raise OSError("no file of this kind")
        return file.read()


def is_written(path: str | os.PathLike[str]) -> bool | None:
    """Return whether a process of this machine, in whatever container, has the file open or mapped for writing.

    A read lease (``fcntl``, ``F_SETLEASE``) is granted only on a file that no process has open for writing. It is
    released at once.

    Args:
        path: a regular file; a link is not followed.

    Returns:
        None if it is unknown: the file is another user's, or the system or file system has no leases.

    Raises:
        FileNotFoundError: the file is not there.
    """
    take, notify = getattr(fcntl, "F_SETLEASE", None), getattr(fcntl, "F_SETSIG", None)
    try:
        descriptor = os.open(path, _FLAGS)
    except FileNotFoundError:
        raise
    except OSError:
        return None
    try:
        if take is None or notify is None:
            return None
        # If a process opens it for writing now, the kernel sends a signal. The default one would end this process.
        fcntl.fcntl(descriptor, notify, signal.SIGURG)
        fcntl.fcntl(descriptor, take, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, take, fcntl.F_UNLCK)
        return False
    except OSError as error:
        return True if error.errno == errno.EAGAIN else None
    finally:
        os.close(descriptor)
