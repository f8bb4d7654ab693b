"""What waits at each listening socket: in the accept queue, and accepted but unread."""

from __future__ import annotations

import os
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from typing import Any

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from ..model.server_snapshot import ServerSnapshot
from .listeners import Kernel, listener_name
from .sock_diag import unix_backlog

_LABELS = ("listener",)
_TCP_LISTEN = 10
_TCP_INFO = struct.Struct("=B23xII")
"""The beginning of struct tcp_info (linux/tcp.h): tcpi_state, and at offset 24 tcpi_unacked and tcpi_sacked.

Of a listening socket the last two are the connections that wait and their limit (tcp_get_info() in net/ipv4/tcp.c).
"""
_NOT_TOLD = "gunicorn_prom_hooks: no gunicorn_listener_waiting_connections: the kernel does not tell: %s"


def ignore(text: str) -> None:
    """Take no note of anything."""


def collect(view: ServerSnapshot, note: Callable[[str], None] = ignore) -> Iterator[Metric]:
    """Yield queue, limit and unread connections of each listener, as far as the kernel tells them.

    Args:
        view: of the server.
        note: takes a line for the log where the kernel does not tell of unread connections.
    """
    if sys.platform != "linux":  # FreeBSD has a TCP_INFO as well, with another meaning
        note(_NOT_TOLD % sys.platform)
        return
    kernel = Kernel()
    queues: dict[str, float] = {}
    limits: dict[str, float] = {}
    unread: dict[str, float] = {}
    for listener in view.listeners:
        name = queue = found = None
        try:
            name = listener_name(listener)
            queue = _queue(listener)
        except OSError:  # closed meanwhile, or a sandbox or a kernel without the means to tell
            pass
        if name is None:
            continue
        try:
            found = kernel.connections(listener)
        except OSError as error:
            if _is_open(listener):
                note(_NOT_TOLD % (error.strerror or error))
        if queue is None and found is not None:
            queue = found.queue
        if queue is not None:
            waiting, limit = queue
            queues[name] = queues.get(name, 0) + waiting
            limits[name] = limits.get(name, 0) + limit
        if found is not None:
            unread[name] = unread.get(name, 0) + found.unread
    yield from _family("gunicorn_listener_backlog", "Connections in the accept queue.", queues)
    yield from _family(
        "gunicorn_listener_backlog_limit",
        "Connections that the accept queue may hold: gunicorn's backlog, or net.core.somaxconn if that is less.",
        limits,
    )
    yield from _family(
        "gunicorn_listener_waiting_connections",
        "Connections that a worker has accepted and whose data it has not read yet.",
        unread,
    )


def _family(name: str, documentation: str, values: dict[str, float]) -> Iterator[Metric]:
    """Yield the family, if it has any value."""
    if values:
        family = GaugeMetricFamily(name, documentation, labels=_LABELS)
        for listener, value in values.items():
            family.add_metric((listener,), value)
        yield family


def _is_open(listener: Any) -> bool:
    return getattr(listener, "sock", None) is None or listener.sock.fileno() != -1


def _queue(listener: Any) -> tuple[int, int] | None:
    """Return queue and limit of a listener's own socket; None if it is not a listening one.

    Raises:
        OSError: it is closed, or the kernel does not tell.
    """
    sock = listener.sock
    if sock is None:
        return None
    if sock.family == socket.AF_UNIX:
        return unix_backlog(os.fstat(sock.fileno()).st_ino)
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return None
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
    if len(info) < _TCP_INFO.size:
        return None
    state, waiting, limit = _TCP_INFO.unpack(info)
    return (waiting, limit) if state == _TCP_LISTEN else None
