"""What waits in the kernel and inside workers, against what is really waiting."""

from __future__ import annotations

import socket
import ssl
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.blocking_apps import ASGI, LOOPS, UNREAD, UVICORN, WSGI, answer, blocked, connected, get, waiting
from tests.helpers.certificates import Certificates
from tests.helpers.servers import Samples, Server, eventually
from tests.integration.conftest import CONFIG, Serve

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of unread data")

CLIENT_HELLO = b"\x16\x03\x01\x02\x00"
"""The beginning of one."""
GTHREAD = "worker_class = 'gthread'\nthreads = 2\n"


def until(server: Server, queue: float, unread: float) -> Samples:
    """The first scrape in which so many wait in the accept queues, and so many in workers."""

    def probe() -> Samples:
        samples = server.scrape()
        assert waiting(samples) == (queue, unread)
        return samples

    return eventually(probe, f"{queue} in the queue, {unread} in workers")


@pytest.mark.parametrize("bind", ["tcp", "any", "tcp6", "both", "unix", "abstract", "reuse_port"])
def test_requests_beyond_busy_threads_wait_in_the_worker_and_not_in_the_queue(serve: Serve, bind: str) -> None:
    """A gthread worker takes 40 requests that its two threads have no time for: 40 wait in it, none in the queue."""
    binds = {
        "tcp": "['127.0.0.1:PORT']",
        "any": "['0.0.0.0:PORT']",
        "tcp6": "['127.0.0.1:PORT', '[::1]:PORT']",
        "both": "['[::]:PORT']",
        "unix": "['127.0.0.1:PORT', 'unix:sock']",
        "abstract": "['127.0.0.1:PORT', 'unix:\\0prom-hooks-PORT']",
        "reuse_port": "['127.0.0.1:PORT']\nreuse_port = True",
    }
    server = serve(GTHREAD + f"bind = {binds[bind]}\n", app=WSGI)
    tcp: tuple[int, Any] = (socket.AF_INET, ("127.0.0.1", server.port))
    family, address = {
        "tcp6": (socket.AF_INET6, ("::1", server.port)),
        "unix": (socket.AF_UNIX, str(server.folder / "sock")),
        "abstract": (socket.AF_UNIX, f"\0prom-hooks-{server.port}"),
    }.get(bind, tcp)
    until(server, 0, 0)
    with blocked(server, family, address, 2), connected(family, address, *[get()] * 40) as clients:
        samples = until(server, 0, 40)
        assert sorted(value for _, value in samples.all(UNREAD))[:-1] == [0] * (len(samples.all(UNREAD)) - 1)
        assert samples.one("gunicorn_requests_in_progress") == samples.one("gunicorn_requests_capacity") == 2
        (server.folder / "block").rename(server.folder / "block-no-more")
        for client in clients:
            answer(client)
        until(server, 0, 0)  # 40 connections that are kept, and idle
        (server.folder / "block").touch()


@pytest.mark.parametrize("kind", ["sync", *LOOPS])
def test_connections_waiting_for_a_blocked_worker_are_all_counted(serve: Serve, kind: str) -> None:
    """Whether a worker accepts while it is blocked or not: in the queue and in it are those that wait, all of them."""
    app, config = LOOPS.get(kind, (WSGI, ""))
    server = serve(config + "timeout = 120\nkeepalive = 60\n", app=app)
    address = "127.0.0.1", server.port
    with connected(socket.AF_INET, address, get()) as kept:
        answer(kept[0])
        until(server, 0, 0)
        with blocked(server, socket.AF_INET, address), connected(socket.AF_INET, address, *[get()] * 10):
            asked_again = 0
            if kind != "sync":  # which keeps no connection
                kept[0].sendall(get())
                asked_again = 1

            def probe() -> Samples:
                samples = server.scrape()
                assert sum(waiting(samples)) == 10 + asked_again
                assert waiting(samples)[1] >= asked_again
                return samples

            eventually(probe, "all that wait are counted")
        until(server, 0, 0)


@pytest.mark.parametrize("config", [GTHREAD, f"worker_class = '{UVICORN}'\n"], ids=["gthread", "uvicorn"])
def test_idle_and_half_closed_connections_are_not_waiting(serve: Serve, config: str) -> None:
    """Connections that are kept and idle, and clients that have left, are none that wait."""
    server = serve("keepalive = 60\nworker_connections = 500\n" + config, app=WSGI if config is GTHREAD else ASGI)
    with connected(socket.AF_INET, ("127.0.0.1", server.port), *[get()] * 200) as clients:
        for client in clients:
            answer(client)
        for client in clients[:100]:
            client.shutdown(socket.SHUT_WR)
        until(server, 0, 0)


