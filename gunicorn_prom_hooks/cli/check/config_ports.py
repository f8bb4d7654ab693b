"""The ports of a configuration: bound for a moment, as the server would, and closed at once."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import psutil

from ...exporter.bound_sockets import Candidate, Listeners, where
from ...settings import Settings
from ..findings import Finding, note


def check_ports(cfg: Any, settings: Settings, *, is_running: bool) -> Iterator[Finding]:
    """Yield a finding for each address of gunicorn and of the metrics that cannot be bound.

    Args:
        cfg: gunicorn's.
        settings: of this package.
        is_running: whether the server is running, so that its ports are taken.
    """
    with ExitStack() as stack:
        # All at the same time: the port of the metrics may be one of gunicorn's.
        own = set()
        for host, port in _tcp_addresses(cfg):
            listeners = Listeners([_candidate(host, port)])
            stack.callback(listeners.close)
            own.add(port)
            for candidate, error in listeners.bind().failed:
                if error.errno != errno.EADDRINUSE or not (is_running or cfg.reuse_port):
                    yield _unbound(candidate, error, "bind", "the application")
        if settings.port:
            yield from _check_metrics(settings, own, stack, is_running=is_running)


def _check_metrics(settings: Settings, own: set[int], stack: ExitStack, *, is_running: bool) -> Iterator[Finding]:
    try:
        listeners = Listeners.of_name(settings.address, settings.port)
    except OSError as error:
        what = f"address {settings.address!r} has no IP address: {error.strerror or error}"
        yield Finding(what, "Set `address` or PROMETHEUS_BIND_ADDRESS to an address of this machine")
        return
    stack.callback(listeners.close)
    for candidate, failure in listeners.bind().failed:
        if failure.errno == errno.EADDRINUSE and settings.port in own:
            yield Finding(
                f"the metrics would be at {candidate.where}, which is a port of `bind`",
                "Set another `port` or PROMETHEUS_METRICS_PORT",
            )
        elif failure.errno != errno.EADDRINUSE or not is_running:
            yield _unbound(candidate, failure, "`address` and `port`", "the metrics")
    if not (listeners.is_local or settings.token or settings.basic_auth or settings.client_cafile):
        yield note(
            f"any client that can reach {where(settings.address, settings.port)} can read the metrics",
            "Set `token`, `basic_auth` or `client_cafile`, or keep the port behind a firewall",
        )


def _unbound(candidate: Candidate, error: OSError, setting: str, whose: str) -> Finding:
    if error.errno == errno.EADDRINUSE:
        return Finding(
            f"the port of {whose}, {candidate.where}, is taken{_holder(candidate.sockaddr[1])}",
            "End that process or set another port; if it is the server of this config, use --running",
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return Finding(
            f"the address of {whose}, {candidate.where}, is not one of this machine",
            f"Correct {setting}, or use 0.0.0.0 for all addresses",
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return Finding(
            f"the port of {whose}, {candidate.where}, may not be bound by this user",
            f"Set a port from 1024 in {setting}, or give the process CAP_NET_BIND_SERVICE",
        )
    return Finding(f"{candidate.where} for {whose} cannot be bound: {error.strerror or error}", f"Correct {setting}")


def _holder(port: int) -> str:
    """Return which process listens at a port, as far as this user may know; empty if not."""
    try:
        for connection in psutil.net_connections("tcp"):
            is_listener = connection.status == psutil.CONN_LISTEN and connection.laddr[1:2] == (port,)
            if is_listener and connection.pid:
                return f" by {psutil.Process(connection.pid).name()} (process {connection.pid})"
    except (psutil.Error, OSError):
        pass
    return ""


def _tcp_addresses(cfg: Any) -> Iterator[tuple[str, int]]:
    """Yield the TCP addresses that gunicorn binds itself."""
    if "LISTEN_FDS" in cfg.env_orig:
        return  # systemd has bound them
    for address in cfg.address:
        if isinstance(address, tuple):
            yield address[0], address[1]


def _candidate(host: str, port: int) -> Candidate:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return Candidate(family, socket.SOCK_STREAM, 0, (host, port))


def unix_folders(cfg: Any) -> Iterator[str]:
    """Yield the folders of the Unix sockets that gunicorn binds."""
    for address in cfg.address:
        if isinstance(address, str) and "LISTEN_FDS" not in cfg.env_orig:
            yield os.path.dirname(os.path.abspath(address))
