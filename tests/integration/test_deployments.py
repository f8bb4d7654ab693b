"""However gunicorn is run, each request is counted once, and no hook fails."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import requests

from tests.helpers.places import APPLICATIONS
from tests.helpers.servers import Samples, Server, eventually, unused_port
from tests.integration.conftest import CONFIG, Serve

EACH = 40
COUNTING = APPLICATIONS / "counting.py"


def counted(server: Server, before: int = 1) -> Samples:
    """Sends forty requests, four at a time; the page on which all of them are, and those from before, and no more."""
    with ThreadPoolExecutor(4) as pool:
        assert {answer.status_code for answer in pool.map(server.get, [f"/items/{n}" for n in range(EACH)])} == {200}
    samples = server.settled(before + EACH)
    assert samples.sum("gunicorn_requests_total") == before + EACH
    assert samples.sum("gunicorn_requests_total", endpoint="/items/:id", status="200") >= EACH
    assert samples.sum("gunicorn_failed_requests_total") == 0
    assert samples.sum("gunicorn_exporter_errors_total") == 0
    assert samples.one("gunicorn_requests_in_progress") == 0
    return samples


def renewed(server: Server) -> None:
    """Has a HUP replace both workers."""
    old = {worker.pid for worker in server.workers()}
    server.signal(signal.SIGHUP)
    eventually(lambda: not old & {worker.pid for worker in server.workers()}, "new workers")
    server.wait_for_workers(2)


@pytest.mark.parametrize(
    ("way", "worker"),
    [
        ("preload_app = True", "sync"),
        ("preload_app = True", "gthread"),
        ("preload_app = True", "gevent"),
        ("reuse_port = True", "sync"),
        ("reuse_port = True", "gevent"),
        ("worker_tmp_dir = '/dev/shm'", "gthread"),
    ],
)
def test_requests_are_counted_before_and_after_hup_with_each_setting(serve: Serve, way: str, worker: str) -> None:
    """With each of these settings, before and after a HUP."""
    server = serve(f"workers = 2\nworker_class = {worker!r}\n{way}\n", app=COUNTING)
    server.wait_for_workers(2)
    assert counted(server).one("served_total") == EACH + 1
    renewed(server)
    assert counted(server, EACH + 1).one("served_total") == 2 * EACH + 1


@pytest.mark.parametrize("engine", ["poll", "auto"])
def test_reload_on_a_changed_file_keeps_counts(serve: Serve, engine: str) -> None:
    """With --reload a changed file replaces the workers, which go on counting where the others were."""
    server = serve(f"workers = 2\nreload = True\nreload_engine = {engine!r}\n", app=COUNTING)
    server.wait_for_workers(2)
    counted(server)
    old = {worker.pid for worker in server.workers()}
    server.write_application(COUNTING.read_text().replace("VERSION", "changed"))
    eventually(lambda: not old & {worker.pid for worker in server.workers()}, "new workers")
    server.wait_for_workers(2)
    samples = counted(server, EACH + 1)
    assert samples.one("served_total") == 2 * EACH + 1
    assert server.get("/").text.endswith("changed")


def ask(connection: http.client.HTTPConnection) -> int:
    """The status of an answer, which is read to its end."""
    with contextlib.closing(connection):
        connection.request("GET", "/items/1")
        response = connection.getresponse()
        response.read()
        return response.status


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=20)
        self._path = str(path)

    def connect(self) -> None:
        """Connects."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(20)
        self.sock.connect(self._path)


@pytest.mark.parametrize("worker", ["sync", "gthread", "gevent"])
def test_requests_on_each_of_several_sockets_are_counted(serve: Serve, worker: str) -> None:
    """Requests count the same on whichever of several sockets they come, TCP or Unix."""
    other = unused_port()
    more = f"workers = 2\nworker_class = {worker!r}\nbind = ['127.0.0.1:PORT', '127.0.0.1:{other}', 'unix:sock']\n"
    server = serve(more, app=COUNTING)
    server.wait_for_workers(2)
    for _ in range(10):
        assert server.get("/items/1").status_code == 200
        assert ask(http.client.HTTPConnection("127.0.0.1", other, timeout=20)) == 200
        assert ask(UnixConnection(server.folder / "sock")) == 200
    samples = counted(server, 31)
    assert samples.one("served_total") == EACH + 31
    assert len(samples.all("gunicorn_listener_backlog")) == 3


