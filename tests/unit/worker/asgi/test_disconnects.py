"""ASGI requests whose client leaves, or seems to."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from gunicorn.http2.errors import HTTP2ConnectionError

from gunicorn_prom_hooks import _gunicorn
from gunicorn_prom_hooks.worker.asgi import http2, middleware
from gunicorn_prom_hooks.worker.asgi.disconnects import Message, Receive, Scope, Send
from tests.helpers.asgi import BODY, MORE, START, Bench, Client, StartedCycle, Transport, awaited, plain, sends


def test_response_dropped_for_a_disconnected_client_is_499() -> None:
    """The server drops what is sent to a client that is gone: that is no 200."""
    bench = Bench()
    client = Client()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        client._closed = True
        await send(START)
        await send(BODY)

    bench.call(app, client)
    assert bench.requests() == {("GET", "/items/:id", "499"): 1.0}
    assert bench.failures() == {}


@pytest.mark.parametrize("clients", [middleware.GUNICORN, middleware.UVICORN], ids=["gunicorn", "uvicorn"])
def test_response_cut_off_by_a_closing_transport_is_499(clients: middleware.Clients) -> None:
    """A transport that could not write closes itself before the server knows: no 200, not of a known path, either."""
    bench = Bench()
    for _ in range(3):
        bench.call(sends(START, MORE, BODY), clients=clients)
    for _ in range(3):
        client = Client()
        client.transport = Transport(closing=True)
        bench.call(sends(START, MORE, BODY), client, clients=clients)
    assert bench.requests() == {("GET", "/items/:id", "200"): 3.0, ("GET", "/items/:id", "499"): 3.0}


@pytest.mark.parametrize("error", [ConnectionError("reset"), HTTP2ConnectionError("lost")], ids=["stream", "whole"])
def test_request_with_a_send_refused_by_its_http2_stream_is_499(error: Exception) -> None:
    """What is reset, or has lost its connection, says so in ``send``: that is 499, whatever comes of it."""
    bench = Bench()
    client = Client()
    client.refuses = error

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send(START)
        except type(error) as refused:
            raise RuntimeError("the framework's own") from refused

    with pytest.raises(RuntimeError):
        bench.call(app, client, plain=True)
    assert bench.requests() == {("GET", "/items/:id", "499"): 1.0}
    assert bench.failures() == {}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([(b"Content-Length", b"4")], "200"),
        ([(b"content-length", b"9")], "499"),
        ([(b"content-length", b"four")], "499"),
        ([None], "499"),
        ([], "499"),
    ],
)
def test_client_that_leaves_with_the_whole_response_is_no_499(
    monkeypatch: pytest.MonkeyPatch, headers: list[Any], status: str
) -> None:
    """It has as many bytes as announced, and leaves before the last, empty piece, which gunicorn drops silently."""
    monkeypatch.setattr(_gunicorn, "SENDS_TO_NOBODY", True)
    bench, self = Bench(), Client()

    async def receive() -> Message:  # a function of gunicorn 25.0, which closes over the connection as ``self``
        return await self.receive()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({**START, "headers": headers})
        await send(MORE)
        self._closed = True
        await send({"type": "http.response.body", "body": b""})

    application = middleware.recorded(app, bench.worker, bench.calls, middleware.GUNICORN)
    scope: Scope = {"type": "http", "method": "GET", "path": "/items/7", "headers": []}
    asyncio.run(awaited(application(scope, receive, self.send)))
    assert bench.requests() == {("GET", "/items/:id", status): 1.0}
    assert not bench.errors.counts


@plain
def test_request_canceled_by_the_server_is_499_or_stays_in_progress_at_exit(plain: bool) -> None:
    """The server cancels a request whose client has left; in a worker that is leaving any goes down with it."""
    bench, client = Bench(), Client()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        client._conn_lost_handled = bench.worker.alive
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(30.0)

    with pytest.raises(asyncio.CancelledError):
        bench.call(app, client, plain=plain)
    assert bench.requests() == {("GET", "/items/:id", "499"): 1.0}
    assert bench.failures() == {}
    bench.worker.alive = False
    client.transport = Transport(closing=True)  # as the server does on its way out
    with pytest.raises(asyncio.CancelledError):
        bench.call(app, client, plain=plain)
    assert bench.requests() == {("GET", "/items/:id", "499"): 1.0}
    assert bench.in_progress() == 1


def named(name: str) -> type[Exception]:
    """An exception of a framework."""
    return type(name, (Exception,), {})


@plain
@pytest.mark.parametrize("name", ["ClientDisconnect", "RequestAborted"])
def test_framework_exception_for_a_disconnected_client_is_499(plain: bool, name: str) -> None:
    """The exceptions in which frameworks tell what they have been told, that the client is gone, are no failures."""
    bench, client = Bench(), Client()
    client._closed = client._conn_lost_handled = True
    gone = named(name)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if (await receive())["type"] == "http.disconnect":
            raise gone

    with pytest.raises(gone):
        bench.call(app, client, plain=plain)
    assert bench.requests() == {("GET", "/items/:id", "499"): 1.0}
    assert bench.failures() == {}


@pytest.mark.parametrize("gone", ["_conn_lost_handled", "_body_wait_expired", "transport"])
def test_exception_after_a_disconnect_known_to_the_server_is_499(gone: str) -> None:
    """The connection is lost, the rest of the body has not come in time, or the transport could not write."""
    bench, client = Bench(), Client()
    setattr(client, gone, Transport(closing=True) if gone == "transport" else True)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        bench.call(app, client)
    assert bench.requests() == {("GET", "/items/:id", "499"): 1.0}
    assert bench.failures() == {}


ERRORS = (TimeoutError(), FileNotFoundError("x"), ConnectionResetError(), BrokenPipeError(), OSError(104, "reset"))


@plain
@pytest.mark.parametrize("clients", [middleware.GUNICORN, middleware.UVICORN], ids=["gunicorn", "uvicorn"])
@pytest.mark.parametrize("wrapper", ["", "ClientDisconnect", "RequestAborted"])
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_os_error_while_the_client_is_connected_is_a_failure_by_its_class(
    plain: bool, clients: middleware.Clients, wrapper: str, error: OSError
) -> None:
    """What is raised while the client is there is a failure, under its own name, whatever a framework takes it for."""
    bench = Bench()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await send(MORE)
        try:
            raise error
        except OSError:
            if wrapper:
                raise named(wrapper)  # noqa: B904 - as Starlette does
            raise

    with pytest.raises(Exception):  # noqa: B017, PT011 - one of two
        bench.call(app, plain=plain, clients=clients)
    assert bench.requests() == {("GET", "/items/:id", "200"): 1.0}
    assert bench.failures() == {("GET", "/items/:id", type(error).__name__): 1.0}
    assert bench.in_progress() == 0


@plain
def test_disconnect_exception_without_a_disconnect_is_a_failure(plain: bool) -> None:
    """An exception that says so without a reason is the application's own, and has the name that it was given."""
    bench = Bench()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise named("ClientDisconnect")

    with pytest.raises(Exception):  # noqa: B017, PT011 - its class is made above
        bench.call(app, plain=plain)
    assert bench.requests() == {("GET", "/items/:id", "500"): 1.0}
    assert bench.failures() == {("GET", "/items/:id", "ClientDisconnect"): 1.0}


