"""HTTP/2: every stream is a request of its own, also where clients cancel streams and cut connections."""

from __future__ import annotations

import random
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from tests.helpers.client_record import GONE, ClientRecord
from tests.helpers.http2_client import Streams, TlsServer, ask_on_streams
from tests.helpers.places import APPLICATIONS
from tests.helpers.servers import eventually
from tests.integration.conftest import CONFIG

PATCHED = "import gevent.monkey\ngevent.monkey.patch_all()\n" + CONFIG
WORKERS = {
    "gthread": CONFIG + "worker_class = 'gthread'\nthreads = 6\n",
    "gevent": CONFIG + "worker_class = 'gevent'\n",
    "gevent-patched": PATCHED + "worker_class = 'gevent'\n",
}
SLEEPING = APPLICATIONS / "client_record_sleeping.py"
STATUSES = (200, 200, 200, 201, 204, 304, 400, 404, 500, 503)


@pytest.fixture(params=WORKERS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TlsServer]:
    """A gunicorn with two workers of each class that speaks HTTP/2 with threads or greenlets."""
    server = TlsServer(tmp_path / "1", app=SLEEPING, config=WORKERS[request.param] + "workers = 2\n")
    with server:
        server.wait_for_workers(2)  # a SIGTERM is lost on one that is only just being forked
        yield server


def agrees(server: TlsServer, record: ClientRecord) -> None:
    """The page comes to say what the record does, and the request that had waited for the server to answer."""
    record.requests["GET", "/", "200"] += 1
    last: object = None

    def probe() -> bool:
        nonlocal last
        last = record.differences(server.scrape())
        return not last

    try:
        eventually(probe, "the page agrees with the record")
    except AssertionError:
        raise AssertionError(last) from None


async def untold() -> AsyncIterator[bytes]:
    """A body that comes without a Content-Length."""
    for _ in range(2):
        yield b"x" * 10_000


