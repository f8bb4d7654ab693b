"""Where a server listens: its name, and what the kernel tells of the connections behind the address."""

from __future__ import annotations

import errno
import os
import socket
import struct
import time
from typing import Any, Final, NamedTuple

from . import sock_diag

_LOCALHOST: Final = "127.0.0.1"


class WorkersListener:
    """An address at which each worker has a listening socket of its own, and the master has none: ``reuse_port``.

    Args:
        name: as gunicorn calls such a socket.
        family: AF_INET or AF_INET6.
        host: an address.
        port: TCP port.
    """

    sock = None

    def __init__(self, name: str, family: int, host: str, port: int) -> None:
        self._name = name
        self.family = family
        self.host = host
        self.port = port

    def __str__(self) -> str:
        return self._name


class Connections(NamedTuple):
    """What the kernel tells of an address.

    Attributes:
        queue: number of connections in the accept queues, and how many these may hold; None for a Unix socket.
        unread: number of accepted connections with unread data.
    """

    queue: tuple[int, int] | None
    unread: int


class Kernel:
    """Answers of the kernel, each asked for once.

    Args:
        seconds: time for all of them together.
    """

    def __init__(self, seconds: float = sock_diag.TIMEOUT_SECONDS) -> None:
        self._deadline = time.monotonic() + seconds
        self._ports: dict[tuple[int, int], sock_diag.TcpPort] = {}
        self._unix: sock_diag.UnixSockets | None = None

    def connections(self, listener: Any) -> Connections | None:
        """Return what the kernel tells of this listener; None if it is neither TCP nor Unix, or not open.

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
        ours = [listener for listener in found.listeners if listener.address == address]
        if inode is None and not ours:  # no worker has come so far
            return None
        if inode not in (None, *(listener.inode for listener in ours)):
            raise _not_found()
        if any(address):
            unread = found.waiting[address]
        else:  # any address, but for those that have a listening socket of their own
            taken = {listener.address for listener in found.listeners}
            unread = sum(count for local, count in found.waiting.items() if local not in taken)
        return Connections((sum(one.queue for one in ours), sum(one.limit for one in ours)), unread)


def listener_name(listener: Any) -> str | None:
    """Return what gunicorn calls a listener; None once it is closed."""
    try:
        name = str(listener)
    except AttributeError:  # the master has closed it meanwhile: gunicorn's __str__ asks None for its address
        return None
    return name.encode(errors="replace").decode()  # a path need not be valid text, but the page must be


def workers_listeners(cfg: Any) -> list[WorkersListener]:
    """Return the addresses at which workers listen with sockets of their own.

    Args:
        cfg: gunicorn's configuration. Host names other than localhost are left out: a scrape must not wait for DNS.
    """
    found: list[WorkersListener] = []
    if not cfg.reuse_port:
        return found
    for address in cfg.address:
        if isinstance(address, tuple):
            host, port = (address[0] if address[0] != "localhost" else _LOCALHOST), address[1]
            if _is_address(socket.AF_INET6, host):
                found.append(WorkersListener(f"http://[{host}]:{port}", socket.AF_INET6, host, port))
            elif _is_address(socket.AF_INET, host):
                scheme = "https" if cfg.is_ssl else "http"
                found.append(WorkersListener(f"{scheme}://{host}:{port}", socket.AF_INET, host, port))
    return found


def _is_address(family: int, host: str) -> bool:
    try:
        socket.inet_pton(family, host)
    except (OSError, ValueError):
        return False
    return True


def _not_found() -> OSError:
    return OSError(errno.ENODATA, "its answer lacks the listening socket")