@plain
@pytest.mark.parametrize("clients", [middleware.GUNICORN, middleware.UVICORN], ids=["gunicorn", "uvicorn"])
def test_request_canceled_by_the_application_is_a_failure(plain: bool, clients: middleware.Clients) -> None:
    """If the server has canceled nothing, a request that ends canceled is the application's failure."""
    bench = Bench()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        bench.call(app, plain=plain, clients=clients)
    assert bench.requests() == {("GET", "/items/:id", "500"): 1.0}
    assert bench.failures() == {("GET", "/items/:id", "CancelledError"): 1.0}
    assert bench.in_progress() == 0


def test_disconnect_during_a_404_is_unmatched() -> None:
    """A client disconnect during a 404 counts as unmatched, also after earlier disconnects on that path."""
    bench = Bench()

    def leaves(status: int) -> Client:
        client = Client()
        client._closed = True
        return bench.call(sends({**START, "status": status}, BODY), client)

    leaves(200)
    leaves(404)
    assert bench.requests() == {("GET", "/items/:id", "499"): 1.0, ("GET", "<unmatched>", "499"): 1.0}


@pytest.mark.parametrize(("chunked", "left", "status"), [(False, 0, "200"), (False, 4, "499"), (True, 0, "499")])
def test_uvicorn_disconnect_before_an_empty_last_body_is_200_if_complete(chunked: bool, left: int, status: str) -> None:
    """It has the whole response if uvicorn has sent as much as the Content-Length says."""
    bench = Bench()

    class Cycle(Client):
        chunked_encoding = chunked
        expected_content_length = left

    client = Cycle()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await send(MORE)
        client.disconnected = True
        await send({**BODY, "body": b""})

    bench.call(app, client, clients=middleware.UVICORN)
    assert bench.requests() == {("GET", "/items/:id", status): 1.0}


