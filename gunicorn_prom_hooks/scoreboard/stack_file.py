"""The stacks of a worker that hangs: written by C code in the worker, read by the master.

A worker hangs in a loop, in an event loop that is blocked, or in a C extension. Its signal handlers in Python do not
run then. ``faulthandler`` writes the stacks in the signal handler itself. It refuses SIGABRT, which gunicorn sends
after a timeout, and which event loops take over anyway. The master sends another signal first.
"""

from __future__ import annotations

import contextlib
import faulthandler
import fcntl
import os
import signal
import tempfile
from typing import Final

SIGNAL: Final = int(getattr(signal, "SIGRTMAX", 0) or getattr(signal, "SIGINFO", 0)) - 2 * hasattr(signal, "SIGRTMAX")
"""A signal that has no other use: a real-time one, SIGINFO where there are none; 0 where there is neither."""
MAX_BYTES: Final = 256 * 1024
"""So much is written. Only what is written becomes memory."""
SHOWN_BYTES: Final = 64 * 1024
"""So much is read: a quarter from the beginning, the rest from the end, where the main thread is."""


class StackFile:
    """A file without a name. The master makes it before it forks the worker that inherits it; the offset is shared.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self) -> None:
        self._fd = _anonymous_file()
        self._armed = False

    def __del__(self) -> None:
        self.close()

    def arm(self) -> bool:
        """In the worker: have the stack of every thread written whenever ``SIGNAL`` comes.

        False where the signal has another use already; it is left alone then.

        Raises:
            OSError: the system refuses the signal handler.
            RuntimeError: likewise.
            ValueError: the file is not open.
        """
        if not SIGNAL or signal.getsignal(SIGNAL) is not signal.SIG_DFL:
            return False
        faulthandler.register(SIGNAL, file=self._fd, all_threads=True, chain=False)
        self._armed = True
        return True

    @property
    def written(self) -> int:
        """Number of bytes that have been written, up to now and by whichever process."""
        try:
            return os.lseek(self._fd, 0, os.SEEK_CUR)
        except OSError:  # closed
            return 0

    def text(self) -> str:
        """What has been written; of a long text beginning and end."""
        size = min(self.written, MAX_BYTES)
        try:
            head = os.pread(self._fd, size if size <= SHOWN_BYTES else SHOWN_BYTES // 4, 0)
            if size <= SHOWN_BYTES:
                return _printable(head)
            tail = os.pread(self._fd, SHOWN_BYTES - len(head), size - SHOWN_BYTES + len(head))
            return f"{_printable(head)}\n[...]\n{_printable(tail)}"
        except OSError:
            return ""

    def close(self) -> None:
        """Close it. In forked children too, where the signal is then what it was; doing it twice is harmless."""
        if self._armed:
            self._armed = False
            faulthandler.unregister(SIGNAL)
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with contextlib.suppress(OSError):
                os.close(fd)


def _anonymous_file() -> int:
    """Return the descriptor of a new file that takes ``MAX_BYTES`` at most, where the system can be told so."""
    try:
        fd = os.memfd_create("gunicorn_prom_hooks", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except (AttributeError, OSError):  # not Linux, or a sandbox that refuses it
        with tempfile.TemporaryFile(buffering=0) as file:
            return os.dup(file.fileno())
    try:
        os.ftruncate(fd, MAX_BYTES)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _printable(data: bytes) -> str:
    # faulthandler escapes what is not ASCII; a piece may begin in the middle of a line.
    return data.decode("ascii", "backslashreplace").strip("\0\n")
