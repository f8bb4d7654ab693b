"""Websockets, at the level of messages."""

from __future__ import annotations

from asyncio import CancelledError

import pytest

from gunicorn_prom_hooks.shm.schema import WEBSOCKETS
from gunicorn_prom_hooks.worker.asgi.disconnects import Application, Message, Receive, Scope, Send
from tests.helpers.asgi import Bench, Client, NativeWorker, Transport, Worker


class Told(Client):
    """A server's side that tells that the client is gone."""

    async def receive(self) -> Message:
        return {"type": "websocket.disconnect", "code": 1006}


def websocket(*messages: Message, raises: BaseException | None = None, listens: bool = False) -> Application:
    """A websocket application that sends these, waits for a message if it listens, then returns or raises."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)
        if listens:
            await receive()
        if raises is not None:
            raise raises

    return app


def test_accepted_websocket_is_counted_and_a_refused_one_is_a_request() -> None:
    """An accepted one is opened and closed, and no request; one that fails is a failure; a refused one a request."""
    bench = Bench()
    accept: Message = {"type": "websocket.accept"}
    bench.call(websocket(accept), type="websocket", path="/ws")
    with pytest.raises(ValueError, match="x"):
        bench.call(websocket(accept, raises=ValueError("x")), type="websocket", path="/ws")
    gone = type("WebSocketDisconnect", (Exception,), {})()
    with pytest.raises(type(gone)):
        bench.call(websocket(accept, raises=gone, listens=True), Told(), type="websocket", path="/ws")
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
def test_handshake_without_a_response_is_403_in_gunicorn_and_500_in_uvicorn(worker: Worker, status: str) -> None:
    """What an application leaves without a word gunicorn forbids, and uvicorn takes for a mistake."""
    bench = Bench()
    bench.worker = worker
    bench.call(websocket(), type="websocket", path="/ws")
    assert bench.requests() == {("GET", "/ws", status): 1.0}


@pytest.mark.parametrize("accepted", [True, False])
def test_disconnect_of_a_websocket_is_not_a_failure(accepted: bool) -> None:
    """The server may say so with an exception of its own, or with any once its transport is closed: no failure."""

    class Gone(type("ClientDisconnected", (OSError,), {})):  # type: ignore[misc]  # a class that is made here
        """As that of gunicorn's websockets."""

    bench, client = Bench(), Client()
    client.transport = Transport(closing=not accepted)

    async def sends_on(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        client.refuses = Gone()
        await send({"type": "websocket.send", "text": "x"})

    app = sends_on if accepted else websocket(raises=RuntimeError("closed"))
    with pytest.raises(Gone if accepted else RuntimeError):
        bench.call(app, client, type="websocket", path="/ws")
    assert bench.failures() == {}
    assert bench.requests() == ({} if accepted else {("GET", "/ws", "499"): 1.0})


@pytest.mark.parametrize("closes", [False, True])
def test_send_error_on_a_lost_connection_is_a_failure_only_after_a_close(closes: bool) -> None:
    """uvloop raises RuntimeError there: a disconnect, unless the application itself has closed the websocket."""
    bench, client = Bench(), Client()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        if closes:
            await send({"type": "websocket.close"})
        client.transport, client.refuses = Transport(closing=True), RuntimeError("the handler is closed")
        await send({"type": "websocket.send", "text": "x"})

    with pytest.raises(RuntimeError):
        bench.call(app, client, type="websocket", path="/ws")
    assert bench.failures() == ({("GET", "/ws", "RuntimeError"): 1.0} if closes else {})


@pytest.mark.parametrize("accepted", [True, False])
@pytest.mark.parametrize(
    "error", [TimeoutError(), ConnectionResetError(), type("WebSocketDisconnect", (Exception,), {})()]
)
def test_error_while_the_client_is_connected_is_a_failure_by_its_class(accepted: bool, error: Exception) -> None:
    """What no server has told the application is its own failure, whatever it is called."""
    bench = Bench()
    messages: list[Message] = [{"type": "websocket.accept"}] if accepted else []
    with pytest.raises(type(error)):
        bench.call(websocket(*messages, raises=error), type="websocket", path="/ws")
    assert bench.failures() == {("GET", "/ws", type(error).__name__): 1.0}
    assert bench.requests() == ({} if accepted else {("GET", "/ws", "500"): 1.0})
    assert bench.in_progress() == 0


def test_error_after_a_close_by_the_application_is_a_failure() -> None:
    """That the transport is closed then is the application's own doing, and says nothing of the client."""
    bench, client = Bench(), Client()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close"})
        client.transport = Transport(closing=True)
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        bench.call(app, client, type="websocket", path="/ws")
    assert bench.failures() == {("GET", "/ws", "ConnectionResetError"): 1.0}


@pytest.mark.parametrize(("worker", "status"), [(NativeWorker(), "403"), (Worker(), "500")], ids=["asgi", "uvicorn"])
def test_handshake_canceled_by_the_application_is_a_failure_or_499_if_lost(worker: Worker, status: str) -> None:
    """It is the application's failure, unless the connection is lost: then the server has canceled it."""
    bench, client = Bench(), Client()
    bench.worker = worker
    app = websocket(raises=CancelledError())
    with pytest.raises(CancelledError):
        bench.call(app, client, type="websocket", path="/ws")
    client.transport = Transport(closing=True)
    with pytest.raises(CancelledError):
        bench.call(app, client, type="websocket", path="/ws")
    assert bench.failures() == {("GET", "/ws", "CancelledError"): 1.0}
    assert bench.requests() == {("GET", "/ws", status): 1.0, ("GET", "/ws", "499"): 1.0}
    worker.alive = False
    with pytest.raises(CancelledError):
        bench.call(app, client, type="websocket", path="/ws")
    worker.alive = True
    assert bench.in_progress() == 1, "the worker goes down with it"
