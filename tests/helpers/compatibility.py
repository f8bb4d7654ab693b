"""What is measured with each worker class and each framework, found out on real gunicorns.

Run as a program it writes docs/compatibility.md anew: ``make compatibility``.
"""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import requests
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from tests.helpers.places import APPLICATIONS, TOP
from tests.helpers.servers import Samples, Server, eventually
from tests.helpers.worker_exits import busy_worker, hanging, killed
from tests.integration.conftest import APP, CONFIG

PAGE = TOP / "docs" / "compatibility.md"
ASGI_APP = APPLICATIONS / "default_asgi.py"

WORKERS = {
    "sync": "worker_class = 'sync'\n",
    "gthread": "worker_class = 'gthread'\nthreads = 4\n",
    "gevent": "worker_class = 'gevent'\n",
    "gevent_pywsgi": "worker_class = 'gevent_pywsgi'\n",
    "tornado": "worker_class = 'tornado'\n",
    "asgi": "worker_class = 'asgi'\n",
    "uvicorn_worker.UvicornWorker": "worker_class = 'uvicorn_worker.UvicornWorker'\n",
}
ASGI = ("asgi", "uvicorn_worker.UvicornWorker")
WSGI_FRAMEWORKS = {
    "Flask": APPLICATIONS / "framework_flask.py",
    "Flask-SocketIO": APPLICATIONS / "framework_flask_socketio.py",
    "Django": APPLICATIONS / "framework_django_wsgi.py",
    "Falcon": APPLICATIONS / "framework_falcon_wsgi.py",
    "Pyramid": APPLICATIONS / "framework_pyramid.py",
    "Bottle": APPLICATIONS / "framework_bottle.py",
}
ASGI_FRAMEWORKS = {
    "Starlette": APPLICATIONS / "framework_starlette.py",
    "FastAPI": APPLICATIONS / "framework_fastapi.py",
    "Litestar": APPLICATIONS / "framework_litestar.py",
    "Quart": APPLICATIONS / "framework_quart.py",
    "Django": APPLICATIONS / "framework_django_asgi.py",
    "Falcon": APPLICATIONS / "framework_falcon_asgi.py",
}
FRAMEWORKS = tuple(dict.fromkeys((*WSGI_FRAMEWORKS, *ASGI_FRAMEWORKS)))
YES, NO, NONE = "yes", "no", "\N{EN DASH}"
SECONDS = 5.0

Start = Callable[[str, Path], Server]
"""Starts a gunicorn with this addition to its config file and this application."""


def counted(server: Server, status: str, path: str, count: float = 1) -> bool:
    """Return whether the page comes to have this number of requests with this endpoint and status."""
    return soon(lambda: server.scrape().sum("gunicorn_requests_total", status=status, endpoint=path) == count)


def soon(probe: Callable[[], bool]) -> bool:
    """Return whether the probe becomes true in time."""
    with contextlib.suppress(AssertionError):
        return eventually(probe, "it is measured", SECONDS)
    return False


def answers(server: Server) -> bool:
    """Return whether requests are counted by method, endpoint and status."""
    server.get("/items/1")
    server.get("/items/2")
    server.get("/missing")
    return counted(server, "200", "/items/:id", 2) and counted(server, "404", "<unmatched>")


def exceptions(server: Server) -> bool:
    """Return whether an exception of the application is counted under its class name."""
    with contextlib.suppress(requests.RequestException):
        requests.get(f"http://127.0.0.1:{server.port}/boom", timeout=1)  # tornado never answers it
    return soon(lambda: server.scrape().sum("gunicorn_failed_requests_total", error_type="ValueError") == 1)


def durations(server: Server) -> bool:
    """Return whether the duration lasts from the request to the end of the response."""
    server.get("/sleep/1")
    return counted(server, "200", "/sleep/:id") and (
        0.9 < server.scrape().sum("gunicorn_request_duration_seconds_sum", endpoint="/sleep/:id") < 3
    )


def sizes(server: Server) -> bool:
    """Return whether the bytes of both bodies are counted."""
    answer = server.post("/things", b"1234567")
    assert counted(server, "200", "/things")
    page = server.scrape()
    return page.sum("gunicorn_request_size_bytes_sum", endpoint="/things") == 7 and page.sum(
        "gunicorn_response_size_bytes_sum", endpoint="/things"
    ) == len(answer.content)


def clients_gone(server: Server) -> bool:
    """Return whether a client that disconnects during its response is counted as 499."""
    with hanging(server, "/big") as [client]:
        client.recv(1000)
    return counted(server, "499", "/big")


def in_progress(server: Server) -> bool:
    """Return whether a request in progress is counted."""
    with hanging(server, "/sleep/3"):
        return soon(lambda: server.scrape().one("gunicorn_requests_in_progress") == 1)


def malformed(server: Server) -> bool:
    """Return whether a request that the server refuses to parse is counted."""
    server.send(b"NONSENSE\r\n\r\n")
    return soon(lambda: server.scrape().sum("gunicorn_invalid_requests_total") == 1)


