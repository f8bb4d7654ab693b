"""Listening sockets: their names, their accept queues, and accepted connections with unread data."""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from ..model.server_snapshot import ServerSnapshot, WorkersListener
from . import sock_diag

_LOCALHOST: Final = "127.0.0.1"
_TCP_LISTEN: Final = 10
_TCP_INFO: Final = struct.Struct("=B23xII")
"""The beginning of struct tcp_info (linux/tcp.h): tcpi_state, and at offset 24 tcpi_unacked and tcpi_sacked.

Of a listening socket the last two are the connections in the queue and their limit (tcp_get_info() in net/ipv4/tcp.c).
"""
_NOT_AVAILABLE: Final = "gunicorn_prom_hooks: no gunicorn_listener_waiting_connections: the kernel does not tell: %s"


@dataclass
class ListenerQueue:
    """Connections of all listeners with one name. None where the kernel does not tell.

    Attributes:
        name: as gunicorn calls the listener.
        queue: connections in the accept queue.
        limit: connections that the accept queue may hold.
        unread: accepted connections with unread data.
    """

    name: str
    queue: int | None = None
    limit: int | None = None
    unread: int | None = None


class Connections(NamedTuple):
    """Connections to an address.

    Attributes:
        queue: number of connections in the accept queues, and how many these may hold; None for a Unix socket.
        unread: number of accepted connections with unread data.
    """

    queue: tuple[int, int] | None
    unread: int


def ignore(text: str) -> None:
    """Do nothing with a line for the log."""


def read_listeners(snapshot: ServerSnapshot, warn: Callable[[str], None] = ignore) -> Sequence[ListenerQueue]:
    """Return the connections of each listener, in the order of the listeners. Closed ones are left out.

    Args:
        snapshot: of the server.
        warn: called with a line for the log if the kernel does not tell about unread data.
    """
    if sys.platform != "linux":  # FreeBSD has a TCP_INFO as well, with another meaning
        warn(_NOT_AVAILABLE % sys.platform)
        return []
    kernel = Kernel()
    listeners: dict[str, ListenerQueue] = {}
    for listener in snapshot.listeners:
        name = queue = connections = None
        try:
            name = listener_name(listener)
            queue = _accept_queue(listener)
        except OSError:  # closed meanwhile, or not available in this sandbox or kernel
            pass
        if name is None:
            continue
        try:
            connections = kernel.connections(listener)
        except OSError as error:
            if _is_open(listener):
                warn(_NOT_AVAILABLE % (error.strerror or error))
        if queue is None and connections is not None:
            queue = connections.queue
        found = listeners.setdefault(name, ListenerQueue(name))
        if queue is not None:
            found.queue, found.limit = (found.queue or 0) + queue[0], (found.limit or 0) + queue[1]
        if connections is not None:
            found.unread = (found.unread or 0) + connections.unread
    return list(listeners.values())


def collect(snapshot: ServerSnapshot, warn: Callable[[str], None] = ignore) -> Iterator[Metric]:
    """Yield queue, limit and unread connections of each listener. A family without any value is left out.

    Args:
        snapshot: of the server.
        warn: as in ``read_listeners``.
    """
    found = read_listeners(snapshot, warn)
    for name, documentation, values in (
        ("backlog", "Connections in the accept queue.", {row.name: row.queue for row in found}),
        (
            "backlog_limit",
            "Connections that the accept queue may hold: gunicorn's backlog, or net.core.somaxconn if that is less.",
            {row.name: row.limit for row in found},
        ),
        (
            "waiting_connections",
            "Connections accepted by a worker whose data it has not read yet.",
            {row.name: row.unread for row in found},
        ),
    ):
        family = GaugeMetricFamily(f"gunicorn_listener_{name}", documentation, labels=("listener",))
        for listener, value in values.items():
            if value is not None:
                family.add_metric((listener,), value)
        if family.samples:
            yield family


