"""The exporter's connections: one thread, non-blocking sockets, a deadline on each, so many and no more."""

from __future__ import annotations

import contextlib
import errno
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

from ..native import original
from .forklock import ForkLock
from .http import refusal

MAX_CONNECTIONS: Final = 64
"""One more, and the one that is nearest to its deadline is closed."""
MAX_HEAD_BYTES: Final = 16 * 1024
HEAD_SECONDS: Final = 5.0
BODY_SECONDS: Final = 20.0
LINGER_SECONDS: Final = 2.0
"""How long a client has for its request, for reading the answer, and for closing after it."""

_LATER = frozenset({errno.EAGAIN, errno.EWOULDBLOCK, errno.EINTR})


class _Connection:
    """A client: its request so far, then what is still to be sent to it."""

    def __init__(self, sock: Any, deadline: float) -> None:
        self.sock = sock
        self.deadline = deadline
        self.head = bytearray()
        self.rest = memoryview(b"")
        self.lingering = False


class Connections:
    """Accepts, reads, answers, closes.

    Args:
        listener: listening socket, an original one, non-blocking; ours to close.
        waker: file descriptor that becomes readable when ``serve`` is to return.
        lock: held while a client is accepted, so that no fork copies a socket that is not in the books yet.
        answer: from the bytes of a request to the bytes of the response.
    """

    def __init__(self, listener: Any, waker: int, lock: ForkLock, answer: Callable[[bytes], bytes]) -> None:
        self._listener = listener
        self._lock = lock
        self._waker = waker
        self._answer = answer
        self._open: dict[int, _Connection] = {}
        self._poll: Any = original("select", "poll")()
        self._in = original("select", "POLLIN")
        self._out = original("select", "POLLOUT")
        self._poll.register(waker, self._in)
        self._poll.register(listener.fileno(), self._in)

    def serve(self) -> None:
        """Serves until the waker is readable.

        Raises:
            OSError: the listening socket is broken.
        """
        while True:
            for fd, _events in self._poll.poll(self._patience()):
                if fd == self._waker:
                    return
                if fd == self._listener.fileno():
                    with self._lock.hold():
                        self._accept()
                elif fd in self._open:
                    self._advance(fd)
            now = time.monotonic()
            for fd in [fd for fd, connection in self._open.items() if connection.deadline <= now]:
                self._close(fd)

    def close(self) -> None:
        """Closes every socket. In a forked child too: no worker keeps a scrape or the port open."""
        for connection in list(self._open.values()):
            _close_quietly(connection.sock)
        _close_quietly(self._listener)

    def _patience(self) -> float | None:
        """Milliseconds until the next deadline."""
        if not self._open:
            return None
        first = min(connection.deadline for connection in self._open.values())
        return max(0.0, (first - time.monotonic()) * 1000.0) + 1.0

    def _accept(self) -> None:
        try:
            # accept() of a socket object makes one of whatever class gevent has put into the socket module.
            fd, _ = self._listener._accept()  # noqa: SLF001
        except OSError as error:
            if error.errno in _LATER or error.errno in (errno.ECONNABORTED, errno.EPROTO, errno.ENETDOWN):
                return
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM) and self._open:
                self._close(self._next_to_go())
                return
            raise
        sock = original("socket", "socket")(fileno=fd)
        sock.setblocking(False)
        if len(self._open) >= MAX_CONNECTIONS:
            self._close(self._next_to_go())
        self._open[fd] = _Connection(sock, time.monotonic() + HEAD_SECONDS)
        self._poll.register(fd, self._in)

    def _next_to_go(self) -> int:
        return min(self._open, key=lambda fd: self._open[fd].deadline)

    def _advance(self, fd: int) -> None:
        connection = self._open[fd]
        try:
            if connection.rest:
                self._write(fd, connection)
            else:
                self._read(fd, connection)
        except OSError as error:
            if error.errno not in _LATER:
                self._close(fd)

    def _read(self, fd: int, connection: _Connection) -> None:
        data = connection.sock.recv(MAX_HEAD_BYTES)
        if not data:
            self._close(fd)
            return
        if connection.lingering:
            return
        connection.head += data
        if b"\r\n\r\n" in connection.head or b"\n\n" in connection.head:
            self._respond(fd, connection, self._answer(bytes(connection.head)))
        elif len(connection.head) > MAX_HEAD_BYTES:
            self._respond(fd, connection, refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE))

    def _respond(self, fd: int, connection: _Connection, answer: bytes) -> None:
        connection.rest = memoryview(answer)
        connection.deadline = time.monotonic() + BODY_SECONDS
        self._poll.modify(fd, self._out)
        self._write(fd, connection)

    def _write(self, fd: int, connection: _Connection) -> None:
        sent = connection.sock.send(connection.rest)
        connection.rest = connection.rest[sent:]
        if not connection.rest:
            # To close with bytes unread would reset the connection, and the client could lose the answer.
            connection.lingering = True
            connection.deadline = time.monotonic() + LINGER_SECONDS
            connection.sock.shutdown(original("socket", "SHUT_WR"))
            self._poll.modify(fd, self._in)

    def _close(self, fd: int) -> None:
        with contextlib.suppress(KeyError, OSError):
            self._poll.unregister(fd)
        # First closed, then forgotten: a child forked in between finds it closed, not open and unknown.
        _close_quietly(self._open[fd].sock)
        del self._open[fd]


def _close_quietly(sock: Any) -> None:
    with contextlib.suppress(OSError):
        sock.close()
