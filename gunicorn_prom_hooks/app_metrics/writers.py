"""Whether a process has a file open for writing: the kernel says so, whatever the file is called."""

from __future__ import annotations

import errno
import fcntl
import os
import signal

_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY


def is_written(path: str | os.PathLike[str]) -> bool | None:
    """Return whether a process of this machine, in whatever container, has the file open or mapped for writing.

    A read lease (``fcntl``, ``F_SETLEASE``) is granted only on a file that nobody has open for writing. It is given
    back at once.

    Args:
        path: a regular file; a link is not followed.

    Returns:
        None if that cannot be told: the file is another user's, or this system or file system has no leases.

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
        # Who opens it for writing meanwhile makes the kernel send a signal: the usual one would end this process.
        fcntl.fcntl(descriptor, notify, signal.SIGURG)
        fcntl.fcntl(descriptor, take, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, take, fcntl.F_UNLCK)
        return False
    except OSError as error:
        return True if error.errno == errno.EAGAIN else None
    finally:
        os.close(descriptor)