class Kernel:
    """Asks the kernel about connections, once per port and once about all Unix sockets.

    Args:
        seconds: time for all answers together.
    """

    def __init__(self, seconds: float = sock_diag.TIMEOUT_SECONDS) -> None:
        self._deadline = time.monotonic() + seconds
        self._ports: dict[tuple[int, int], sock_diag.TcpPort] = {}
        self._unix: sock_diag.UnixSockets | None = None

    def connections(self, listener: Any) -> Connections | None:
        """Return the connections to this listener; None if it is neither TCP nor Unix, or not open.

        Raises:
            OSError: the kernel does not tell. That includes an answer without the listening socket itself, as in a
                sandbox, or where the socket comes from another network namespace.
        """
        if isinstance(listener, WorkersListener):
            return self._tcp(listener.family, listener.host, listener.port, None)
        sock = listener.sock
        if sock is None:
            return None
        inode = os.fstat(sock.fileno()).st_ino
        try:
            if sock.family == socket.AF_UNIX:
                return Connections(None, self._unread_unix(inode))
            if sock.family in (socket.AF_INET, socket.AF_INET6):
                host, port = sock.getsockname()[:2]
                return self._tcp(sock.family, host, port, inode)
        except struct.error as error:
            raise OSError(errno.EPROTO, os.strerror(errno.EPROTO)) from error
        return None

    def _unread_unix(self, inode: int) -> int:
        if self._unix is None:
            self._unix = sock_diag.unix_sockets(self._deadline)
        address = self._unix.listeners.get(inode)
        if address is None:
            raise _not_found()
        return self._unix.waiting[address]

    def _tcp(self, family: int, host: str, port: int, inode: int | None) -> Connections | None:
        found = self._ports.get((family, port))
        if found is None:
            found = self._ports[family, port] = sock_diag.tcp_port(family, port, self._deadline)
        address = socket.inet_pton(family, host.partition("%")[0])
        sockets = [listener for listener in found.listeners if listener.address == address]
        if inode is None and not sockets:  # no worker has started so far
            return None
        if inode not in (None, *(listener.inode for listener in sockets)):
            raise _not_found()
        if any(address):
            unread = found.waiting[address]
        else:  # any address, except those that have their own listening socket
            taken = {listener.address for listener in found.listeners}
            unread = sum(count for local, count in found.waiting.items() if local not in taken)
        return Connections((sum(one.queue for one in sockets), sum(one.limit for one in sockets)), unread)


def listener_name(listener: Any) -> str | None:
    """Return gunicorn's name of a listener; None once it is closed."""
    try:
        name = str(listener)
    except AttributeError:  # the master has closed it meanwhile: gunicorn's __str__ asks None for its address
        return None
    return name.encode(errors="replace").decode()  # a path need not be valid text, but the page must be


def workers_listeners(cfg: Any) -> list[WorkersListener]:
    """Return the addresses at which workers have their own listening sockets.

    Args:
        cfg: gunicorn's configuration. Host names other than localhost are left out: a scrape must not wait for DNS.
    """
    found: list[WorkersListener] = []
    for address in cfg.address if cfg.reuse_port else ():
        if isinstance(address, tuple):
            host, port = (address[0] if address[0] != "localhost" else _LOCALHOST), address[1]
            if _is_address(socket.AF_INET6, host):
                found.append(WorkersListener(f"http://[{host}]:{port}", socket.AF_INET6, host, port))
            elif _is_address(socket.AF_INET, host):
                scheme = "https" if cfg.is_ssl else "http"
                found.append(WorkersListener(f"{scheme}://{host}:{port}", socket.AF_INET, host, port))
    return found


def _accept_queue(listener: Any) -> tuple[int, int] | None:
    """Return queue and limit of the listener's socket; None if it does not listen.

    Raises:
        OSError: it is closed, or the kernel does not tell.
    """
    sock = listener.sock
    if sock is None:
        return None
    if sock.family == socket.AF_UNIX:
        return sock_diag.unix_backlog(os.fstat(sock.fileno()).st_ino)
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return None
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
    if len(info) < _TCP_INFO.size:
        return None
    state, waiting, limit = _TCP_INFO.unpack(info)
    return (waiting, limit) if state == _TCP_LISTEN else None


def _is_open(listener: Any) -> bool:
    return getattr(listener, "sock", None) is None or listener.sock.fileno() != -1


def _is_address(family: int, host: str) -> bool:
    try:
        socket.inet_pton(family, host)
    except (OSError, ValueError):
        return False
    return True


def _not_found() -> OSError:
    return OSError(errno.ENODATA, "its answer lacks the listening socket")
