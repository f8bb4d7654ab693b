"""Disk blocks for a file that is mapped: a write to a mapping without a block behind it ends the process (SIGBUS)."""

from __future__ import annotations

import errno
import os
from typing import Final

SPARE_BYTES: Final = 1 << 20
"""Free space that is left to other programs: with less, no file is made or extended."""
_CHUNK_BYTES: Final = 1 << 16
_NOT_SUPPORTED: Final = frozenset({errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL, errno.ENOSYS})
"""Errors of ``posix_fallocate`` on file systems without support for it."""


class NoRoom(OSError):
    """The disk is full, or nearly full."""


def reserve(descriptor: int, start: int, end: int) -> None:
    """Give each byte of the file from ``start`` to ``end`` a block on the disk. What the file holds is kept.

    Args:
        descriptor: of the file, open for reading and writing. Nothing else writes to that part of it.
        start: first byte.
        end: byte after the last one; the file is at least that long afterwards.

    Raises:
        OSError: the disk or the quota is exhausted, or the file may not be that long.
    """
    lacking = end - os.fstat(descriptor).st_blocks * 512
    disk = os.fstatvfs(descriptor)
    if lacking > 0 and disk.f_blocks and disk.f_bavail * disk.f_frsize < max(SPARE_BYTES, lacking):
        raise NoRoom(errno.ENOSPC, f"less than {SPARE_BYTES} bytes free")
    # Also if the count of blocks looks sufficient: it includes internal blocks of the file system.
    try:
        os.posix_fallocate(descriptor, start, end - start)
    except AttributeError:  # macOS
        _write(descriptor, start, end)
    except OSError as error:
        if error.errno not in _NOT_SUPPORTED:
            raise
        _write(descriptor, start, end)


def _write(descriptor: int, start: int, end: int) -> None:
    """Write that part of the file again, with zeros beyond its end: a written byte has a block."""
    while start < end:
        length = min(_CHUNK_BYTES, end - start)
        start += os.pwrite(descriptor, os.pread(descriptor, length, start).ljust(length, b"\0"), start)
