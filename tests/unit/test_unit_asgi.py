"""The calls of an ASGI application, at the level of messages."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from enum import Enum
from typing import Any

import pytest
from gunicorn.http2.errors import HTTP2ConnectionError
from unit_support import Recorded

from gunicorn_prom_hooks.scoreboard.families import (
    ERROR_HANDLING,
    FAILED,
    QUEUE,
    REQUEST_SIZE_SUM,
    REQUESTS,
    RESPONSE_SIZE_SUM,
    WEBSOCKETS,
)
from gunicorn_prom_hooks.scoreboard.layout import INFLIGHT_ENTRIES
from gunicorn_prom_hooks.scoreboard.slot import Slot
from gunicorn_prom_hooks.worker import asgi
from gunicorn_prom_hooks.worker.asgi_requests import AsgiRequests
from gunicorn_prom_hooks.worker.clients import Application, Message, Receive, Scope, Send
from gunicorn_prom_hooks.worker.endpoints import Resolve

START: Message = {"type": "http.response.start", "status": 200, "headers": []}
BODY: Message = {"type": "http.response.body", "body": b"ok"}
MORE: Message = {"type": "http.response.body", "body": b"more", "more_body": True}


class Worker:
    """What is looked at of gunicorn's."""

    alive = True


class NativeWorker(Worker):
    """gunicorn's asgi worker."""

    asgi = None


class Transport:
    """What is looked at of asyncio's."""

    def __init__(self, closing: bool) -> None:
        self.is_closing = lambda: closing


class Client:
    """The server's side of a request: ``receive`` is a method of what says whether the client is gone."""

    def __init__(self) -> None:
        self.protocol = self
        self._closed = self._conn_lost_handled = self.disconnected = False
        self.messages: list[Message] = []
        self.refuses: BaseException | None = None
        self.transport: Transport | None = None

    async def receive(self) -> Message:
        if self._closed:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(self, message: Message) -> None:
        if self.refuses is not None:
            raise self.refuses
        self.messages.append(message)


class Bench(Recorded):
    """A slot, and applications called as a server calls them."""

    def __init__(
        self,
        resolve: Resolve | None = None,
        queue_header: bytes | None = b"x-request-start",
        slot: Slot | None = None,
    ) -> None:
        super().__init__(slot=slot)
        self.worker = Worker()
        self.calls = AsgiRequests(self.recorder, resolve, self.guard, queue_header)

    def call(
        self,
        app: Application,
        client: Client | None = None,
        *,
        plain: bool = False,
        clients: asgi.Clients = asgi.GUNICORN,
        **scope: Any,
    ) -> Client:
        """One request; ``plain``: the server gives plain functions, as for HTTP/2."""
        client = client or Client()
        whole: Scope = {"type": "http", "method": "GET", "path": "/items/7", "headers": [], **scope}
        receive: Receive = client.receive
        if plain:

            async def receive() -> Message:
                return await client.receive()

        application = asgi.recorded(app, self.worker, self.calls, clients)
        asyncio.run(_awaited(application(whole, receive, client.send)))
        return client

    def failures(self) -> dict[tuple[str, ...], float]:
        """Failed requests by method, endpoint, error_type."""
        return self.counts(FAILED)

    def size(self, direction: int, path: str) -> float:
        """Bytes of the bodies of a path, by the cell that they are added up in."""
        return sum(cells[direction] for labels, cells in self.series(REQUESTS).items() if labels[1] == path)


async def _awaited(call: Awaitable[None]) -> None:
    await call


def sends(*messages: Message) -> Application:
    """An application that sends these."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    return app


plain = pytest.mark.parametrize("plain", [False, True], ids=["method", "function"])


@plain
def test_the_usual_request(plain: bool) -> None:
    """It is counted when its last message has passed, again and again, and nothing stays in progress."""
    bench = Bench()
    for _ in range(3):
        client = bench.call(sends(START, BODY), plain=plain)
        assert client.messages == [START, BODY]
    assert bench.requests() == {("GET", "/items/:id", "200"): 3.0}
    assert bench.in_progress() == 0
    assert not bench.guard.counts


@plain
def test_it_is_in_progress_until_its_last_message(plain: bool) -> None:
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
def test_exceptions(plain: bool) -> None:
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


@plain
def test_no_answer_and_half_an_answer(plain: bool) -> None:
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


def test_dropped_without_a_word() -> None:
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


@pytest.mark.parametrize("clients", [asgi.GUNICORN, asgi.UVICORN], ids=["gunicorn", "uvicorn"])
def test_cut_off_in_mid_response(clients: asgi.Clients) -> None:
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
def test_refused_by_a_stream(error: Exception) -> None:
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


@plain
def test_cancelled(plain: bool) -> None:
    """A request that is cancelled is a client that left; in a worker that is leaving it goes down with it."""
    bench = Bench()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        bench.call(app, plain=plain)
    assert bench.requests() == {("GET", "/items/:id", "499"): 1.0}
    bench.worker.alive = False
    with pytest.raises(asyncio.CancelledError):
        bench.call(app, plain=plain)
    assert bench.requests() == {("GET", "/items/:id", "499"): 1.0}
    assert bench.in_progress() == 1


@plain
@pytest.mark.parametrize("name", ["ClientDisconnect", "RequestAborted"])
def test_frameworks_that_say_so(plain: bool, name: str) -> None:
    """The exceptions in which frameworks tell that the client is gone are none of the application's."""
    bench = Bench()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise type(name, (Exception,), {})

    with pytest.raises(Exception):  # noqa: B017, PT011 - its class is made above
        bench.call(app, plain=plain)
    assert bench.requests() == {("GET", "/items/:id", "499"): 1.0}
    assert bench.failures() == {}


