"""ASGI applications called as a server calls them, and what was recorded of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest

from gunicorn_prom_hooks.shm.schema import FAILED, REQUESTS
from gunicorn_prom_hooks.shm.slot import Slot
from gunicorn_prom_hooks.worker.asgi import middleware
from gunicorn_prom_hooks.worker.asgi.disconnects import Application, Message, Receive, Scope, Send
from gunicorn_prom_hooks.worker.asgi.request_recorder import AsgiRequests
from gunicorn_prom_hooks.worker.recording.labels import Resolve
from tests.helpers.recording import Recorded

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
        self._response_buffer: bytes | None = None

    async def receive(self) -> Message:
        if self._closed:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(self, message: Message) -> None:
        if self.refuses is not None:
            raise self.refuses
        self.messages.append(message)


class StartedCycle(Client):
    """uvicorn's side of a request whose headers are sent."""

    response_started = True


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
        self.calls = AsgiRequests(self.recorder, resolve, self.errors, queue_header)

    def call(
        self,
        app: Application,
        client: Client | None = None,
        *,
        plain: bool = False,
        clients: middleware.Clients = middleware.GUNICORN,
        **scope: Any,
    ) -> Client:
        """Call the application with one request. With ``plain``, ``receive`` is a plain function, as with HTTP/2."""
        client = client or Client()
        whole: Scope = {"type": "http", "method": "GET", "path": "/items/7", "headers": [], **scope}
        receive: Receive = client.receive
        if plain:

            async def receive() -> Message:
                return await client.receive()

        application = middleware.recorded(app, self.worker, self.calls, clients)
        asyncio.run(awaited(application(whole, receive, client.send)))
        return client

    def failures(self) -> dict[tuple[str, ...], float]:
        """Return the failed requests by method, endpoint and error_type."""
        return self.counts(FAILED)

    def size(self, direction: int, path: str) -> float:
        """Return the bytes of the bodies of a path, from the cell ``direction``."""
        return sum(cells[direction] for labels, cells in self.series(REQUESTS).items() if labels[1] == path)


async def awaited(call: Awaitable[None]) -> None:
    """Await the call of an application."""
    await call


def sends(*messages: Message) -> Application:
    """Return an application that sends these messages."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    return app


plain = pytest.mark.parametrize("plain", [False, True], ids=["method", "function"])
