"""The exporter's life: every address of its name, its thread, and what it does without one."""

from __future__ import annotations

import _thread
import contextlib
import errno
import http.client
import random
import socket
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from gunicorn_prom_hooks.concurrency import ForkLock
from gunicorn_prom_hooks.errors import ErrorReporter
from gunicorn_prom_hooks.exporter import bound_sockets, server
from gunicorn_prom_hooks.exporter.auth import Credentials
from gunicorn_prom_hooks.exporter.bound_sockets import Candidate, Listeners
from gunicorn_prom_hooks.exporter.event_loop import Connections
from gunicorn_prom_hooks.exporter.server import Exporter, ExporterConfig

LOCK = ForkLock(lambda: None)
NAME = "metrics.test"


class Log:
    """gunicorn's logger."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def __getattr__(self, level: str) -> Callable[..., None]:
        def keep(text: str, *args: object, **kwargs: object) -> None:
            self.lines.append((level, text % args))

        return keep


class House:
    """An exporter of a name that has these addresses."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, addresses: tuple[str, ...]) -> None:
        real = socket.getaddrinfo

        def getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> list[Any]:
            if host != NAME:
                return real(host, *args, **kwargs)
            return [found for address in addresses for found in real(address, *args, **kwargs)]

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        monkeypatch.setattr(bound_sockets, "RETRY_SECONDS", 0.05)
        monkeypatch.setattr(server, "RETRY_SECONDS", 0.05)
        self.log, self.errors = Log(), ErrorReporter()
        self.errors.log = self.log
        self.port = unused_port()
        pages: Any = SimpleNamespace(paths=())
        access = ExporterConfig(Credentials(), None, pages)
        self.exporter = Exporter(access, lambda: True, LOCK, self.errors, self.log, NAME, self.port)

    def status(self, address: str) -> int:
        """Return the status of the health check at this address; 0 if no server listens there."""
        connection = http.client.HTTPConnection(address, self.port, timeout=10)
        try:
            connection.request("GET", "/healthz")
            return connection.getresponse().status
        except ConnectionError:
            return 0
        finally:
            connection.close()

    def until(self, probe: Callable[[], object]) -> None:
        """Waits for it."""
        deadline = time.monotonic() + 30.0
        while not probe():
            assert time.monotonic() < deadline, self.log.lines
            time.sleep(0.01)


Build = Callable[..., House]


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch) -> Iterator[Build]:
    """Makes a house, whose exporter is stopped in the end."""
    with contextlib.ExitStack() as stack:

        def make(*addresses: str) -> House:
            house = House(monkeypatch, addresses)
            stack.callback(house.exporter.stop)
            return house

        yield make


def unused_port() -> int:
    """Return a port that is free and that no outgoing connection is given."""
    while True:
        port = random.randrange(10_000, 32_000)
        with contextlib.suppress(OSError), socket.create_server(("0.0.0.0", port)):
            return port