@plain
def test_sizes_and_waiting(plain: bool) -> None:
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
def test_no_room_in_the_table(plain: bool) -> None:
    """Where the in-flight table is full, or the scope is none, the request is served."""
    bench = Bench()
    bench.calls.places.free.clear()
    bench.call(sends(START, BODY), plain=plain)
    bench.call(sends(START, BODY), plain=plain)
    assert bench.requests() == {("GET", "/items/:id", "200"): 2.0}
    assert bench.in_progress() == 0
    assert bench.call(sends(START, BODY), plain=plain, path=None).messages == [START, BODY]
    assert bench.guard.counts["asgi"] == 1


def test_no_room_in_the_table_and_an_endpoint_of_the_framework() -> None:
    """A request that found no place in the in-flight table has none to give back."""
    bench = Bench(lambda scope: "/things/{name}")
    for _ in range(2):
        bench.call(sends(START, BODY))
    places = list(bench.calls.places.free)
    bench.calls.places.free.clear()
    bench.call(sends(START, BODY))
    assert bench.calls.places.free == []
    assert bench.in_progress() == 0
    bench.calls.places.free += places
    assert bench.requests() == {("GET", "/things/{name}", "200"): 3.0}


@plain
def test_a_second_response(plain: bool) -> None:
    """What is sent after a response is the server's to refuse: the request is counted once, and its place free once."""
    bench = Bench()
    for _ in range(3):
        bench.call(sends(START, BODY, START, BODY), plain=plain)
    assert bench.requests() == {("GET", "/items/:id", "200"): 3.0}
    assert bench.in_progress() == 0
    assert len(set(bench.calls.places.free)) == len(bench.calls.places.free) == INFLIGHT_ENTRIES


def test_odd_messages() -> None:
    """What is no message is the server's to refuse; trailers and informational ones are not the response."""
    bench = Bench()
    bench.call(sends({"type": "http.response.informational", "status": 103}, START, BODY, {"type": "http.x"}, BODY))
    assert bench.requests() == {("GET", "/items/:id", "200"): 1.0}
    bench.call(sends({}))
    assert bench.requests()["GET", "/items/:id", "500"] == 1.0


def test_endpoint_of_the_framework() -> None:
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


class Code(int, Enum):
    """A status with a text of its own, as those of ``http.HTTPStatus`` were before Python 3.11."""

    FINE = 200


def test_a_status_that_has_a_name() -> None:
    """Its number is the label."""
    bench = Bench()
    bench.call(sends({**START, "status": Code.FINE}, BODY))
    assert bench.requests() == {("GET", "/items/:id", "200"): 1.0}


def websocket(*messages: Message, raises: BaseException | None = None) -> Application:
    """A websocket application that sends these, then returns or raises."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)
        if raises is not None:
            raise raises

    return app


def test_websockets() -> None:
    """An accepted one is opened and closed, and no request; one that fails is a failure; a refused one a request."""
    bench = Bench()
    accept: Message = {"type": "websocket.accept"}
    bench.call(websocket(accept), type="websocket", path="/ws")
    with pytest.raises(ValueError, match="x"):
        bench.call(websocket(accept, raises=ValueError("x")), type="websocket", path="/ws")
    gone = type("WebSocketDisconnect", (Exception,), {})()
    with pytest.raises(type(gone)):
        bench.call(websocket(accept, raises=gone), type="websocket", path="/ws")
    assert bench.requests() == {}
    assert bench.series(WEBSOCKETS) == {("/ws",): [3.0, 3.0]}
    assert bench.failures() == {("GET", "/ws", "ValueError"): 1.0}
    bench.call(websocket({"type": "websocket.close"}), type="websocket", path="/ws")
    denied: Message = {"type": "websocket.http.response.start", "status": 401}
    bench.call(websocket(denied), type="websocket", path="/ws")
    bench.call(websocket(denied), type="websocket", path="/ws", extensions={"websocket.http.response": {}})
    assert bench.requests() == {("GET", "/ws", "403"): 2.0, ("GET", "/ws", "401"): 1.0}
    assert bench.in_progress() == 0


@pytest.mark.parametrize(("worker", "status"), [(NativeWorker(), "403"), (Worker(), "500")], ids=["asgi", "uvicorn"])
def test_a_handshake_without_an_answer(worker: Worker, status: str) -> None:
    """What an application leaves without a word gunicorn forbids, and uvicorn takes for a mistake."""
    bench = Bench()
    bench.worker = worker
    bench.call(websocket(), type="websocket", path="/ws")
    assert bench.requests() == {("GET", "/ws", status): 1.0}


@pytest.mark.parametrize("accepted", [True, False])
def test_a_websocket_whose_client_has_left(accepted: bool) -> None:
    """The server may say so with an exception of its own, or with any once its transport is closed: no failure."""

    class Gone(type("ClientDisconnected", (OSError,), {})):  # type: ignore[misc]  # a class that is made here
        """As that of gunicorn's websockets."""

    bench, client = Bench(), Client()
    client.transport = Transport(closing=not accepted)
    app = (
        websocket({"type": "websocket.accept"}, raises=Gone()) if accepted else websocket(raises=RuntimeError("closed"))
    )
    with pytest.raises(Gone if accepted else RuntimeError):
        bench.call(app, client, type="websocket", path="/ws")
    assert bench.failures() == {}
    assert bench.requests() == ({} if accepted else {("GET", "/ws", "499"): 1.0})


