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
from collections.abc import Iterator
from typing import Final

SIGNAL: Final = int(getattr(signal, "SIGRTMAX", 0) or getattr(signal, "SIGINFO", 0)) - 2 * hasattr(signal, "SIGRTMAX")
"""A signal that has no other use: a real-time one, SIGINFO where there are none; 0 where there is neither."""
MAX_BYTES: Final = 2 * 2**20
"""So much of the file each slot has: 100 threads, 100 calls deep. Only what is written becomes memory."""
CHUNK_BYTES: Final = 64 * 1024
"""So much is read at once."""
SLOTS: Final = 4096
"""So many slots have a part of the file; workers in further ones have no stacks."""
SHOWN_BYTES: Final = 64 * 1024
"""So much is read: a quarter from the beginning, the rest from the end, where the main thread is."""


class Stacks:
    """One file without a name, made before the first fork. Each slot has ``MAX_BYTES`` of it, and its number.

    It costs one descriptor, however many workers there are. A text that is longer runs into the part of the next slot,
    which is cleared before its worker is asked. Without such a file there are no stacks.
    """

    def __init__(self) -> None:
        self.fd = -1
        self._is_armed = False
        with contextlib.suppress(OSError):
            self.fd = _anonymous_file()

    def __del__(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)

    def arm(self, number: int) -> bool:
        """In the worker in this slot: have the stack of every thread written whenever ``SIGNAL`` comes.

        False where the signal has another use already, which is left alone, and where there is no ``/proc`` to open
        the file again: a descriptor that is inherited has its offset in common with all other workers.

        Raises:
            OSError: the system refuses the signal handler.
            RuntimeError: likewise.
        """
        if not SIGNAL or self.fd < 0 or number >= SLOTS or is_taken():
            return False
        try:
            own = os.open(f"/proc/self/fd/{self.fd}", os.O_WRONLY | os.O_CLOEXEC)
        except OSError:
            return False
        os.dup2(own, self.fd, inheritable=False)
        os.close(own)
        os.lseek(self.fd, number * MAX_BYTES, os.SEEK_SET)
        faulthandler.register(SIGNAL, file=self.fd, all_threads=True, chain=False)
        self._is_armed = True
        return True

    def disarm(self) -> None:
        """In a process that the worker has forked: the signal is what it was. Doing it twice is harmless.

        A handler that the application has set since is left alone.
        """
        if self._is_armed:
            self._is_armed = False
            if not is_taken():
                faulthandler.unregister(SIGNAL)

    def written(self, number: int) -> int:
        """Return how many bytes the worker in this slot has written."""
        return len(self._read(number))

    def take(self, number: int) -> str:
        """Return what the worker in this slot has written, beginning and end of a long text; it is removed."""
        data = self._read(number)
        self.clear(number)
        if len(data) <= SHOWN_BYTES:
            return _printable(data)
        head = SHOWN_BYTES // 4
        return f"{_printable(data[:head])}\n[...]\n{_printable(data[head - SHOWN_BYTES :])}"

    def clear(self, number: int) -> None:
        """Remove all that is in the part of this slot: of another time, or of the slot before."""
        with contextlib.suppress(OSError):
            for at, chunk in self._chunks(number):
                if used := len(chunk.rstrip(b"\0")):
                    os.pwrite(self.fd, bytes(used), at)

    def _read(self, number: int) -> bytes:
        """Return the first text in the part of this slot. What was there before it has been cleared, and is zeros."""
        text = b""
        with contextlib.suppress(OSError):
            for _, chunk in self._chunks(number):
                piece, end, _ = (chunk if text else chunk.lstrip(b"\0")).partition(b"\0")
                text += piece
                if text and end:
                    break
        return text

    def _chunks(self, number: int) -> Iterator[tuple[int, bytes]]:
        """Yield offset and bytes of each piece of the part of this slot.

        Raises:
            OSError: there is no file.
        """
        for at in range(number * MAX_BYTES, (number + 1) * MAX_BYTES, CHUNK_BYTES):
            yield at, os.pread(self.fd, CHUNK_BYTES, at)


def is_taken() -> bool:
    """Return whether the application has a handler of its own for ``SIGNAL``, set from Python."""
    return signal.getsignal(SIGNAL) is not signal.SIG_DFL


def _anonymous_file() -> int:
    """Return the descriptor of a new file that takes so much for each slot at most, where the system can be told so."""
    try:
        fd = os.memfd_create("gunicorn_prom_hooks", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except (AttributeError, OSError):  # not Linux, or a sandbox that refuses it
        with tempfile.TemporaryFile(buffering=0) as file:
            return os.dup(file.fileno())
    with contextlib.suppress(OSError):  # under a limit on the size of files it grows with what is written
        os.ftruncate(fd, SLOTS * MAX_BYTES)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
    return fd


def _printable(data: bytes) -> str:
    # faulthandler escapes what is not ASCII; a piece may begin in the middle of a line.
    return data.decode("ascii", "backslashreplace").strip("\0\n")
