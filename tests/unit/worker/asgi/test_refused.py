"""ASGI responses that the server refuses, and exceptions that come after a response."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref
from typing import Any

import pytest

from gunicorn_prom_hooks.worker.asgi import middleware
from gunicorn_prom_hooks.worker.asgi.disconnects import Receive, Scope, Send
from tests.helpers.asgi import BODY, START, Bench, Client, StartedCycle, sends


def served_by_uvicorn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the test's server pass for uvicorn in tracebacks."""
    monkeypatch.setitem(Client.send.__globals__, "__name__", "uvicorn.protocols.http.h11_impl")


@pytest.mark.parametrize("status", [200, 404, 503])
def test_refused_last_message_is_one_failure_of_the_request(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    """Its status was counted before; a 5xx was a failure already. Messages after the last one do not count."""
    bench = Bench()
    client = Client()
    served_by_uvicorn(monkeypatch)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({**START, "status": status})
        client.refuses = RuntimeError("Too little data")
        await send(BODY)

    async def later(scope: Scope, receive: Receive, send: Send) -> None:
        client.refuses = None
        await sends({**START, "status": status}, BODY)(scope, receive, send)
        client.refuses = RuntimeError("already completed")
        await send(dict(BODY))

    endpoint = "<unmatched>" if status == 404 else "/items/:id"
    failed = {("GET", endpoint, "HTTP 503" if status == 503 else "RuntimeError"): 1.0}
    with pytest.raises(RuntimeError, match="little"):
        bench.call(app, client)
    assert bench.requests() == {("GET", endpoint, str(status)): 1.0}
    assert bench.failures() == failed
    with pytest.raises(RuntimeError, match="completed"):
        bench.call(later, client)
    assert bench.requests() == {("GET", endpoint, str(status)): 2.0}
    assert bench.failures() == {key: value + (status == 503) for key, value in failed.items()}
    assert not bench.errors.counts


def test_own_exception_after_the_last_message_is_no_failure_of_the_request() -> None:
    """A background task fails after the response: its exception is not the server's."""
    bench = Bench()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        message = dict(BODY)
        await send(START)
        await send(message)
        raise ValueError(message)

    with pytest.raises(ValueError, match="ok"):
        bench.call(app)
    assert bench.failures() == {}


@pytest.mark.parametrize(("alive", "counted"), [(True, 1), (False, 0)])
def test_generator_exit_of_the_application_ends_its_request(alive: bool, counted: int) -> None:
    """The request is over, with a failure, while the worker goes on; in one that exits it stays in the table."""
    bench = Bench()
    bench.worker.alive = alive

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise GeneratorExit

    with pytest.raises(GeneratorExit):
        bench.call(app)
    assert bench.failures() == ({("GET", "/items/:id", "GeneratorExit"): 1.0} if counted else {})
    assert bench.in_progress() == 1 - counted


def test_cancellation_by_the_server_during_the_last_message_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """gunicorn cancels a request whose client has left while a large response was waiting to be sent."""
    served_by_uvicorn(monkeypatch)
    bench, client = Bench(), Client()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        client.refuses = asyncio.CancelledError()
        sending = send(BODY)
        client._conn_lost_handled = True
        await sending

    with pytest.raises(asyncio.CancelledError):
        bench.call(app, client)
    assert bench.failures() == {}


def test_message_that_is_sent_once_more_after_the_end_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """The response was complete, also if the application uses the same object again."""
    served_by_uvicorn(monkeypatch)
    bench, client = Bench(), Client()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await sends(START, BODY)(scope, receive, send)
        client.refuses = RuntimeError("already completed")
        await send(BODY)

    with pytest.raises(RuntimeError, match="completed"):
        bench.call(app, client)
    assert bench.failures() == {}


def test_second_start_of_a_response_does_not_change_its_status(monkeypatch: pytest.MonkeyPatch) -> None:
    """uvicorn refuses it: the client has seen the first one, and the rest fails."""
    served_by_uvicorn(monkeypatch)
    bench = Bench()

    client = StartedCycle()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        client.refuses = RuntimeError("Expected body")
        await send({**START, "status": 500})

    with pytest.raises(RuntimeError, match="Expected"):
        bench.call(app, client, clients=middleware.UVICORN)
    assert bench.requests() == {("GET", "/items/:id", "200"): 1.0}
    assert bench.failures() == {("GET", "/items/:id", "RuntimeError"): 1.0}


def test_exception_after_the_response_keeps_no_objects_of_the_application_alive() -> None:
    """What a failing background task has held is freed with it, and not by the garbage collector."""

    class Session:
        """What an application holds."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        session = Session()
        sessions.append(weakref.ref(session))
        await sends(START, BODY)(scope, receive, send)
        raise ValueError("in the background")

    sessions: list[weakref.ref[Session]] = []
    bench, client = Bench(), Client()
    scope: Scope = {"type": "http", "method": "GET", "path": "/x", "headers": []}
    gc.disable()
    try:
        # Without asyncio, which makes such a cycle itself.
        coroutine: Any = middleware.recorded(app, bench.worker, bench.calls, middleware.GUNICORN)(
            scope, client.receive, client.send
        )
        with contextlib.suppress(ValueError):
            coroutine.send(None)
        assert sessions[0]() is None
    finally:
        gc.enable()