def needs_ipv6() -> None:
    """Skips where there is none."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 here")


def test_exporter_serves_each_address_of_its_name_once(build: Build) -> None:
    """Every address answers, one that comes twice is bound once, and one line says so."""
    house = build("127.0.0.1", "127.0.0.2", "127.0.0.1")
    house.exporter.start()
    assert [house.status(address) for address in ("127.0.0.1", "127.0.0.2", "127.0.0.3")] == [200, 200, 0]
    assert house.log.lines == [("info", f"gunicorn_prom_hooks: metrics at http://{NAME}:{house.port}/metrics")]
    assert house.exporter.is_local
    house.exporter.stop()
    assert [house.status(address) for address in ("127.0.0.1", "127.0.0.2")] == [0, 0]


def test_exporter_serves_ipv4_and_ipv6_addresses_of_one_name(build: Build) -> None:
    """IPv6 and IPv4 of one name are both served, the wildcard addresses of both too, and ``::`` alone takes both."""
    needs_ipv6()
    for addresses in (("::1", "127.0.0.1"), ("127.0.0.1", "::1"), ("::", "0.0.0.0"), ("0.0.0.0", "::"), ("::",)):
        house = build(*addresses)
        house.exporter.start()
        assert [house.status(address) for address in ("127.0.0.1", "::1")] == [200, 200], addresses
        assert len(house.log.lines) == 1
        house.exporter.stop()


def test_address_in_use_is_logged_and_the_others_are_served(build: Build) -> None:
    """The others are served; the log says which one is missing, once, and when it is there."""
    house = build("127.0.0.1", "127.0.0.2")
    with socket.create_server(("127.0.0.2", house.port)):
        house.exporter.start()
        assert house.status("127.0.0.1") == 200
        time.sleep(0.2)  # several tries
        missing = f"gunicorn_prom_hooks: no metrics at 127.0.0.2:{house.port} yet: Address already in use; "
        assert [(level, line.startswith(missing)) for level, line in house.log.lines] == [
            ("warning", True),
            ("info", False),
        ]
        assert house.log.lines[1][1] == f"gunicorn_prom_hooks: metrics at http://127.0.0.1:{house.port}/metrics"
    house.until(lambda: house.status("127.0.0.2") == 200)
    assert house.status("127.0.0.1") == 200
    assert house.log.lines[2:] == [("info", f"gunicorn_prom_hooks: metrics at http://127.0.0.2:{house.port}/metrics")]


def test_address_of_another_machine_is_logged_as_info(build: Build) -> None:
    """IPv6 of a name where there is no IPv6 is no reason for a warning."""
    house = build("203.0.113.7", "127.0.0.1")
    house.exporter.start()
    assert house.status("127.0.0.1") == 200
    assert [level for level, _ in house.log.lines] == ["info", "info"]
    assert "203.0.113.7" in house.log.lines[0][1]
    assert not house.exporter.is_local


def test_port_in_use_is_retried_until_it_is_free(build: Build) -> None:
    """A port that is taken is tried again until it is free, and a stop meanwhile does not wait."""
    house = build("127.0.0.1")
    with socket.create_server(("127.0.0.1", house.port)):
        house.exporter.start()
        [(level, line)] = house.log.lines
        assert level == "warning"
        assert f"no metrics at {NAME}:{house.port} yet" in line
    house.until(lambda: house.status("127.0.0.1") == 200)
    start = time.monotonic()
    house.exporter.stop()
    assert time.monotonic() - start < 1.0


@pytest.mark.parametrize(
    "error", [RuntimeError("can't start new thread"), MemoryError("no memory"), OSError(errno.EMFILE, "Too many files")]
)
def test_failed_thread_start_is_logged_once_and_leaves_no_port_open(
    error: Exception, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without its thread nothing listens, one line says so however often it is tried, and a later try is as good."""
    house = build("127.0.0.1", "127.0.0.2")

    def fails(*_: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        if isinstance(error, OSError):
            patch.setattr(server, "WakeupPipe", fails)
        else:
            patch.setattr(_thread, "start_new_thread", fails)
        for _ in range(5):
            house.exporter.start()
        assert not house.exporter.is_running
        assert house.status("127.0.0.1") == 0
        start = time.monotonic()
        house.exporter.stop()
        assert time.monotonic() - start < 0.5
    [(level, line)] = house.log.lines
    assert level == "error"
    assert f"no metrics at {NAME}:{house.port}: the exporter cannot start: {error}" in line
    assert house.errors.counts == {"exporter": 5}
    fresh = build("127.0.0.1", "127.0.0.2")
    with monkeypatch.context() as patch:
        patch.setattr(_thread, "start_new_thread", fails)
        fresh.exporter.start()
    fresh.exporter.start()
    assert [fresh.status(address) for address in ("127.0.0.1", "127.0.0.2")] == [200, 200]


def test_exited_thread_closes_the_port_and_can_be_started_again(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever ends the thread, its port is closed, and the next start serves as ever."""
    house = build("127.0.0.1")
    serve = Exporter._serve
    monkeypatch.setattr(Exporter, "_serve", lambda *_: _thread.exit())
    house.exporter.start()
    house.until(lambda: not house.exporter.is_running)
    assert house.status("127.0.0.1") == 0
    monkeypatch.setattr(Exporter, "_serve", serve)
    house.exporter.start()
    assert house.status("127.0.0.1") == 200


def test_failed_loop_is_counted_and_serves_again(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure of the loop, and one while it is made, is told; the port is given up and taken again."""
    house = build("127.0.0.1")
    real = Connections
    broken = iter([ValueError("broken"), ValueError("broken")])

    def connections(*args: Any) -> Any:
        for error in broken:
            raise error
        return real(*args)

    monkeypatch.setattr(server, "Connections", connections)
    house.exporter.start()
    house.until(lambda: house.status("127.0.0.1") == 200)
    assert house.errors.counts == {"exporter": 2}
    assert house.exporter.is_running


def test_close_in_child_closes_every_listening_socket(build: Build) -> None:
    """What a forked child closes is every listening socket."""
    house = build("127.0.0.1", "127.0.0.2")
    house.exporter.start()
    sockets = list(house.exporter._listeners.open.values())
    assert len(sockets) == 2
    house.exporter.stop()
    house.exporter.close_in_child()
    assert [sock.fileno() for sock in sockets] == [-1, -1]


def test_bound_addresses_are_not_bound_again() -> None:
    """A second try is for what is missing, and there is none when nothing is."""
    candidates = [Candidate(socket.AF_INET, socket.SOCK_STREAM, 0, ("127.0.0.1", 0))] * 2
    both = Listeners(candidates)
    try:
        assert len(both.bind().bound) == 1
        assert both.next_try is None
        assert both.bind() == ([], [])
        both.close()
        assert both.next_try is not None
    finally:
        both.close()
