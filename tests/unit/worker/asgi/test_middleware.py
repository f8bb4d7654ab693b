"""The calls of an ASGI application, at the level of messages."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from gunicorn_prom_hooks.shm.schema import ERROR_HANDLING, QUEUE, REQUEST_SIZE_SUM, RESPONSE_SIZE_SUM
from gunicorn_prom_hooks.worker.asgi import middleware
from gunicorn_prom_hooks.worker.asgi.disconnects import Application, Message, Receive, Scope, Send
from tests.helpers.asgi import BODY, MORE, START, Bench, Client, awaited, plain, sends


@plain
def test_request_is_counted_at_its_last_message(plain: bool) -> None:
    """It is counted when its last message has passed, again and again, and nothing stays in progress."""
    bench = Bench()
    for _ in range(3):
        client = bench.call(sends(START, BODY), plain=plain)
        assert client.messages == [START, BODY]
    assert bench.requests() == {("GET", "/items/:id", "200"): 3.0}
    assert bench.in_progress() == 0
    assert not bench.errors.counts


@plain
def test_request_is_in_progress_until_its_last_message(plain: bool) -> None:
    """While the response goes on it is named in the in-flight table; what follows is not part of it."""
    bench = Bench()
    seen = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await send(MORE)
        seen.append([(request.method, request.path) for request in bench.reader.in_flight()])
        await send(BODY)
        seen.append([(request.method, request.path) for request in bench.reader.in_flight()])
        raise ValueError("in the background")

    with pytest.raises(ValueError, match="background"):
        bench.call(app, plain=plain)
    assert seen == [[("GET", "/items/7")], []]
    assert bench.requests() == {("GET", "/items/:id", "200"): 1.0}
    assert bench.failures() == {}


@plain
def test_exception_is_a_failure_with_the_status_sent_and_is_raised_on(plain: bool) -> None:
    """An exception is the application's failure, with the status that the client saw; it goes on to the server."""
    bench = Bench()

    def failing(*messages: Message) -> Application:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            for message in messages:
                await send(message)
            raise KeyError("x")

        return app

    for messages in ((), (START,), (START, MORE)):
        with pytest.raises(KeyError):
            bench.call(failing(*messages), plain=plain)
    assert bench.requests() == {("GET", "/items/:id", "500"): 1.0, ("GET", "/items/:id", "200"): 2.0}
    assert bench.failures() == {("GET", "/items/:id", "KeyError"): 3.0}
    assert sum(bench.counts(ERROR_HANDLING).values()) == 3.0
    assert bench.in_progress() == 0


@pytest.mark.parametrize("status", [200, 404])
def test_response_of_which_the_server_has_sent_nothing_is_a_500(status: int) -> None:
    """gunicorn sends the headers with the first piece of the body: before that, the client has seen no status."""
    bench, client = Bench(), Client()
    client._response_buffer = b"HTTP/1.1"
    start = {**START, "status": status}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start)
        raise KeyError("x")

    with pytest.raises(KeyError):
        bench.call(app, client)
    bench.call(sends(start), client)
    label = "<unmatched>" if status == 404 else "/items/:id"
    assert bench.requests() == {("GET", label, "500"): 2.0}
    assert bench.failures() == {("GET", label, "KeyError"): 1.0, ("GET", label, "IncompleteResponse"): 1.0}


@pytest.mark.parametrize("sent", [False, True])
def test_stream_that_fails_before_its_headers_are_sent_is_a_500(sent: bool) -> None:
    """The same with HTTP/2, where the ``send`` of the server knows."""
    bench, headers_sent = Bench(), False

    async def receive() -> Message:
        return {"type": "http.request", "body": b""}

    async def send(message: Message) -> None:
        nonlocal headers_sent
        headers_sent = sent

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        raise KeyError("x")

    served = middleware.recorded(app, bench.worker, bench.calls, middleware.GUNICORN)
    scope: Scope = {"type": "http", "method": "GET", "path": "/items/7", "headers": []}
    with pytest.raises(KeyError):
        asyncio.run(awaited(served(scope, receive, send)))
    assert bench.requests() == {("GET", "/items/:id", "200" if sent else "500"): 1.0}


@plain
def test_missing_or_incomplete_response_is_a_failure_unless_disconnected(plain: bool) -> None:
    """An application that returns without a complete response has failed, unless its client is gone."""
    bench = Bench()
    bench.call(sends(), plain=plain)
    bench.call(sends(START, MORE), plain=plain)
    assert bench.failures() == {
        ("GET", "/items/:id", "HTTP 500"): 1.0,
        ("GET", "/items/:id", "IncompleteResponse"): 1.0,
    }

    client = Client()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        client._closed = True
        assert (await receive())["type"] == "http.disconnect"

    bench.call(app, client, plain=plain)
    assert bench.requests()["GET", "/items/:id", "499"] == 1.0
    assert sum(bench.failures().values()) == 2.0


