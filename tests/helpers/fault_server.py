"""A server whose product can be made to fail, and what a test does with it, compared with the same without a fault."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import struct
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

import psutil
import requests

from tests.helpers.certificates import Certificates
from tests.helpers.faults import Orders
from tests.helpers.places import APPLICATIONS
from tests.helpers.servers import DEADLINE, Samples, Server, eventually

_ALWAYS: Final = """
from gunicorn_prom_hooks import _state, install
_state.CHECK_SECONDS = 0.0  # everything is checked before each fork
control_socket_disable = True
graceful_timeout = 2
"""
_SHARED: Final = """
bind = ["127.0.0.1:PORT", "unix:socket"]
worker_class = "gthread"
threads = 2
dirty_workers = 1
dirty_apps = ["app:Idle"]
proc_name = "faults-PORT"
install(globals(), port=METRICS_PORT, address="localhost", multiproc_dir="FOLDER/metrics", labels={"site": "one"},
        certfile="FOLDER/tls/cert.pem", keyfile="FOLDER/tls/key.pem", client_cafile="FOLDER/tls/ca.pem")
"""
_PLAIN: Final = """
bind = "127.0.0.1:PORT"
install(globals(), port=METRICS_PORT)
"""
SETUPS: Final = {
    "sync": _PLAIN,
    "shared": _SHARED,
    "timeout": _PLAIN + "timeout = 1\n",
    "gevent": "worker_class = 'gevent'\nreuse_port = True\n" + _PLAIN,
    "asgi": "worker_class = 'asgi'\n" + _PLAIN,
    "uvicorn": "worker_class = 'uvicorn_worker.UvicornWorker'\n" + _PLAIN,
}
"""Config files of the servers, by name. They differ in what the product calls for them."""
_APPLICATIONS: Final = {"asgi": "faults_asgi.py", "uvicorn": "faults_asgi.py"}
_PRODUCT_LINE: Final = re.compile(
    r".*\[(?:CRITICAL|ERROR|WARNING)\] (gunicorn_prom_hooks: .*)"
    r"|(Exception ignored .*|Fatal Python error.*|.*Error in atexit.*)"
)
_VARYING: Final = re.compile(r"\d+|(?<=exited): .*|(?<=removed from) .*")
"""What differs from one time to the next."""


class Outcome(NamedTuple):
    """What came of an activity.

    Attributes:
        answers: statuses of the application's answers, in order.
        lines: lines of the product in the log, without their numbers, from warnings on.
        counts: the growth of ``gunicorn_exporter_errors_total``, by component.
    """

    answers: list[int]
    lines: Counter[str]
    counts: Counter[str]

    def beyond(self, usual: Outcome) -> tuple[list[str], dict[str, int]]:
        """Return the lines and counts that the usual outcome does not have."""
        return sorted((self.lines - usual.lines).elements()), dict(self.counts - usual.counts)


class FaultServer(Server):
    """A gunicorn with one worker.

    Args:
        folder: of its files.
        setup: a name in ``SETUPS``.
    """

    def stop(self) -> None:
        """End the server, and what it has left behind.

        gunicorn kills a dirty arbiter that is still reloading as the server stops. Its worker then goes on for ever.
        """
        super().stop()
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.cwd() == str(self.folder):
                    process.kill()

    def __init__(self, folder: Path, setup: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.setup = setup
        self.orders = Orders(folder / "orders")
        self.certificates = Certificates(folder / "tls") if setup == "shared" else None
        self._new = 0
        application = APPLICATIONS / _APPLICATIONS.get(setup, "faults.py")
        config = self.orders.config + _ALWAYS + SETUPS[setup].replace("FOLDER", str(folder))
        (folder / "temporary").mkdir()
        super().__init__(folder, app=application, config=config, environ={"TMPDIR": str(folder / "temporary")})

    @property
    def activities(self) -> dict[str, Callable[[], list[int]]]:
        """By name, what a test does with the server. Each returns the statuses of the application's answers."""
        if self.setup == "timeout":
            return {"hang": self.hang}
        if self.setup in ("asgi", "uvicorn"):
            return {"kill": lambda: self.replace(signal.SIGKILL)}
        found = {
            "scrape": self.look,
            "request": self.ask,
            "disconnect": self.disconnect,
            "fork": lambda: self._get("/fork", "/count"),
            "lose": self.lose,
            "kill": lambda: self.replace(signal.SIGKILL),
            "abort": lambda: self.replace(signal.SIGABRT),
            "resize": self.resize,
            "reload": self.reload,
        }
        if self.setup == "shared":
            del found["resize"]  # the dirty arbiter is a child too
            found["dirty"] = self.replace_dirty
        return found

    def fetch(self, path: str, *, compressed: bool = False, seconds: float = 10) -> requests.Response:
        """Fetch a page of the exporter."""
        headers = {"Accept-Encoding": "gzip" if compressed else "identity", "Connection": "close"}
        if self.certificates is None:
            return requests.get(f"http://127.0.0.1:{self.metrics_port}{path}", headers=headers, timeout=seconds)
        found = self.certificates
        return requests.get(
            f"https://localhost:{self.metrics_port}{path}",
            headers=headers,
            timeout=seconds,
            verify=str(found.ca),
            cert=str(found.client),
        )

    def whole_page(self, seconds: float = DEADLINE) -> Samples:
        """Return the first scrape in which each collector has succeeded."""

        def probe() -> Samples | None:
            response = self.fetch("/metrics")
            assert response.status_code == 200
            samples = Samples(response.text)
            failed = [labels for labels, value in samples.all("gunicorn_exporter_collector_success") if value != 1]
            assert not failed, failed
            return samples

        return eventually(probe, "a page with all families", seconds)

    def has_all_processes(self) -> bool:
        """Return whether the page has all families, and the dirty worker if there is to be one."""
        page = self.whole_page()
        return self.setup != "shared" or page.sum("gunicorn_dirty_workers") == 1

    def look(self) -> list[int]:
        """Fetch each kind of page, until a fault keeps one from being answered. Then ask the application."""
        pages = (("/readyz", False), ("/metrics", False), ("/metrics", True), ("/", True), ("/status.json", False))
        with contextlib.suppress(requests.Timeout):
            for path, compressed in pages * 2:
                with contextlib.suppress(requests.ConnectionError):
                    self.fetch(path, compressed=compressed, seconds=3)
        return self._get("/")

    def ask(self) -> list[int]:
        """Send the application requests: one that fails, one with a new label value, and others."""
        self._new += 1
        return self._get("/", "/count", f"/new/{self._new}" + "x" * 4000, "/boom", "/count")

    def disconnect(self) -> list[int]:
        """Send a request and leave in the middle of the response."""
        for _ in range(2):
            with socket.create_connection(("127.0.0.1", self.port)) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                sock.sendall(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n")
                sock.recv(1000)
        return self._get("/")

    def lose(self) -> list[int]:
        """Remove the files of the application's metrics, and look."""
        for folder in (self.folder / "metrics", *(self.folder / "temporary").glob("gunicorn-prom-hooks-*")):
            shutil.rmtree(folder, ignore_errors=True)
        self.look()
        return [*self._get("/count"), *self.look()]

    def replace(self, number: signal.Signals) -> list[int]:
        """Send the worker a signal that ends it, and ask its successor."""
        self.get("/count")  # it has a live gauge, which its exit removes
        pid = self.worker_pid()
        os.kill(pid, number)
        self.wait_for_other_worker(pid)
        with contextlib.suppress(OSError):
            self.fetch("/metrics")
        return self._get("/", "/count")

    def replace_dirty(self) -> list[int]:
        """Kill the dirty worker, and look when its successor is there."""
        before = self._dirty_workers()
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        eventually(lambda: self._dirty_workers() - before, "another dirty worker")
        return self.look()

    def _dirty_workers(self) -> set[int]:
        assert self.process is not None
        arbiters = [child for child in psutil.Process(self.pid).children() if child.children()]
        return {worker.pid for arbiter in arbiters for worker in arbiter.children()}

    def hang(self) -> list[int]:
        """Have the worker time out."""
        pid = self.worker_pid()
        with contextlib.suppress(OSError):
            requests.get(f"http://127.0.0.1:{self.port}/hang", timeout=0.01)
        self.wait_for_other_worker(pid)
        return self._get("/")

    def resize(self) -> list[int]:
        """Have one worker more, then one less."""
        before = {worker.pid for worker in self.workers()}
        self.signal(signal.SIGTTIN)
        eventually(lambda: {worker.pid for worker in self.workers()} - before, "another worker")
        self.signal(signal.SIGTTOU)
        eventually(lambda: before.isdisjoint({worker.pid for worker in self.workers()}), "the older worker exits")
        return self._get("/")

    def reload(self) -> list[int]:
        """Send SIGHUP."""
        pid = self.worker_pid()
        self.signal(signal.SIGHUP)
        self.wait_for_other_worker(pid)
        return self._get("/", "/count")

    def worker_pid(self) -> int:
        """Return the pid of the worker that answers."""
        return int(self.get("/").text)

    def wait_for_other_worker(self, pid: int) -> None:
        """Wait until another worker answers."""
        eventually(lambda: self.worker_pid() != pid, "another worker")

    def observe(self, activity: Callable[[], list[int]]) -> Outcome:
        """Return what comes of an activity, seen when it is over and the armed fault too."""
        lines, counts = self.lines(), self._counts()
        answers = activity()
        self.orders.disarm()
        self.whole_page()  # the master logs at a scrape what processes have noted
        return Outcome(answers, self.lines() - lines, self._counts() - counts)

    def lines(self) -> Counter[str]:
        """Return the product's lines so far."""
        found = (_PRODUCT_LINE.fullmatch(line) for line in self.log.splitlines())
        return Counter(_VARYING.sub("*", match[1] or match[2]) for match in found if match)

    def _counts(self) -> Counter[str]:
        found = self.whole_page().all("gunicorn_exporter_errors_total")
        return Counter({labels["where"]: int(value) for labels, value in found})

    def _get(self, *paths: str) -> list[int]:
        return [self.get(path).status_code for path in paths]
