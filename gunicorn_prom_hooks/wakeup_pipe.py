"""Wakes the exporter's thread from another one."""

from __future__ import annotations

import contextlib
import os

from .concurrency import new_lock


class WakeupPipe:
    """A pipe: whoever writes into it wakes who polls it."""

    def __init__(self) -> None:
        self.fd, self._write_fd = os.pipe()
        os.set_blocking(self.fd, False)
        os.set_blocking(self._write_fd, False)
        self._closed = False
        self._turn = new_lock()

    def wake(self) -> None:
        """From any thread, also after it is closed: a rendering may outlast its exporter."""
        with self._turn, contextlib.suppress(OSError):
            if not self._closed:
                os.write(self._write_fd, b"x")

    def drain(self) -> None:
        """What has woken so far has done so."""
        with contextlib.suppress(OSError):
            while os.read(self.fd, 4096):
                pass

    def close(self) -> None:
        """Closes both ends, once nobody polls any more."""
        with self._turn:
            self.close_in_child()

    def close_in_child(self) -> None:
        """The same in a forked child, where nobody holds the lock but it may be held."""
        if not self._closed:
            self._closed = True
            os.closerange(self.fd, self.fd + 1)  # errors are ignored
            os.closerange(self._write_fd, self._write_fd + 1)
