"""Real gunicorns for tests: started on unused ports in a folder of their own, polled with a deadline, always ended."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import psutil
import requests
from prometheus_client.parser import text_string_to_metric_families

from tests.helpers.places import TOP

T = TypeVar("T")
DEADLINE = 30.0
GUNICORN = str(Path(sys.executable).parent / "gunicorn")
"""The script and not -m: on USR2 gunicorn executes its own sys.argv again, which -m has turned into a file."""


PORT_RANGES, PORTS_PER_RANGE = 8, 2_750


def _ports() -> Iterator[int]:
    """Yield ports without end, of a range of their own for each process of pytest-xdist, each one once per round.

    Two servers that start at the same time are never given the same port.
    """
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % PORT_RANGES
    ports = range(10_000 + number * PORTS_PER_RANGE, 10_000 + (number + 1) * PORTS_PER_RANGE)
    first = random.randrange(PORTS_PER_RANGE)
    return itertools.cycle((*ports[first:], *ports[:first]))


_unused_ports = _ports()


def unused_port() -> int:
    """Return a TCP port without a listener.

    Not one of those that the system gives to outgoing connections: a load of wrk in another test would take it, and
    keep it in TIME_WAIT for a minute.
    """
    while True:
        port = next(_unused_ports)
        with contextlib.suppress(OSError), socket.socket() as sock:
            sock.bind(("127.0.0.1", port))
            return port


def eventually(probe: Callable[[], T | None], what: str, seconds: float = DEADLINE) -> T:
    """Return the first true result of the probe. An OSError or AssertionError counts as a false one."""
    deadline = time.monotonic() + seconds
    last: object = None
    while time.monotonic() < deadline:
        try:
            last = result = probe()
            if result:
                return result
        except (OSError, AssertionError) as error:
            last = error
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds} s: {what}; last: {last!r}")


class Samples:
    """A scraped page. ``values`` lacks the series ``<other>`` that each counter has at zero."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.families = list(text_string_to_metric_families(text))
        self.values: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
        for family in self.families:
            for sample in family.samples:
                if not sample.value and "<other>" in sample.labels.values():
                    continue
                key = sample.name, frozenset(sample.labels.items())
                assert key not in self.values, f"twice on the page: {key}"
                self.values[key] = sample.value

    def all(self, name: str, **labels: str) -> list[tuple[dict[str, str], float]]:
        """Return labels and values of the samples of that name that have these labels."""
        wanted = set(labels.items())
        return [(dict(have), value) for (n, have), value in self.values.items() if n == name and wanted <= have]

    def sum(self, name: str, **labels: str) -> float:
        """Return the sum of the samples of that name that have these labels."""
        return sum(value for _, value in self.all(name, **labels))

    def one(self, name: str, **labels: str) -> float:
        """Return the value of the one sample of that name that has these labels."""
        found = self.all(name, **labels)
        assert len(found) == 1, (name, labels, found)
        return found[0][1]