@plain
def test_body_sizes_and_queue_time_are_recorded(plain: bool) -> None:
    """Bodies as told and as sent; HEAD, 204 and 304 send none; and how long a proxy says it has waited."""
    bench = Bench()
    for method, status in 3 * (("GET", 204), ("GET", 304), ("HEAD", 200)):
        bench.call(sends({**START, "status": status}, BODY), plain=plain, method=method, path="/none")
    bench.call(sends(START, MORE, BODY), plain=plain, path="/some", headers=[(b"content-length", b"5")])
    bench.call(sends(START, BODY), plain=plain, path="/some", headers=[(b"transfer-encoding", b"chunked")])
    bench.call(
        sends(START, BODY), plain=plain, path="/some", headers=[(b"x-request-start", b"t=%f" % (time.time() - 5))]
    )
    assert bench.size(RESPONSE_SIZE_SUM, "/none") == 0.0
    assert bench.size(RESPONSE_SIZE_SUM, "/some") == 10.0
    assert bench.size(REQUEST_SIZE_SUM, "/some") == 5.0
    (waits,) = bench.series(QUEUE).values()
    assert 4.9 < waits[0] < 5.5


@plain
def test_request_without_a_free_entry_or_a_path_is_served(plain: bool) -> None:
    """Where the in-flight table is full, or the scope is none, the request is served."""
    bench = Bench()
    bench.calls.in_flight.free.clear()
    bench.call(sends(START, BODY), plain=plain)
    bench.call(sends(START, BODY), plain=plain)
    assert bench.requests() == {("GET", "/items/:id", "200"): 2.0}
    assert bench.in_progress() == 0
    assert bench.call(sends(START, BODY), plain=plain, path=None).messages == [START, BODY]
    assert bench.errors.counts["asgi"] == 1


def test_request_without_an_entry_frees_no_entry() -> None:
    """A request that found no place in the in-flight table has none to give back."""
    bench = Bench(lambda scope: "/things/{name}")
    for _ in range(2):
        bench.call(sends(START, BODY))
    places = list(bench.calls.in_flight.free)
    bench.calls.in_flight.free.clear()
    bench.call(sends(START, BODY))
    assert bench.calls.in_flight.free == []
    assert bench.in_progress() == 0
    bench.calls.in_flight.free += places
    assert bench.requests() == {("GET", "/things/{name}", "200"): 3.0}


def test_endpoint_resolver_is_called_once_per_request_after_the_framework() -> None:
    """What names endpoints is given the scope, once a request, when the framework has had it."""
    asked = []

    def resolve(scope: Any) -> str | None:
        asked.append(scope["path"])
        return str(scope["template"]) if "template" in scope else None

    bench = Bench(resolve)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["template"] = "/things/{name}"
        await sends(START, BODY)(scope, receive, send)

    for name in ("a", "b", "b"):
        bench.call(app, path=f"/things/{name}")
    bench.call(sends(START, BODY), path="/other")
    assert asked == ["/things/a", "/things/b", "/things/b", "/other"]
    assert bench.requests() == {("GET", "/things/{name}", "200"): 3.0, ("GET", "/other", "200"): 1.0}


def test_lifespan_is_passed_unchanged_and_not_counted() -> None:
    """Anything that is neither is the application's, as the server gave it."""
    bench = Bench()
    given: list[tuple[Any, ...]] = []

    async def app(*arguments: Any) -> None:
        given.append(arguments)

    client = bench.call(app, type="lifespan")
    assert given[0][1] == client.receive
    assert given[0][2] == client.send
    assert bench.requests() == {}


@plain
def test_queue_time_is_counted_once_for_each_request(plain: bool) -> None:
    """Behind a proxy that says since when, every request has waited: the first like it, and those that find its row."""
    bench = Bench()
    for _ in range(3):
        bench.call(sends(START, BODY), plain=plain, headers=[(b"x-request-start", b"t=%f" % (time.time() - 5))])
    (waits,) = bench.series(QUEUE).values()
    assert sum(waits[1:]) == 3.0
    assert 14.7 < waits[0] < 16.5
    assert bench.requests() == {("GET", "/items/:id", "200"): 3.0}
    assert bench.in_progress() == 0
