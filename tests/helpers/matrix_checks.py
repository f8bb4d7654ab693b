"""Checks of one real gunicorn, whatever its version: what the client and the operator did is compared with the page."""

from __future__ import annotations

import os
import re
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import requests

from tests.helpers.compatibility import clients_gone, durations, exceptions, in_progress
from tests.helpers.places import APPLICATIONS
from tests.helpers.servers import Samples, Server, eventually
from tests.helpers.worker_exits import busy_worker, exits, hanging, killed

WSGI_APP, ASGI_APP = APPLICATIONS / "matrix_wsgi.py", APPLICATIONS / "matrix_asgi.py"
CONFIG = """
from gunicorn_prom_hooks import install
bind = "127.0.0.1:PORT"
workers = 2
timeout = 4
graceful_timeout = 5
control_socket_disable = True
install(globals(), port=METRICS_PORT)
"""
PLAIN = {"/": ("/", 200), "/items/7": ("/items/:id", 200), "/missing": ("<unmatched>", 404), "/503": ("/:id", 503)}
ROUNDS = 10
PAGES = {"/metrics": 200, "/healthz": 200, "/readyz": 200, "/": 200, "/status.json": 200}
"""Paths of the metrics port, and the status of each."""
ANSWER_SECONDS = 5.0
_TRACEBACK = re.compile(r"^Traceback \(most recent call last\):\n(?:^[ \t].*\n|^\n)+^(\S.*)$", re.MULTILINE)
EXPECTED_ERRORS = (
    "ValueError: boom",
    "SystemExit: 1",
    "ssl.SSL",
    "gunicorn.http2.errors.HTTP2ConnectionError: Socket ",
)
"""The application's, gunicorn's own at a timeout, and those that it logs of connections that are cut."""


class Cell:
    """A running server and what it was asked.

    Attributes:
        server: the gunicorn.
        worker: its worker class.
        asked: the plain requests, by endpoint and status.
    """

    def __init__(self, server: Server, worker: str) -> None:
        self.server = server
        self.worker = worker
        self.asked: Counter[tuple[str, str]] = Counter({("/", "200"): 1})  # the one that waited for the server


def endpoints(cell: Cell) -> None:
    """Metrics, status page and both health checks answer, and the page can be parsed."""

    def answer() -> bool:
        found = {
            path: requests.get(f"http://127.0.0.1:{cell.server.metrics_port}{path}", timeout=ANSWER_SECONDS).status_code
            for path in PAGES
        }
        assert found == PAGES, found
        return True

    eventually(answer, "the metrics port answers", 2 * ANSWER_SECONDS)
    cell.server.wait_for_workers(2)


def count(cell: Cell) -> None:
    """Send each plain request a few times, on new connections and on kept ones."""
    with requests.Session() as session:
        for number in range(ROUNDS):
            for path, (endpoint, status) in PLAIN.items():
                get = session.get if number % 2 else requests.get
                answer = get(f"http://127.0.0.1:{cell.server.port}{path}", timeout=20)
                assert answer.status_code == status, (path, answer.status_code)
                cell.asked[endpoint, str(status)] += 1
    counted(cell)


def counted(cell: Cell) -> None:
    """Every plain request, and no other, is on the page."""

    def agrees() -> bool:
        page = Counter(
            {
                (labels["endpoint"], labels["status"]): int(value)
                for labels, value in cell.server.scrape().all("gunicorn_requests_total", method="GET")
                if labels["endpoint"] in {endpoint for endpoint, _ in PLAIN.values()}
            }
        )
        assert page == cell.asked, {"page": page - cell.asked, "client": cell.asked - page}
        return True

    eventually(agrees, "the page agrees with the client", ANSWER_SECONDS)


def bodies(cell: Cell) -> None:
    """Sizes of bodies are right. A chunked body of a request is not included."""
    url = f"http://127.0.0.1:{cell.server.port}/read"
    sent = received = 0
    for size in (0, 1, 70_000):
        for body in (b"x" * size, iter((b"x" * size,)) if size else b""):
            received += len(requests.post(url, data=body, timeout=20).content)
            sent += size if isinstance(body, bytes) else 0

    def agrees() -> bool:
        page = cell.server.scrape()
        found = [
            page.sum(f"gunicorn_{kind}_size_bytes_{suffix}", endpoint="/read")
            for kind, suffix in (("request", "sum"), ("response", "sum"), ("response", "count"))
        ]
        assert found == [sent, received, 6.0], (found, sent, received)
        return True

    eventually(agrees, "the sizes agree", ANSWER_SECONDS)


