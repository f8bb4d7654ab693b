"""ASGI requests whose client leaves, or seems to."""

from __future__ import annotations

import asyncio

import pytest
from gunicorn.http2.errors import HTTP2ConnectionError
from unit_asgi import BODY, MORE, START, Bench, Client, Transport, plain, sends

from gunicorn_prom_hooks.worker import asgi
from gunicorn_prom_hooks.worker.clients import Receive, Scope, Send


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