def test_reuse_port_queues_of_workers_are_summed_under_the_address(serve: Serve) -> None:
    """With reuse_port the workers' own accept queues are added up, under the name that gunicorn has for the address."""
    server = serve("workers = 2\nreuse_port = True\nbacklog = 50\ntimeout = 120\n", app=WSGI)
    server.wait_for_workers(2)
    address = "127.0.0.1", server.port
    name = f"http://127.0.0.1:{server.port}"
    file = server.folder / "block"
    file.touch()
    # The kernel chooses the worker by the client's port, so some more than two may be needed until both are blocked.
    with connected(socket.AF_INET, address, *[get("/block")] * 30):

        def probe() -> Samples:
            samples = server.scrape()
            assert samples.one("gunicorn_requests_in_progress") == 2
            assert samples.one("gunicorn_listener_backlog", listener=name) == 28
            return samples

        samples = eventually(probe, "28 wait for the two workers")
        assert samples.one("gunicorn_listener_backlog_limit", listener=name) == 100
        file.unlink()
    until(server, 0, 0)


def test_tls_handshakes_and_unread_requests_are_waiting_connections(serve: Serve, tmp_path: Path) -> None:
    """Over TLS, too: what is unread is a handshake that waits for a thread, or a request on a kept connection."""
    certificates = Certificates(tmp_path / "certificates")
    files = f"certfile = {str(certificates.cert)!r}\nkeyfile = {str(certificates.key)!r}\n"
    server = serve(GTHREAD + "bind = ['127.0.0.1:PORT']\n", app=WSGI)
    server.stop()
    server.configure(
        CONFIG + GTHREAD + "keepalive = 60\n" + files
    )  # only now: the fixture asks without TLS whether it answers
    server.start()
    eventually(lambda: server.scrape().sum("gunicorn_workers", state="running") == 1, "it runs with TLS")
    address = "127.0.0.1", server.port
    context = ssl.create_default_context(cafile=str(certificates.ca))
    (server.folder / "block").touch()
    with ExitStack() as stack:
        clients = []
        for path in ("/", "/block", "/block"):
            sock = stack.enter_context(socket.create_connection(address, 20))
            client = stack.enter_context(context.wrap_socket(sock, server_hostname="127.0.0.1"))
            client.sendall(get(path))
            if path == "/":
                answer(client)
            clients.append(client)
        eventually(lambda: server.scrape().one("gunicorn_requests_in_progress") == 2, "both threads are stuck")
        until(server, 0, 0)
        clients[0].sendall(get())
        stack.enter_context(connected(socket.AF_INET, address, *[CLIENT_HELLO] * 5))
        until(server, 0, 6)
        (server.folder / "block").unlink()
        for client in clients:
            answer(client)


def test_request_with_an_unread_body_is_a_waiting_connection(serve: Serve) -> None:
    """A request in progress whose body the application has not read yet has unread data as well."""
    server = serve(GTHREAD, app=WSGI)
    (server.folder / "block").touch()
    head = b"POST /block HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"
    with connected(socket.AF_INET, ("127.0.0.1", server.port), head) as clients:
        eventually(lambda: server.scrape().one("gunicorn_requests_in_progress") == 1, "it is in progress")
        until(server, 0, 0)
        clients[0].sendall(b"x" * 500_000)
        until(server, 0, 1)
        (server.folder / "block").unlink()


REFUSING = """
import errno, socket
from gunicorn_prom_hooks.collectors import sock_diag

def unpatched(module, name):
    if name == "socket":
        raise OSError(errno.EPERM, "Operation not permitted")
    return getattr(socket, name)

sock_diag.unpatched = unpatched
"""


def test_denied_netlink_omits_waiting_connections_and_is_logged_once(serve: Serve) -> None:
    """Where no netlink may be used the family is missing, the backlog is not, and the log says so once."""
    server = serve(app=WSGI, config=REFUSING + CONFIG)
    for _ in range(3):
        samples = server.scrape()
        assert samples.all(UNREAD) == []
        assert samples.one("gunicorn_listener_backlog") == 0
        assert samples.one("gunicorn_exporter_collector_success", collector="backlog") == 1
    assert server.log.count("no gunicorn_listener_waiting_connections: the kernel does not tell: Operation not") == 1
    assert samples.sum("gunicorn_exporter_errors_total") == 0