@pytest.mark.parametrize("pieces", [[BODY], [MORE, BODY]], ids=["one piece", "pieces"])
@pytest.mark.parametrize(
    ("method", "status", "started", "seen"),
    [
        ("HEAD", 200, True, "200"),
        ("GET", 204, True, "204"),
        ("GET", 304, True, "304"),
        ("HEAD", 200, False, "499"),
        ("GET", 204, False, "499"),
        ("GET", 200, True, "499"),
    ],
)
def test_uvicorn_disconnect_after_the_headers_of_a_response_without_a_body_is_no_499(
    pieces: list[Message], method: str, status: int, started: bool, seen: str
) -> None:
    """The headers are the whole response, if uvicorn had a client for them."""
    bench = Bench()

    class Cycle(Client):
        response_started = started

    client = Cycle()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({**START, "status": status})
        client.disconnected = True
        for piece in pieces:
            await send(piece)

    bench.call(app, client, method=method, clients=middleware.UVICORN)
    assert bench.requests() == {(method, "/items/:id", seen): 1.0}
    assert bench.in_progress() == 0


@pytest.mark.parametrize("method", ["HEAD", "GET"])
@pytest.mark.parametrize("raises", [False, True])
def test_application_that_stops_when_the_client_has_all_of_a_response_without_a_body(method: str, raises: bool) -> None:
    """A framework that listens for the disconnect ends the request without a last message: 499 only with a body."""
    bench = Bench()

    client = StartedCycle()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await send(MORE)
        client.disconnected = True
        if raises:
            raise ClientDisconnect

    class ClientDisconnect(Exception):
        """As Starlette's."""

    try:
        bench.call(app, client, method=method, clients=middleware.UVICORN)
    except ClientDisconnect:
        assert raises
    assert bench.requests() == {(method, "/items/:id", "200" if method == "HEAD" else "499"): 1.0}
    assert bench.failures() == {}


@pytest.mark.parametrize(
    ("method", "status", "version", "seen"),
    [
        ("HEAD", 200, "1.1", "200"),
        ("GET", 204, "1.1", "204"),
        ("GET", 200, "1.1", "499"),
        ("HEAD", 200, "2", "499"),
    ],
)
@pytest.mark.parametrize("ends", [True, False])
def test_client_that_leaves_with_the_headers_of_a_response_without_a_body_has_everything(
    monkeypatch: pytest.MonkeyPatch, method: str, status: int, version: str, seen: str, ends: bool
) -> None:
    """gunicorn 25.0 sends them at once over HTTP/1, whether the application ends the response then or not."""
    bench = Bench()
    gone = False
    monkeypatch.setattr(http2, "departure", lambda receive, send: lambda: gone)
    client = Client()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal gone
        await send({**START, "status": status})
        gone = client._closed = True
        await receive()
        if ends:
            await send(BODY)

    bench.call(app, client, plain=True, method=method, http_version=version)
    assert bench.requests() == {(method, "/items/:id", seen): 1.0}
    assert bench.failures() == {}
