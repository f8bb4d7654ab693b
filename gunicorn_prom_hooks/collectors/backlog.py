"""The accept queue of each listening socket: what waits for a worker to be free."""

from __future__ import annotations

import os
import socket
import struct
import sys
from collections.abc import Iterator
from typing import Any

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from .sock_diag import unix_backlog
from .view import View

_LABELS = ("listener",)
_TCP_LISTEN = 10
_TCP_INFO = struct.Struct("=B23xII")
"""The beginning of struct tcp_info (linux/tcp.h): tcpi_state, and at offset 24 tcpi_unacked and tcpi_sacked.

Of a listening socket the last two are the connections that wait and their limit (tcp_get_info() in net/ipv4/tcp.c).
"""


def collect(view: View) -> Iterator[Metric]:
    """Queue and limit of each listener that the kernel tells of; no family if it tells of none."""
    if sys.platform != "linux":  # FreeBSD has a TCP_INFO as well, with another meaning
        return
    queues: dict[str, tuple[int, int]] = {}
    for listener in view.listeners:
        try:
            found = _queue(listener)
        except OSError:  # closed meanwhile, or a sandbox or a kernel without the means to tell
            continue
        if found is not None:
            name, waiting, limit = found
            same_name = queues.get(name, (0, 0))
            queues[name] = same_name[0] + waiting, same_name[1] + limit
    if not queues:
        return
    backlog = GaugeMetricFamily(
        "gunicorn_listener_backlog", "Connections that wait in the accept queue.", labels=_LABELS
    )
    limits = GaugeMetricFamily(
        "gunicorn_listener_backlog_limit",
        "Connections that the kernel lets wait: gunicorn's backlog, or net.core.somaxconn if that is less.",
        labels=_LABELS,
    )
    for name, (waiting, limit) in queues.items():
        backlog.add_metric((name,), waiting)
        limits.add_metric((name,), limit)
    yield from (backlog, limits)


def _queue(listener: Any) -> tuple[str, int, int] | None:
    sock = listener.sock
    name = listener_name(listener)
    if sock is None or name is None:
        return None
    if sock.family == socket.AF_UNIX:
        found = unix_backlog(os.fstat(sock.fileno()).st_ino)
    elif sock.family in (socket.AF_INET, socket.AF_INET6):
        found = _tcp_backlog(sock)
    else:
        found = None
    return None if found is None else (name, *found)


def listener_name(listener: Any) -> str | None:
    """What gunicorn calls it; None once it is closed."""
    try:
        name = str(listener)
    except AttributeError:  # the master has closed it meanwhile: gunicorn's __str__ asks None for its address
        return None
    return name.encode(errors="replace").decode()  # a path need not be valid text, but the page must be


def _tcp_backlog(sock: Any) -> tuple[int, int] | None:
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
    if len(info) < _TCP_INFO.size:
        return None
    state, waiting, limit = _TCP_INFO.unpack(info)
    return (waiting, limit) if state == _TCP_LISTEN else None