def test_lifespan() -> None:
    """Anything that is neither is the application's, as the server gave it."""
    bench = Bench()
    given: list[tuple[Any, ...]] = []

    async def app(*arguments: Any) -> None:
        given.append(arguments)

    client = bench.call(app, type="lifespan")
    assert given[0][1] == client.receive
    assert given[0][2] == client.send
    assert bench.requests() == {}


def test_cancelled_by_the_application() -> None:
    """uvicorn cancels nothing, and answers a request that comes out cancelled with a 500: the application's failure."""
    bench = Bench()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        bench.call(app, clients=asgi.UVICORN)
    assert bench.requests() == {("GET", "/items/:id", "500"): 1.0}
    assert bench.failures() == {("GET", "/items/:id", "CancelledError"): 1.0}
    assert bench.in_progress() == 0


@plain
@pytest.mark.parametrize(
    "headers",
    [None, 7, [()], [(b"one",)], [(["unhashable"], b"")], [(b"x-request-start", 7)], [("x-request-start", None), None]],
)
def test_headers_that_the_application_has_replaced(plain: bool, headers: Any) -> None:
    """A scope that is not as it was costs its request neither its count nor its place in the in-flight table."""
    bench = Bench()
    bench.call(sends(START, BODY), plain=plain)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["headers"] = headers
        await sends(START, BODY)(scope, receive, send)

    assert bench.call(app, plain=plain).messages == [START, BODY]
    assert bench.requests() == {("GET", "/items/:id", "200"): 2.0}
    assert bench.in_progress() == 0
    assert len(bench.calls.places.free) == INFLIGHT_ENTRIES
    assert bench.guard.counts == {"asgi": 1}


@plain
@pytest.mark.parametrize("status", [-1, 1200, 10_200])
def test_a_number_that_is_no_status(plain: bool, status: int) -> None:
    """Whatever the application says is what it is counted under, and for nothing else."""
    bench = Bench()
    bench.call(sends(START, BODY), plain=plain, headers=[(b"content-length", b"2000")])
    bench.call(sends(START, {**BODY, "body": bytes(2000)}), plain=plain)
    for said in (200, status, 200, status):
        bench.call(sends({**START, "status": said}, BODY), plain=plain)
    assert bench.requests() == {("GET", "/items/:id", "200"): 4.0, ("GET", "/items/:id", str(status)): 2.0}
    assert bench.in_progress() == 0


class Odd(BaseException):
    """Neither an ``Exception`` nor the end of the worker."""


@plain
def test_an_exception_that_is_none(plain: bool) -> None:
    """It ends the task and not the worker: a failure. What ends the worker is what the request goes down with."""
    bench = Bench()
    for error, running in ((Odd(), 0), (SystemExit(1), 1)):

        async def app(scope: Scope, receive: Receive, send: Send, error: BaseException = error) -> None:
            raise error

        with pytest.raises(type(error)):
            bench.call(app, plain=plain)
        assert bench.in_progress() == running
    assert bench.requests() == {("GET", "/items/:id", "500"): 1.0}
    assert bench.failures() == {("GET", "/items/:id", "Odd"): 1.0}


def test_the_endpoint_of_who_did_not_wait() -> None:
    """A client that hung up on a 404 has asked for nothing that there is, whoever hung up on that path before."""
    bench = Bench()

    def leaves(status: int) -> Client:
        client = Client()
        client._closed = True
        return bench.call(sends({**START, "status": status}, BODY), client)

    leaves(200)
    leaves(404)
    assert bench.requests() == {("GET", "/items/:id", "499"): 1.0, ("GET", "<unmatched>", "499"): 1.0}


@plain
def test_each_waiting_request_is_counted_once(plain: bool) -> None:
    """Behind a proxy that says since when, every request has waited: the first like it, and those that find its row."""
    bench = Bench()
    for _ in range(3):
        bench.call(sends(START, BODY), plain=plain, headers=[(b"x-request-start", b"t=%f" % (time.time() - 5))])
    (waits,) = bench.series(QUEUE).values()
    assert sum(waits[1:]) == 3.0
    assert 14.7 < waits[0] < 16.5
    assert bench.requests() == {("GET", "/items/:id", "200"): 3.0}
    assert bench.in_progress() == 0