def _is(check: Callable[[Server], bool]) -> Callable[[Cell], None]:
    def run(cell: Cell) -> None:
        assert check(cell.server), cell.server.scrape().all("gunicorn_requests_total")

    return run


def progress(cell: Cell) -> None:
    """A slow request is in progress, and later none is."""
    assert in_progress(cell.server)
    eventually(lambda: cell.server.scrape().sum("gunicorn_requests_in_progress") == 0, "none is in progress", 10)


@contextmanager
def _one_exit(cell: Cell, reason: str, workers: int = 1) -> Iterator[None]:
    """What is done in the block ends this number of workers for this reason, and the server has as many again."""
    before = _reasons(cell.server.scrape())
    running = int(cell.server.scrape().sum("gunicorn_workers"))
    yield

    def ended() -> bool:
        found = _reasons(cell.server.scrape())
        assert found - before == Counter({reason: workers}), found - before
        return True

    eventually(ended, f"{workers} exits: {reason}", 20)
    cell.server.wait_for_workers(running)


def _reasons(samples: Samples) -> Counter[str]:
    found: Counter[str] = Counter()
    for (reason, _), value in exits(samples).items():
        found[reason] += int(value)
    return found


def kill(cell: Cell) -> None:
    """A worker that is killed is an exit by a signal, and its request is known."""
    with _one_exit(cell, "signal"), hanging(cell.server, "/hang"):
        _, pid = busy_worker(cell.server)
        os.kill(pid, signal.SIGKILL)
        _killed(cell, "/hang", "signal")


def time_out(cell: Cell) -> None:
    """A worker that gunicorn ends at its timeout is one, and its request is known."""
    # gunicorn never ends a worker that has not touched its heartbeat file yet.
    heartbeats = "gunicorn_worker_heartbeat_age_seconds"
    eventually(lambda: len(cell.server.scrape().all(heartbeats)) == 2, "both have a heartbeat", 10)
    with _one_exit(cell, "timeout"), hanging(cell.server, "/spin"):
        _killed(cell, "/spin", "timeout")


def _killed(cell: Cell, path: str, reason: str) -> None:
    """Wait for a request that has ended with its worker. A sync worker may answer at a timeout, instead or as well."""

    def found() -> bool:
        page = cell.server.scrape()
        ended = killed(page).get(("GET", path, reason), 0)
        failed = page.sum("gunicorn_failed_requests_total", endpoint=path, error_type=reason)
        assert max(ended, failed) == 1, (killed(page), page.all("gunicorn_failed_requests_total"))
        return True

    eventually(found, f"{path} ended by {reason}", 20)


def reload(cell: Cell) -> None:
    """A HUP is an exit of each worker by a reload."""
    running = int(cell.server.wait_for_workers(2).sum("gunicorn_workers"))
    with _one_exit(cell, "reload", running):
        cell.server.signal(signal.SIGHUP)


def one_more(cell: Cell) -> None:
    """A TTIN is one worker more, and no exit."""
    before = _reasons(cell.server.scrape())
    cell.server.signal(signal.SIGTTIN)
    assert _reasons(cell.server.wait_for_workers(3)) == before


def clean_log(cell: Cell) -> None:
    """No failure of the package is counted, and the log has no traceback but that of the application."""
    found = cell.server.scrape().all("gunicorn_exporter_errors_total")
    assert sum(value for _, value in found) == 0, found
    cell.server.stop()
    others = [last for last in _TRACEBACK.findall(cell.server.log) if not last.startswith(EXPECTED_ERRORS)]
    assert not others, others
    assert cell.server.process is not None
    assert cell.server.process.returncode == 0, cell.server.process.returncode


CHECKS: dict[str, Callable[[Cell], None]] = {
    "endpoints": endpoints,
    "counts": count,
    "exception": _is(exceptions),
    "sizes": bodies,
    "duration": _is(durations),
    "499": _is(clients_gone),
    "in progress": progress,
    "SIGKILL": kill,
    "timeout": time_out,
    "HUP": reload,
    "TTIN": one_more,
    "counts at the end": counted,
    "log": clean_log,
}


def failures(cell: Cell, checks: Mapping[str, Callable[[Cell], None]]) -> dict[str, str]:
    """Return the checks that fail, each with the reason. Without the page the others are not made."""
    found: dict[str, str] = {}
    for name, check in checks.items():
        try:
            check(cell)
        except Exception as error:  # noqa: BLE001 - whatever it is, the check has failed
            found[name] = f"{type(error).__name__}: {error}"
            if name == "endpoints":
                break
    return found
