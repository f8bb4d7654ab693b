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
"""So much of the file each slot has. Only what is written becomes memory."""
_PIECE_BYTES: Final = 4096
SLOTS: Final = 4096
"""So many slots have a part of the file; workers in further ones have no stacks."""
SHOWN_BYTES: Final = 64 * 1024
"""So much is read: a quarter from the beginning, the rest from the end, where the main thread is."""


class StackFiles:
    """One file without a name for all slots, made before the first fork. Each slot has ``MAX_BYTES`` of it.

    One descriptor is all that it costs, however many workers there are.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self) -> None:
        self.fd = _anonymous_file()

    def __del__(self) -> None:
        fd, self.fd = getattr(self, "fd", -1), -1
        if fd >= 0:
            os.close(fd)

    def of_slot(self, number: int) -> StackFile | None:
        """Return the part of this slot; None if the file has no such part."""
        return StackFile(self, number * MAX_BYTES) if number < SLOTS else None


class StackFile:
    """The part of the file that belongs to one slot. A text longer than that runs into the next part.

    Args:
        files: the file.
        start: where in it the part begins, in bytes.
    """

    def __init__(self, files: StackFiles, start: int) -> None:
        self._files = files
        self._start = start
        self._armed = False

    def arm(self) -> bool:
        """In the worker: have the stack of every thread written whenever ``SIGNAL`` comes.

        False where the signal has another use already, which is left alone, and where there is no ``/proc`` to open
        the file again: a descriptor that is inherited has its offset in common with all other workers.

        Raises:
            OSError: the system refuses the signal handler.
            RuntimeError: likewise.
            ValueError: the file is not open.
        """
        if not SIGNAL or signal.getsignal(SIGNAL) is not signal.SIG_DFL:
            return False
        shared = self._files.fd
        try:
            own = os.open(f"/proc/self/fd/{shared}", os.O_WRONLY | os.O_CLOEXEC)
        except OSError:
            return False
        os.dup2(own, shared, inheritable=False)
        os.close(own)
        os.lseek(shared, self._start, os.SEEK_SET)
        faulthandler.register(SIGNAL, file=shared, all_threads=True, chain=False)
        self._armed = True
        return True

    def disarm(self) -> None:
        """In a process that the worker has forked: the signal is what it was. Doing it twice is harmless."""
        if self._armed:
            self._armed = False
            faulthandler.unregister(SIGNAL)

    @property
    def written(self) -> int:
        """Number of bytes that the worker has written."""
        return len(self._read())

    def text(self) -> str:
        """Return what has been written; of a long text beginning and end."""
        data = self._read()
        if len(data) <= SHOWN_BYTES:
            return _printable(data)
        head = SHOWN_BYTES // 4
        return f"{_printable(data[:head])}\n[...]\n{_printable(data[head - SHOWN_BYTES :])}"

    def clear(self) -> None:
        """In the master, when the worker has gone: leave nothing to the next one in this slot."""
        data = self._read()
        if data:
            with contextlib.suppress(OSError):
                os.pwrite(self._files.fd, bytes(len(data)), self._start)

    def _read(self) -> bytes:
        data = b""
        with contextlib.suppress(OSError):
            while len(data) < MAX_BYTES:  # a piece at a time: as a rule there is nothing
                piece = os.pread(self._files.fd, _PIECE_BYTES, self._start + len(data))
                text = piece.partition(b"\0")[0]
                data += text
                if len(text) < _PIECE_BYTES:
                    break
        return data


def _anonymous_file() -> int:
    """Return the descriptor of a new file that takes so much for each slot at most, where the system can be told so."""
    try:
        fd = os.memfd_create("gunicorn_prom_hooks", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except (AttributeError, OSError):  # not Linux, or a sandbox that refuses it
        with tempfile.TemporaryFile(buffering=0) as file:
            return os.dup(file.fileno())
    try:
        os.ftruncate(fd, SLOTS * MAX_BYTES)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _printable(data: bytes) -> str:
    # faulthandler escapes what is not ASCII; a piece may begin in the middle of a line.
    return data.decode("ascii", "backslashreplace").strip("\0\n")
