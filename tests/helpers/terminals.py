"""A program in a real pseudo-terminal, whose screen a terminal emulator shows."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Mapping
from types import TracebackType

import pyte

from tests.helpers.places import TOP
from tests.helpers.servers import eventually

START = """
import fcntl, os, signal, sys, termios
signal.signal(signal.SIGINT, signal.SIG_IGN)
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""
"""Makes the terminal that of a new session, so that its signals reach the program. SIGINT is ignored at the start."""


class Terminal:
    """A program that runs in a terminal of 80 columns and 24 lines until the end of the block.

    Attributes:
        raw: all bytes that it has written.

    Args:
        command: the program.
        environ: variables beside those of this process.
    """

    def __init__(self, command: list[str], environ: Mapping[str, str] | None = None) -> None:
        self.raw = b""
        self._screen = pyte.Screen(80, 24)
        self._stream = pyte.ByteStream(self._screen)
        self._fd, terminal = pty.openpty()
        self._set_size(80, 24)
        inherited = {name: value for name, value in os.environ.items() if name not in ("LINES", "COLUMNS")}
        self.process = subprocess.Popen(
            [sys.executable, "-c", START, *command],
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            start_new_session=True,
            env={**inherited, "PYTHONPATH": str(TOP), "TERM": "xterm-256color", "LC_ALL": "C.UTF-8", **(environ or {})},
        )
        os.close(terminal)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None:
            print("\n".join(self.lines))  # noqa: T201 - pytest shows it with the failure
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        os.close(self._fd)

    @property
    def lines(self) -> list[str]:
        """Return the lines of the screen now, without blanks at their ends."""
        with contextlib.suppress(OSError):  # the program has ended
            while select.select([self._fd], [], [], 0)[0] and (data := os.read(self._fd, 65536)):
                self.raw += data
                self._stream.feed(data)
        return [line.rstrip() for line in self._screen.display]

    def press(self, keys: str) -> None:
        """Type these characters."""
        os.write(self._fd, keys.encode())

    def resize(self, width: int, height: int) -> None:
        """Give the terminal another size. The program gets a SIGWINCH."""
        _ = self.lines
        self._screen.resize(height, width)
        self._set_size(width, height)

    def wait_for(self, *texts: str) -> list[str]:
        """Return the first screen that has all these texts."""

        def probe() -> list[str] | None:
            lines = self.lines
            return lines if all(text in "\n".join(lines) for text in texts) else None

        return eventually(probe, f"the screen has {texts}", 15.0)

    def wait_for_end(self) -> int:
        """Return the exit code of the program, once all that it has written is on the screen."""
        code = eventually(lambda: [found] if (found := self._polled()) is not None else None, "the program ends", 15.0)
        return code[0]

    def signal(self, number: signal.Signals) -> None:
        """Send the program a signal."""
        self.process.send_signal(number)

    def _polled(self) -> int | None:
        _ = self.lines
        code = self.process.poll()
        _ = self.lines
        return code

    def _set_size(self, width: int, height: int) -> None:
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
