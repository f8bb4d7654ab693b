"""Sockets of this process, as a collector sees those of a server."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gunicorn_prom_hooks.collectors import listeners
from tests.helpers.snapshots import Samples, SimulatedServer, samples

SOMAXCONN = Path("/proc/sys/net/core/somaxconn")
PATIENCE_SECONDS = 10.0
BACKLOG = 7


class Listener:
    """A listener with the attributes of gunicorn's that collectors read."""

    def __init__(self, sock: Any, name: str) -> None:
        self.sock = sock
        self.name = name

    def __str__(self) -> str:
        return self.name


class Network:
    """Sockets of a simulated server, all closed at the end."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._opened = contextlib.ExitStack()
        self.server = SimulatedServer()

    def close(self) -> None:
        """Close them."""
        self._opened.close()

    def bound(self, kind: str) -> socket.socket:
        """Return a socket of this kind with its own address."""
        if kind == "tcp6" and not has_ipv6():
            pytest.skip("this machine has no IPv6")
        families = {"tcp": socket.AF_INET, "tcp6": socket.AF_INET6}
        sock = self._opened.enter_context(socket.socket(families.get(kind, socket.AF_UNIX)))
        path = str(self._directory / f"{sock.fileno()}.sock")
        addresses: dict[str, Any] = {"tcp": ("127.0.0.1", 0), "tcp6": ("::1", 0), "unix": path, "abstract": f"\0{path}"}
        sock.bind(addresses[kind])
        return sock

    def listen(self, kind: str, name: str | None = None, limit: int = BACKLOG) -> socket.socket:
        """Return a listening socket of this kind, among the listeners of the server as ``name`` or its kind."""
        sock = self.bound(kind)
        sock.listen(limit)
        self.server.listeners.append(Listener(sock, name or kind))
        return sock

    def keep(self, sock: socket.socket) -> socket.socket:
        """Return this socket, and close it at the end."""
        return self._opened.enter_context(sock)

    def connect(self, sock: socket.socket, count: int, data: bytes = b"") -> None:
        """Connect clients to the socket. Each sends this data."""
        for _ in range(count):
            client = self.keep(socket.socket(sock.family))
            client.connect(sock.getsockname())
            client.sendall(data)

    def collect(self) -> Samples:
        """Return the collector's samples."""
        return samples(listeners.collect(self.server.snapshot()))

    def settled(self, wanted: Callable[[Samples], bool]) -> Samples:
        """Return the samples once they are as wanted. The kernel may queue TCP connections later."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        found = self.collect()
        while not wanted(found):
            assert time.monotonic() < deadline, found
            found = self.collect()
        return found


def has_ipv6() -> bool:
    """Return whether an IPv6 socket can have an address here."""
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


def capped(limit: int) -> int:
    """Return the limit that the kernel makes of this argument of listen()."""
    return min(limit, int(SOMAXCONN.read_text()))


def descriptors() -> int:
    """Return the number of open file descriptors of this process."""
    return len(os.listdir("/proc/self/fd"))