class OverUnix(Server):
    """A gunicorn that listens on a Unix socket alone."""

    def get(self, path: str, **keywords: object) -> requests.Response:
        """A request to the application."""
        response = requests.Response()
        response.status_code = ask(UnixConnection(self.folder / "sock"))
        return response


def test_requests_on_a_unix_socket_alone_are_counted(tmp_path: Path) -> None:
    """Where there is no TCP but the exporter's own."""
    with OverUnix(tmp_path / "1", app=COUNTING, config=CONFIG + "bind = 'unix:sock'\nworkers = 2\n") as server:
        server.wait_for_workers(2)
        assert counted(server).one("served_total") == EACH + 1


class Daemon(Server):
    """A gunicorn that has left its terminal; its master is known by the pid file."""

    def start(self) -> None:
        """Starts it, and waits for the process that only started the daemon."""
        super().start()
        assert self.process is not None
        assert self.process.wait(30) == 0

    def stop(self) -> None:
        """Ends the processes on record: the master of the pid file, and its workers."""
        with contextlib.suppress(FileNotFoundError, psutil.NoSuchProcess):
            master = psutil.Process(self.pid)
            family = [master, *master.children()]
            master.terminate()
            for process in psutil.wait_procs(family, 20)[1]:
                process.kill()

    @property
    def pid(self) -> int:
        """Of the master."""
        return int((self.folder / "pid").read_text())


def test_requests_of_a_daemon_are_counted_before_and_after_hup(tmp_path: Path) -> None:
    """With --daemon, which forks twice after the config file has been read."""
    config = CONFIG + "daemon = True\npidfile = 'pid'\nerrorlog = 'gunicorn.log'\nworkers = 2\n"
    with Daemon(tmp_path / "1", app=COUNTING, config=config) as server:
        server.wait_for_workers(2)
        samples = counted(server)
        assert samples.one("served_total") == EACH + 1
        assert psutil.Process(server.pid).create_time() == pytest.approx(
            samples.one("process_start_time_seconds"), abs=1
        )
        os.kill(server.pid, signal.SIGHUP)
        eventually(lambda: server.log.count("Booting worker") == 4, "new workers")
        server.wait_for_workers(2)
        counted(server, EACH + 1)
        master = server.pid
    assert not psutil.pid_exists(master)


ACTIVATED = """
import os, socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
os.dup2(listener.fileno(), 3)
os.set_inheritable(3, True)  # it may have been the third one already
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])
"""


def test_requests_on_a_socket_opened_by_systemd_are_counted(serve: Serve) -> None:
    """The listening socket is one that systemd has opened."""
    port = unused_port()
    before = (sys.executable, "-c", ACTIVATED, str(port))
    server = serve("workers = 2\n", app=COUNTING, port=port, before=before)
    server.wait_for_workers(2)
    assert counted(server).one("served_total") == EACH + 1
    assert f"http://127.0.0.1:{port}" in server.log


@pytest.fixture
def public() -> Iterator[Path]:
    """Return a folder that all users may enter."""
    folder = Path(tempfile.mkdtemp(prefix="gunicorn-prom-hooks-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give up being root")
@pytest.mark.parametrize("preload", [False, True])
def test_workers_of_another_user_are_counted_before_and_after_hup(public: Path, preload: bool) -> None:
    """Workers of another user count, and keep the application's metrics; so do those after a HUP."""
    config = CONFIG + "user = 'nobody'\ngroup = 65534\n"
    config += f"preload_app = {preload}\nworkers = 2\n"
    with Server(public / "1", app=COUNTING, config=config) as server:
        server.wait_for_workers(2)
        for before in (1, EACH + 1):
            assert counted(server, before).one("served_total") == EACH + before
            assert {worker.uids().real for worker in server.workers()} == {65534}
            assert psutil.Process(server.pid).uids().real == 0
            renewed(server)
        assert server.get("/").text.startswith("65534 ")
