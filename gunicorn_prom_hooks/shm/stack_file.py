"""The file with the stacks of a worker that hangs: C code in the worker writes it, the master reads it.

A worker may hang in a loop, in a blocked event loop, or in a C extension. Its signal handlers in Python do not run
then. ``faulthandler`` writes the stacks in the C signal handler. It does not accept SIGABRT, which gunicorn sends
after a timeout, and for which event loops install a handler. So the master sends another signal first.
"""

from __future__ import annotations

import contextlib
import faulthandler
import fcntl
import os
import signal
import tempfile
from collections.abc import Iterator
from typing import Final

SIGNAL: Final = int(getattr(signal, "SIGRTMAX", 0) or getattr(signal, "SIGINFO", 0)) - 2 * hasattr(signal, "SIGRTMAX")
"""A signal without another use: a real-time signal, SIGINFO on systems without them, 0 if there is neither."""
MAX_BYTES: Final = 2 * 2**20
"""Size of the part of one slot: 100 threads, 100 calls deep. Only pages that are written become memory."""
CHUNK_BYTES: Final = 64 * 1024
"""Bytes per read."""
SLOTS: Final = 4096
"""Number of slots that have a part of the file. Workers in further slots have no stacks."""
SHOWN_BYTES: Final = 64 * 1024
"""Bytes that are logged: a quarter from the beginning, the rest from the end, where the main thread is."""


class StackFile:
    """An anonymous file, made before the first fork, in which each slot has a part of ``MAX_BYTES``.

    It needs one descriptor for any number of workers. A longer text runs into the part of the next slot, which is
    cleared before that worker is asked. If the file cannot be made there are no stacks.
    """

    def __init__(self) -> None:
        self.fd = -1
        self.is_armed = False
        """``faulthandler`` writes the stacks of this process, or of the one that has forked it."""
        self._identity = 0, 0
        with contextlib.suppress(OSError):
            self.fd = _anonymous_file()
            self._identity = _identity(self.fd)

    def __del__(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)

    def arm(self, number: int) -> bool:
        """Have ``faulthandler`` write the stacks of all threads at each ``SIGNAL``. In the worker that has this slot.

        Return False, without any change, if the signal has a handler already, or if there is no ``/proc`` to open the
        file again: an inherited descriptor shares its offset with all other workers.

        Raises:
            OSError: the system refuses the signal handler.
            RuntimeError: the same.
        """
        if not SIGNAL or self.fd < 0 or number >= SLOTS or is_signal_in_use():
            return False
        try:
            own = os.open(f"/proc/self/fd/{self.fd}", os.O_WRONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            os.dup2(own, self.fd, inheritable=False)
        finally:
            os.close(own)
        os.lseek(self.fd, number * MAX_BYTES, os.SEEK_SET)
        faulthandler.register(SIGNAL, file=self.fd, all_threads=True, chain=False)
        self.is_armed = True
        return True

    def disarm_if_closed(self) -> bool:
        """Disarm if other code has closed the descriptor, as daemons do: its number may be another file's by now.

        Return whether it has.
        """
        if not self.is_armed:
            return False
        try:
            is_own = _identity(self.fd) == self._identity
        except OSError:
            is_own = False
        if not is_own:
            self.fd = -1
            self.disarm()
        return not is_own

    def disarm(self) -> None:
        """Remove the handler, in a process that the worker has forked. A second call has no effect.

        A handler that the application has set since is kept.
        """
        if self.is_armed:
            self.is_armed = False
            if not is_signal_in_use():
                faulthandler.unregister(SIGNAL)

    def size(self, number: int) -> int:
        """Return the number of bytes that the worker in this slot has written."""
        return len(self._read(number))

    def take(self, number: int) -> str:
        """Remove and return what the worker in this slot has written; of a long text the beginning and the end."""
        data = self._read(number)
        self.clear(number)
        if len(data) <= SHOWN_BYTES:
            return _printable(data)
        head = SHOWN_BYTES // 4
        return f"{_printable(data[:head])}\n[...]\n{_printable(data[head - SHOWN_BYTES :])}"

    def clear(self, number: int) -> None:
        """Overwrite the part of this slot with zeros: it may hold an older text, or the end of the previous slot's."""
        with contextlib.suppress(OSError):
            for at, chunk in self._chunks(number):
                if used := len(chunk.rstrip(b"\0")):
                    os.pwrite(self.fd, bytes(used), at)

    def _read(self, number: int) -> bytes:
        """Return the first text in the part of this slot. A cleared text before it is zeros."""
        text = b""
        with contextlib.suppress(OSError):
            for _, chunk in self._chunks(number):
                piece, end, _ = (chunk if text else chunk.lstrip(b"\0")).partition(b"\0")
                text += piece
                if text and end:
                    break
        return text

    def _chunks(self, number: int) -> Iterator[tuple[int, bytes]]:
        """Yield offset and bytes of each chunk of the part of this slot.

        Raises:
            OSError: there is no file.
        """
        for at in range(number * MAX_BYTES, (number + 1) * MAX_BYTES, CHUNK_BYTES):
            yield at, os.pread(self.fd, CHUNK_BYTES, at)


def is_signal_in_use() -> bool:
    """Return whether a Python handler is set for ``SIGNAL``, or the signal is ignored."""
    return signal.getsignal(SIGNAL) is not signal.SIG_DFL


def _anonymous_file() -> int:
    """Return the descriptor of a new file. On Linux its size is limited to ``MAX_BYTES`` per slot."""
    try:
        fd = os.memfd_create("gunicorn_prom_hooks", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except (AttributeError, OSError):  # not Linux, or a sandbox that refuses it
        with tempfile.TemporaryFile(buffering=0) as file:
            return os.dup(file.fileno())
    with contextlib.suppress(OSError):  # a limit on file sizes forbids it: the file grows with what is written
        os.ftruncate(fd, SLOTS * MAX_BYTES)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
    return fd


def _identity(fd: int) -> tuple[int, int]:
    """Return what tells the file of a descriptor from any other."""
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def _printable(data: bytes) -> str:
    # faulthandler escapes what is not ASCII; a piece may begin in the middle of a line.
    return data.decode("ascii", "backslashreplace").strip("\0\n")
