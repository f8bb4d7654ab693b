"""The exporter through reloads: what becomes of one whose thread does not end in time."""

from __future__ import annotations

import os
import socket
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from gunicorn_prom_hooks.errors import ErrorReporter
from gunicorn_prom_hooks.exporter import server
from gunicorn_prom_hooks.exporter.manager import ExporterManager
from gunicorn_prom_hooks.settings import Settings
from tests.helpers.servers import eventually
from tests.unit.exporter.test_server import LOCK, Log, unused_port


def is_open(descriptor: int) -> bool:
    """Return whether this process has the descriptor open."""
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def is_refused(port: int) -> bool:
    """Return whether a connection to the port is refused."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=10).close()
    except ConnectionRefusedError:
        return True
    return False


def test_forked_child_closes_an_exporter_whose_thread_has_not_ended_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reload changes the port while the thread is busy. No worker keeps the former port, and the thread closes it."""
    busy, go_on = threading.Event(), threading.Event()

    def is_ready() -> bool:
        busy.set()
        return go_on.wait(30.0)

    source: Any = SimpleNamespace(is_ready=is_ready, take_snapshot=None)
    monkeypatch.setattr(server, "STOP_SECONDS", 0.05)
    manager = ExporterManager(source, LOCK, ErrorReporter(), Log())
    first, second = unused_port(), unused_port()
    manager.apply(Settings(port=first, status_page=False))
    exporter = manager.exporter
    assert exporter is not None
    assert exporter._wakeup_pipe is not None
    with socket.create_connection(("127.0.0.1", first), timeout=10) as client:
        client.sendall(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert busy.wait(30.0)
        assert exporter._connections is not None
        descriptors = [exporter._wakeup_pipe.fd, *exporter._listeners.open, *exporter._connections.open]
        assert len(descriptors) == 3
        manager.apply(Settings(port=second, status_page=False))
        child = os.fork()
        if not child:
            left = True
            try:
                manager.close_in_child()
                left = any(map(is_open, descriptors))
            finally:
                os._exit(left)
        assert os.waitpid(child, 0)[1] == 0
        assert all(map(is_open, descriptors))
        go_on.set()
        eventually(lambda: is_refused(first), "the first port is closed")
        eventually(lambda: not is_open(descriptors[0]), "the pipe is closed")
    manager.close()
    assert is_refused(second)