class Server:
    """A gunicorn with its own folder, port and metrics port."""

    def __init__(
        self,
        folder: Path,
        *,
        app: Path | str,
        config: str,
        arguments: tuple[str, ...] = (),
        environ: Mapping[str, str] | None = None,
        port: int | None = None,
        metrics_port: int | None = None,
        before: tuple[str, ...] = (),
        gunicorn: str = GUNICORN,
    ) -> None:
        self.folder = folder
        self.port = port or unused_port()
        self.metrics_port = metrics_port or unused_port()
        self.log_file = folder / "gunicorn.log"
        self._command = [*before, gunicorn, *arguments, "app:app"]
        # An application may import another one, as tests.helpers.applications.NAME.
        path = os.pathsep.join(filter(None, [str(folder), str(TOP), os.environ.get("PYTHONPATH")]))
        # No bytecode: a config file rewritten within a second, at the same length, passes for the one compiled before.
        self._environ = {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", **(environ or {})}
        folder.mkdir(parents=True, exist_ok=True)
        self.write_application(app)
        self.configure(config)
        self.process: subprocess.Popen[bytes] | None = None

    def write_application(self, app: Path | str) -> None:
        """Write ``app.py``. It is a copy of a file of ``tests/helpers/applications``, or this text."""
        self.write_whole("app.py", app if isinstance(app, str) else app.read_text())

    def configure(self, config: str) -> None:
        """Write the config file. PORT and METRICS_PORT in it become the numbers."""
        text = config.replace("METRICS_PORT", str(self.metrics_port)).replace("PORT", str(self.port))
        self.write_whole("gunicorn.conf.py", text)

    def write_whole(self, name: str, text: str) -> None:
        """Put a file in place as a whole: a worker that boots meanwhile reads the old or the new one.

        A worker that finds half an application ends with the status that ends gunicorn.
        """
        new = self.folder / f"{name}.new"
        new.write_text(text)
        new.replace(self.folder / name)

    def __enter__(self) -> Server:
        self.start()
        try:
            eventually(lambda: self.get("/").status_code, "the application answers")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
        if kind is not None:
            print(f"--- {self.log_file.name} ---\n{self.log}")  # noqa: T201 - pytest shows it with the failure

    def start(self) -> None:
        """Start gunicorn without waiting for it."""
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                self._command,
                cwd=self.folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **self._environ},
            )

    def stop(self) -> None:
        """End the master and its children, by pid."""
        if self.process is None:
            return
        family = []
        with contextlib.suppress(psutil.NoSuchProcess):
            family = psutil.Process(self.process.pid).children(recursive=True)
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
        for child in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()

    @property
    def pid(self) -> int:
        """Return the pid of the master."""
        assert self.process is not None
        return self.process.pid

    @property
    def log(self) -> str:
        """Return the log so far."""
        return self.log_file.read_text(errors="replace")

    def signal(self, number: signal.Signals) -> None:
        """Send the master a signal."""
        os.kill(self.pid, number)

    def workers(self) -> list[psutil.Process]:
        """Return the worker processes."""
        return psutil.Process(self.pid).children()

    def get(self, path: str, **keywords: object) -> requests.Response:
        """Send a GET request to the application."""
        return requests.get(f"http://127.0.0.1:{self.port}{path}", timeout=20, **keywords)  # type: ignore[arg-type]

    def post(self, path: str, body: bytes) -> requests.Response:
        """Send a POST request to the application."""
        return requests.post(f"http://127.0.0.1:{self.port}{path}", data=body, timeout=20)

    def send(self, data: bytes) -> bytes:
        """Send raw bytes to the application. Return all bytes that come back."""
        with socket.create_connection(("127.0.0.1", self.port), 10) as sock:
            sock.sendall(data)
            received = b""
            with contextlib.suppress(ConnectionResetError):
                while chunk := sock.recv(65536):
                    received += chunk
            return received

    def page(self, port: int | None = None, headers: Mapping[str, str] | None = None) -> requests.Response:
        """Return the response to a scrape."""
        return requests.get(f"http://127.0.0.1:{port or self.metrics_port}/metrics", headers=headers, timeout=20)

    def scrape(self, port: int | None = None) -> Samples:
        """Return the samples of a scrape."""
        response = self.page(port)
        assert response.status_code == 200, response.text
        return Samples(response.text)

    def settled(self, total: float, name: str = "gunicorn_requests_total") -> Samples:
        """Return the first scrape in which this counter has reached the total. It is counted after the response."""

        def probe() -> Samples | None:
            samples = self.scrape()
            return samples if samples.sum(name) >= total else None

        return eventually(probe, f"{name} reaches {total}")

    def wait_for_workers(self, count: int) -> Samples:
        """Return the first scrape with this number of running workers, and no others."""

        def probe() -> Samples | None:
            samples = self.scrape()
            running = samples.sum("gunicorn_workers", state="running")
            return samples if running == count == samples.sum("gunicorn_workers") else None

        return eventually(probe, f"{count} workers running")


def wrk(port: int, *, seconds: float, connections: int = 8, path: str = "/", script: Path | None = None) -> int:
    """Load the application with wrk. Return the number of responses."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s"]
    if script is not None:
        command += ["-s", str(script)]
    out = subprocess.run(
        [*command, f"http://127.0.0.1:{port}{path}"], check=True, capture_output=True, text=True, timeout=seconds + 60
    ).stdout
    found = re.search(r"(\d+) requests in", out)
    assert found is not None, out
    return int(found[1])


@contextlib.contextmanager
def running(command: list[str], cwd: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process until the end of the block."""
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=cwd, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(20)