def test_concurrent_streams_have_exact_counts_statuses_and_sizes(server: TlsServer) -> None:
    """400 requests on three connections, many at a time on each: methods, statuses, bytes in and out are right."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")  # noqa: T201 - to run a failure again
    rng = random.Random(seed)
    record, sent, received = ClientRecord(), 0, 0
    kinds = [
        (rng.choice(("GET", "GET", "POST", "PUT", "HEAD", "DELETE")), rng.choice(STATUSES), rng.randrange(5))
        for _ in range(400)
    ]

    async def ask(client: httpx.AsyncClient, method: str, status: int, shape: int) -> None:
        nonlocal sent, received
        content: bytes | AsyncIterator[bytes] | None = None
        path, endpoint = "/about", "/about"
        if shape == 1:
            path, endpoint = f"/users/{uuid.uuid4()}", "/users/:id"
        elif shape == 2:
            path, endpoint, status = "/chunks", "/chunks", 200
        elif shape == 3:
            path, endpoint, content = "/echo", "/echo", b"x" * 3000
        elif shape == 4:
            path, endpoint, content = "/echo", "/echo", untold()
        sent += {3: 3000, 4: 20_000}.get(shape, 0)
        answer = await client.request(method, path, params={"status": status}, content=content)
        assert (answer.http_version, answer.status_code) == ("HTTP/2", status)
        received += len(answer.content)
        label = "<unmatched>" if status == 404 else endpoint
        record.requests[method, label, str(status)] += 1
        if status >= 500:
            record.failed[method, label, f"HTTP {status}"] += 1

    ask_on_streams(server, kinds, ask)
    agrees(server, record)
    samples = server.scrape()
    assert samples.sum("gunicorn_request_size_bytes_sum") == sent
    assert samples.sum("gunicorn_request_size_bytes_count") == 401
    assert samples.sum("gunicorn_response_size_bytes_sum") == received + len("ok")
    assert samples.sum("gunicorn_request_duration_seconds_count") == 401


def test_duration_of_a_stream_is_the_time_that_it_was_served(server: TlsServer) -> None:
    """Of streams that are opened at once, and served one after the other, each took the time that it was served."""
    with Streams(server) as streams:
        opened = [streams.open("GET", "/sleep") for _ in range(3)]
        streams.flush()
        assert [streams.answer(stream) for stream in opened] == [200] * 3
    samples = server.settled(4)
    assert samples.one("gunicorn_requests_total", endpoint="/sleep") == 3
    assert 1.5 <= samples.one("gunicorn_request_duration_seconds_sum", endpoint="/sleep") < 2.8  # 3.0 from the start


def test_exceptions_in_streams_are_counted_with_the_status_sent(server: TlsServer) -> None:
    """Exceptions count as over HTTP/1: a 500 before the response has begun, the status that was sent after that."""
    record = ClientRecord()
    with Streams(server) as streams:
        for _ in range(3):
            raised, late, refused, fine = (
                streams.open("GET", path) for path in ("/raise", "/late", "/about?status=503", "/about")
            )
            streams.flush()
            assert [streams.answer(stream) for stream in (raised, late, refused, fine)] == [500, 200, 503, 200]
            assert late in streams.cut_off
            record.requests["GET", "/raise", "500"] += 1
            record.requests["GET", "/late", "200"] += 1
            record.requests["GET", "/about", "503"] += 1
            record.requests["GET", "/about", "200"] += 1
            record.failed["GET", "/raise", "ValueError"] += 1
            record.failed["GET", "/late", "KeyError"] += 1
            record.failed["GET", "/about", "HTTP 503"] += 1
            record.handled["ValueError",] += 1
            record.handled["KeyError",] += 1
    agrees(server, record)


def rung(server: TlsServer, bell: str) -> None:
    """Waits until the application has rung."""
    eventually((server.folder / "bells" / bell).exists, "the application has rung")


LEAVING = ("reset", "cut", "close", "goaway", "nonsense")


def test_client_that_ends_a_stream_or_connection_is_499_and_not_failed(server: TlsServer) -> None:
    """A client that ends a stream or its connection during a request or response is a 499, and no failure.

    A stream that is reset leaves the connection as it is: its next stream is served.
    """
    record = ClientRecord()
    for number, how in enumerate(LEAVING * 2):
        with Streams(server) as streams:
            if number < len(LEAVING):
                stream = streams.open("GET", "/large")
                streams.flush()
                while not streams.received.get(stream):
                    streams.receive()
                record.requests["GET", "/large", GONE] += 1
            else:
                stream = streams.open("PUT", f"/upload?bell={how}", more=True)
                streams.h2.send_data(stream, b"x" * 1000)
                streams.flush()
                rung(server, how)
                record.requests["PUT", "/upload", GONE] += 1
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
            elif how == "nonsense":
                streams.sock.sendall(b"\x00\x00\x01\x00\x00\x00\x00\x00\x00x")  # DATA on stream 0
    agrees(server, record)


def test_client_that_disconnects_while_the_application_waits_is_499(server: TlsServer) -> None:
    """The response to a client whose connection is gone is a 499."""
    with Streams(server) as streams:
        streams.open("GET", "/leave?bell=b")
        streams.flush()
        rung(server, "b")
        streams.cut()
    record = ClientRecord()
    record.requests["GET", "/leave", GONE] += 1
    agrees(server, record)


def test_stream_reset_before_it_is_served_is_in_no_metric(server: TlsServer) -> None:
    """A stream that is reset before gunicorn serves it calls no hook and is in no metric."""
    with Streams(server) as streams:
        never = streams.open("GET", "/never")
        streams.h2.reset_stream(never)
        after = streams.open("GET", "/about")
        streams.flush()
        assert streams.answer(after) == 200
    record = ClientRecord()
    record.requests["GET", "/about", "200"] += 1
    agrees(server, record)


def test_requests_before_goaway_are_answered_and_499_if_it_has_an_error(server: TlsServer) -> None:
    """After a graceful GOAWAY what was asked for before is answered; after one with an error nothing can be: 499."""
    record = ClientRecord()
    with Streams(server) as streams:
        first = streams.open("GET", "/about")
        data = streams.h2.data_to_send() + b"\x00\x00\x08\x07\x00\x00\x00\x00\x00" + b"\x00\x00\x00\x01" + b"\x00" * 4
        streams.sock.sendall(data)
        assert streams.answer(first) == 200
        record.requests["GET", "/about", "200"] += 1
    with Streams(server) as streams:
        for _ in range(2):
            streams.open("GET", "/items/1")
        streams.h2.close_connection(error_code=2)
        streams.flush()
        while streams.sock.recv(65536):
            pass
    record.requests["GET", "/items/:id", GONE] += 2
    agrees(server, record)
