"""The exporter's event loop: one thread, non-blocking sockets, a deadline and a limit for connections."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final, NamedTuple

from ..concurrency import ForkLock, WakeupPipe, unpatched
from .bound_sockets import Listeners
from .connection import MAX_HEAD_BYTES, Client, State, next_to_evict, over_memory_limit
from .http import RenderKey, Reply, error_response
from .render_queue import RenderQueue
from .tls import Transport

MAX_CONNECTIONS: Final = 256
"""Beyond this one is closed, chosen by ``next_to_evict``. Lower where the limit of open files is low."""
SHARE_OF_FILES: Final = 0.25
MAX_HELD_BYTES: Final = 32 * 1024 * 1024
"""Limit of response bodies that clients have not read yet."""
ACCEPT_AT_ONCE: Final = 16
ACCEPT_PAUSE_SECONDS: Final = 0.1
"""Pause when the process has no file descriptors left."""
LOST_WAKEUP_SECONDS: Final = 1.0
"""Time after which a completed rendering is found if the write into the wakeup pipe failed."""

_LATER: Final = frozenset({errno.EAGAIN, errno.EWOULDBLOCK, errno.EINTR})
_CLIENT_ERRORS: Final = frozenset({errno.ECONNABORTED, errno.EPROTO, errno.ENETDOWN, errno.EPERM})
_NO_ROOM: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Service(NamedTuple):
    """Functions that the event loop calls to serve a connection.

    Attributes:
        transport: returns the transport of a new connection.
        answer: takes the bytes of a request; returns its outcome, and whether the body is omitted. Never raises.
        render_queue: renders the responses that are not answered at once.
        stopping: returns whether ``serve`` has to return.
        bind: tries to bind the addresses without a socket; called with the lock held.
    """

    transport: Callable[[], Transport]
    answer: Callable[[bytes], tuple[Reply | RenderKey, bool]]
    render_queue: RenderQueue
    stopping: Callable[[], bool]
    bind: Callable[[], None]


class Connections:
    """All connections of the exporter: accepts, reads, writes and closes them.

    Args:
        listeners: the listening sockets; more may be bound later.
        wakeup_pipe: wakes the loop when a rendering is completed, or ``serve`` has to return.
        fork_lock: held while a client is accepted, so that no fork copies an unregistered socket.
        service: see ``Service``.
    """

    def __init__(self, listeners: Listeners, wakeup_pipe: WakeupPipe, fork_lock: ForkLock, service: Service) -> None:
        self._listeners = listeners
        self._wakeup_pipe = wakeup_pipe
        self._fork_lock = fork_lock
        self._service = service
        self.open: dict[int, Client] = {}
        self._poll: Any = unpatched("select", "poll")()
        self._in = unpatched("select", "POLLIN")
        self._out = unpatched("select", "POLLOUT")
        self._paused_until = 0.0
        self._poll.register(wakeup_pipe.fd, self._in)
        self._listen()

    def serve(self) -> None:
        """Serve until the exporter stops.

        Raises:
            OSError: a listening socket or the wakeup pipe is broken.
        """
        while True:
            # An event is of the client that was polled: once it is evicted, a new one may have its descriptor.
            polled = [(fd, events, self.open.get(fd)) for fd, events in self._poll.poll(self._poll_timeout())]
            for fd, events, client in polled:
                if fd == self._wakeup_pipe.fd:
                    if events & ~self._in:
                        raise OSError(errno.EBADF, "the wakeup pipe is broken")
                    self._wakeup_pipe.drain()
                elif fd in self._listeners.open:
                    if not self._paused_until:  # another listener may have run out of descriptors just now
                        self._accept_some(self._listeners.open[fd])
                elif client is not None and self.open.get(fd) is client:
                    self._advance(fd, events)
            if self._service.stopping():
                return
            self._deliver()
            self._service.render_queue.start_next()
            now = time.monotonic()
            for fd in [fd for fd, client in self.open.items() if client.deadline <= now]:
                self._close(fd)
            if self._paused_until and self._paused_until <= now:
                self._paused_until = 0.0
                self._listen()
            next_try = self._listeners.next_try
            if next_try is not None and next_try <= now:
                with self._fork_lock.hold():
                    if not self._service.stopping():
                        self._service.bind()
                self._listen()

    def close(self) -> None:
        """Close every connection."""
        for client in list(self.open.values()):
            _close_quietly(client.sock)

    def _listen(self) -> None:
        """Poll every listening socket, unless accepting is paused."""
        for fd in () if self._paused_until else self._listeners.open:
            self._poll.register(fd, self._in)

    def _poll_timeout(self) -> float | None:
        """Return the milliseconds until the next deadline; None without one."""
        moments = [client.deadline for client in self.open.values()]
        moments += [due for due in (self._service.render_queue.due(), self._listeners.next_try) if due is not None]
        if self._paused_until:
            moments.append(self._paused_until)
        if self._service.render_queue.is_rendering:
            moments.append(time.monotonic() + LOST_WAKEUP_SECONDS)
        return max(0.0, (min(moments) - time.monotonic()) * 1000.0) + 1.0 if moments else None

    def _accept_some(self, listener: Any) -> None:
        """Accept a few clients and read their requests at once, so that a flood does not delay a request."""
        for _ in range(ACCEPT_AT_ONCE):
            with self._fork_lock.hold():
                fd = self._accept(listener)
            if fd is None:
                return
            self._advance(fd, self._in)

    def _accept(self, listener: Any) -> int | None:
        try:
            # accept() of a socket object returns an instance of the class that gevent has put into the socket module.
            fd, peer = listener._accept()  # noqa: SLF001
        except OSError as error:
            if error.errno in _NO_ROOM:
                self._make_room()
            elif error.errno not in _LATER | _CLIENT_ERRORS:
                raise
            return None
        try:
            sock = unpatched("socket", "socket")(fileno=fd)
        except BaseException:
            os.close(fd)
            raise
        sock.setblocking(False)
        client = Client(sock, peer, self._service.transport())
        if len(self.open) >= _connection_limit():
            victim = next_to_evict(self.open.values(), client.peer_key)
            if victim is None:
                _close_quietly(sock)
                return None
            self._close(victim.sock.fileno())
        self.open[fd] = client
        client.watched = self._in
        self._poll.register(fd, self._in)
        return int(fd)

    def _make_room(self) -> None:
        victim = next_to_evict(self.open.values())
        if victim is not None:
            self._close(victim.sock.fileno())
        else:
            for fd in self._listeners.open:
                self._poll.unregister(fd)
            self._paused_until = time.monotonic() + ACCEPT_PAUSE_SECONDS

    def _advance(self, fd: int, events: int) -> None:
        client = self.open[fd]
        try:
            # A client in WAITING or WRITING is not polled for reading.
            readable = events & ~self._out and client.state is not State.WRITING
            if client.state is State.WAITING or (readable and not client.read()):
                self._close(fd)
                return
            if client.state is State.READING:
                self._handle_request(client)
            if client.wants_to_write:
                client.write()
        except OSError as error:
            if error.errno not in _LATER:
                self._close(fd)
                return
        self._watch(fd, client)

    def _handle_request(self, client: Client) -> None:
        if b"\n\r\n" in client.head or b"\n\n" in client.head:
            outcome, client.head_only = self._service.answer(bytes(client.head))
            if isinstance(outcome, RenderKey):
                client.wait(outcome)
                self._service.render_queue.submit(outcome, client)
            else:
                client.answer(outcome)
        elif len(client.head) > MAX_HEAD_BYTES:
            client.answer(error_response(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE))

    def _deliver(self) -> None:
        """Send completed renderings to the clients that wait for them."""
        completed = self._service.render_queue.pop_completed()
        for client, reply in completed:
            client.answer(reply)
        for client in over_memory_limit(self.open.values(), MAX_HELD_BYTES) if completed else ():
            self._close(client.sock.fileno())
        for client, _ in completed:
            if client.state is State.WRITING and client.sock.fileno() in self.open:
                self._advance(client.sock.fileno(), self._out)

    def _watch(self, fd: int, client: Client) -> None:
        wanted = 0 if client.state in (State.WAITING, State.WRITING) else self._in
        if client.wants_to_write:
            wanted |= self._out
        if wanted != client.watched:
            client.watched = wanted
            self._poll.modify(fd, wanted)

    def _close(self, fd: int) -> None:
        with contextlib.suppress(KeyError, OSError):
            self._poll.unregister(fd)
        # Closed before it is removed: a child forked in between finds it closed, not open and unregistered.
        client = self.open[fd]
        _close_quietly(client.sock)
        del self.open[fd]
        if client.key is not None:
            self._service.render_queue.cancel(client.key, client)


def _connection_limit() -> int:
    """Return the limit of connections. Without a descriptor for its next worker, gunicorn's master would exit."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_CONNECTIONS if files == resource.RLIM_INFINITY else min(MAX_CONNECTIONS, int(files * SHARE_OF_FILES))


def _close_quietly(sock: Any) -> None:
    with contextlib.suppress(Exception):
        sock.close()