def websockets(server: Server) -> bool:
    """Return whether an open websocket is counted."""
    with connect(f"ws://127.0.0.1:{server.port}/ws"):
        return soon(lambda: server.scrape().sum("gunicorn_websockets_in_progress", endpoint="/ws") == 1)


def deaths(server: Server) -> bool:
    """Return whether the request in progress in a killed worker is counted."""
    eventually(lambda: server.scrape().one("gunicorn_requests_in_progress") == 0, "all have ended")
    with hanging(server, "/hang"):
        _, pid = busy_worker(server)
        os.kill(pid, signal.SIGKILL)
        return soon(lambda: killed(server.scrape()) == {("GET", "/hang", "signal"): 1})


MEASURED: dict[str, Callable[[Server], bool]] = {
    "status": answers,
    "exception": exceptions,
    "duration": durations,
    "sizes": sizes,
    "499": clients_gone,
    "in progress": in_progress,
    "malformed": malformed,
    "websockets": websockets,
    "killed": deaths,
}


def worker_row(start: Start, worker: str) -> list[str]:
    """Return what is measured with this worker class, in the order of ``MEASURED``."""
    server = start(WORKERS[worker] + "workers = 1\n", ASGI_APP if worker in ASGI else APP)
    row = []
    for name, measure in MEASURED.items():
        if name == "websockets" and worker not in ASGI:
            row.append(NONE)
            continue
        try:
            row.append(YES if measure(server) else NO)
        except (AssertionError, WebSocketException):
            row.append(NO)
    assert server.scrape().sum("gunicorn_exporter_errors_total") == 0
    return row


def framework_cell(start: Start, worker: str, framework: str) -> str:
    """Return what is known of a framework's requests with this worker class."""
    of_class = ASGI_FRAMEWORKS if worker in ASGI else WSGI_FRAMEWORKS
    if framework not in of_class:
        return NONE
    server = start(WORKERS[worker], of_class[framework])
    for path in ("/items/1", "/items/2", "/no/where"):
        server.get(path)
    with contextlib.suppress(requests.RequestException):
        server.get("/boom")
    page: Samples = server.settled(5)
    endpoints = {labels["endpoint"]: value for labels, value in page.all("gunicorn_requests_total")}
    templates = [endpoint for endpoint in endpoints if endpoint.startswith("/items/")]
    known = []
    if templates not in (["/items/:id"], []) and endpoints[templates[0]] == 2:
        known.append("template")
    if endpoints.get("<unmatched>") == 1:
        known.append("unmatched")
    if page.sum("gunicorn_failed_requests_total", endpoint="/boom", error_type="LookupError") == 1:
        known.append("exception")
    assert page.sum("gunicorn_exporter_errors_total") == 0
    return ", ".join(known) or NO


def line(*cells: str) -> str:
    """Return a line of a table."""
    return "| " + " | ".join(cells) + " |"


def replace_lines(text: str, name: str, lines: Iterable[str]) -> str:
    """Return the text with these lines between the marks of a name, which stay."""
    begin, end = f"<!-- {name}: by make matrix -->\n", f"<!-- end of {name} -->"
    before, mark, rest = text.partition(begin)
    _, last, after = rest.partition(end)
    assert mark, name
    assert last, name
    return before + begin + "".join(f"{each}\n" for each in lines) + end + after


def lines_of(text: str, name: str) -> list[str]:
    """Return the lines between the marks of a name."""
    found = text.partition(f"<!-- {name}: by make matrix -->\n")[2].partition(f"<!-- end of {name} -->")[0]
    return found.splitlines()


def rows(start: Start, worker: str) -> list[str]:
    """Return the lines of the two tables about a worker class."""
    return [
        line(f"`{worker}`", *worker_row(start, worker)),
        line(f"`{worker}`", *(framework_cell(start, worker, framework) for framework in FRAMEWORKS)),
    ]


@contextlib.contextmanager
def gunicorns() -> Iterator[Start]:
    """Yield a function that starts a gunicorn in a folder of its own. All end with the block."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))

        def start(more: str, app: Path) -> Server:
            number = len(list(folder.iterdir()))
            return stack.enter_context(Server(folder / str(number), app=app, config=CONFIG + more))

        yield start


def main() -> None:
    """Write the rows of the tables again. The text around the tables stays."""

    def measure(worker: str) -> list[str]:
        with gunicorns() as start:
            return rows(start, worker)

    with ThreadPoolExecutor(2) as threads:
        found = dict(zip(WORKERS, threads.map(measure, WORKERS), strict=True))
    text = PAGE.read_text().splitlines()
    for table in (0, 1):
        for worker, lines in found.items():
            places = [number for number, old in enumerate(text) if old.startswith(f"| `{worker}` |")]
            text[places[table]] = lines[table]
    PAGE.write_text("\n".join(text) + "\n")


if __name__ == "__main__":
    main()
