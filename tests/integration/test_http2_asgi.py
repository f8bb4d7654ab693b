"""HTTP/2 with gunicorn's asgi worker: every stream is a request of its own, whatever its client does."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.helpers.client_record import GONE, ClientRecord
from tests.helpers.http2_client import Streams, TlsServer, ask_on_streams
from tests.helpers.places import APPLICATIONS
from tests.integration.conftest import CONFIG
from tests.integration.test_http2 import agrees, rung, untold

APP = APPLICATIONS / "client_record_http2.py"
WORKERS = {
    "asyncio": "worker_class = 'asgi'\nasgi_loop = 'asyncio'\n",
    "uvloop": "worker_class = 'asgi'\nasgi_loop = 'uvloop'\naccesslog = 'access.log'\n",
}
STATUSES = (200, 200, 200, 201, 204, 304, 400, 404, 500, 503)


@pytest.fixture(params=WORKERS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TlsServer]:
    """A gunicorn with two asgi workers that speak HTTP/2."""
    server = TlsServer(tmp_path / "1", app=APP, config=CONFIG + WORKERS[request.param] + "workers = 2\n")
    with server:
        server.wait_for_workers(2)  # a SIGTERM is lost on one that is only just being forked
        yield server


def test_concurrent_streams_have_exact_counts_statuses_and_sizes(server: TlsServer) -> None:
    """300 requests on three connections, many at a time on each: methods, statuses, bytes in and out are right."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")  # noqa: T201 - to run a failure again
    rng = random.Random(seed)
    record, sent, received = ClientRecord(), 0, 0
    paths = ("/about", "/users/7", "/chunks", "/echo", "/echo", "/trailers", "/hints", "/background")
    kinds = [
        (rng.choice(("GET", "GET", "POST", "HEAD", "DELETE")), rng.choice(STATUSES), rng.choice(paths), rng.random())
        for _ in range(300)
    ]

    async def ask(client: httpx.AsyncClient, method: str, status: int, path: str, chance: float) -> None:
        nonlocal sent, received
        if path in ("/chunks", "/trailers"):
            status = 200
        content = None if path != "/echo" else b"x" * 3000 if chance < 0.5 else untold()
        sent += 0 if content is None else 3000 if chance < 0.5 else 20_000
        answer = await client.request(method, path, params={"status": status}, content=content)
        assert (answer.http_version, answer.status_code) == ("HTTP/2", status)
        received += len(answer.content)
        label = "<unmatched>" if status == 404 else path.replace("7", ":id")
        record.requests[method, label, str(status)] += 1
        if status >= 500:
            record.failed[method, label, f"HTTP {status}"] += 1

    ask_on_streams(server, kinds, ask)
    agrees(server, record)
    samples = server.scrape()
    assert samples.sum("gunicorn_response_size_bytes_sum") == received + len("ok")
    assert samples.sum("gunicorn_request_duration_seconds_count") == 301
    assert samples.one("gunicorn_requests_in_progress") == 0


def test_duration_of_a_stream_excludes_work_after_its_response(server: TlsServer) -> None:
    """Streams are served side by side, and what an application does after its response takes no time of the request."""
    with Streams(server) as streams:
        opened = [streams.open("GET", path) for path in ("/sleep", "/sleep", "/background")]
        streams.flush()
        assert [streams.answer(stream) for stream in opened] == [200] * 3
    samples = server.settled(4)
    assert 1.0 <= samples.one("gunicorn_request_duration_seconds_sum", endpoint="/sleep") < 5
    assert samples.one("gunicorn_request_duration_seconds_sum", endpoint="/background") < 0.5


def test_exceptions_and_missing_or_incomplete_responses_are_failures(server: TlsServer) -> None:
    """Exceptions, silence and half an answer count as over HTTP/1."""
    record = ClientRecord()
    paths = {"/raise": 500, "/late": 200, "/about?status=503": 503, "/silent": 500, "/half": 200, "/about": 200}
    for path, status in paths.items():
        record.requests["GET", path.partition("?")[0], str(status)] += 1
    record.failed["GET", "/raise", "ValueError"] += 1
    record.failed["GET", "/late", "KeyError"] += 1
    record.failed["GET", "/about", "HTTP 503"] += 1
    record.failed["GET", "/silent", "HTTP 500"] += 1
    record.failed["GET", "/half", "IncompleteResponse"] += 1
    for error_type in ("ValueError", "KeyError", "IncompleteResponse"):
        record.handled[error_type,] += 1
    with Streams(server) as streams:
        opened = {streams.open("GET", path): (path, status) for path, status in paths.items()}
        streams.flush()
        for stream, (path, status) in opened.items():
            if path not in ("/late", "/half"):  # these are not ended
                assert streams.answer(stream) == status
        agrees(server, record)


def test_response_that_failed_before_its_body_has_the_status_that_the_client_saw(server: TlsServer) -> None:
    """gunicorn sends the headers with the first piece of the body, and a 500 if there is none after an exception."""
    record = ClientRecord()
    record.requests["GET", "/headers", "500"] += 1
    record.requests["GET", "/started", "201"] += 1
    record.failed["GET", "/headers", "KeyError"] += 1
    record.failed["GET", "/started", "IncompleteResponse"] += 1
    record.handled.update({("KeyError",): 1, ("IncompleteResponse",): 1})
    with Streams(server) as streams:
        opened = [streams.open("GET", path) for path in ("/headers", "/started")]
        streams.flush()
        assert [streams.answer(stream) for stream in opened] == [500, 201]
        agrees(server, record)


@pytest.mark.parametrize("how", ["reset", "cut", "close", "goaway"])
def test_client_that_ends_a_stream_or_connection_is_499_and_not_failed(server: TlsServer, how: str) -> None:
    """A client that ends a stream or its connection during a request is a 499, and no failure.

    Of a connection that is lost in the middle of an upload gunicorn tells the application only at its ``timeout``.
    """
    record = ClientRecord()
    for path in ("/large", "/leave", *(["/upload"] if how == "reset" else [])):
        bell, method = path[1:], "PUT" if path == "/upload" else "GET"
        with Streams(server) as streams:
            stream = streams.open(method, f"{path}?bell={bell}", more=method == "PUT")
            streams.flush()
            rung(server, bell)
            while path == "/large" and not streams.received.get(stream):
                streams.receive()
            if how == "reset":
                streams.reset(stream)
                after = streams.open("GET", "/about")
                streams.flush()
                assert streams.answer(after) == 200
                record.requests["GET", "/about", "200"] += 1
            elif how == "cut":
                streams.cut()
            elif how == "goaway":
                streams.h2.close_connection(error_code=2)
                streams.flush()
        record.requests[method, path, GONE] += 1
    agrees(server, record)


FRAMEWORK = APPLICATIONS / "starlette_exc_info.py"


def test_application_runs_outside_of_any_exception_handler(tmp_path: Path) -> None:
    """The application runs in no exception handler: a plain 503 stays one."""
    server = TlsServer(tmp_path / "1", app=FRAMEWORK, config=CONFIG + "worker_class = 'asgi'\n")
    with server:
        with httpx.Client(http2=True, verify=server.trust()) as client:
            answer = client.get(f"https://127.0.0.1:{server.port}/unavailable")
        assert (answer.http_version, answer.status_code, answer.text) == ("HTTP/2", 503, "None")
        record = ClientRecord()
        record.requests["GET", "/unavailable", "503"] += 1
        record.failed["GET", "/unavailable", "HTTP 503"] += 1
        agrees(server, record)
