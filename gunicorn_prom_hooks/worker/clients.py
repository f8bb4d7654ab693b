"""What an ASGI server tells of its client: still there, or gone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

_GOODBYES: Final = frozenset({"ClientDisconnect", "ClientDisconnected", "RequestAborted", "WebSocketDisconnect"})
"""Exceptions of frameworks and servers which say that the client went away."""


class Listening:
    """A ``receive`` that notes when the application is told that the client is gone.

    For servers that give a plain function, as gunicorn does for HTTP/2: there is nothing that the news can be read off.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.disconnected = False

    async def receive(self) -> Message:
        """The next message."""
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.disconnected = True
        return message


def has_left(receive: Receive) -> bool:
    """Whether the server knows that the client is gone. It then drops what the application sends without a word.

    What ``receive`` would tell the application of it is read off the object that it is a method of: with gunicorn the
    request's ``BodyReceiver``, with uvicorn its ``RequestResponseCycle``.
    """
    server = getattr(receive, "__self__", None)
    return bool(getattr(server, "disconnected", False) or getattr(server, "_closed", False))


def is_cut_off(receive: Receive) -> bool:
    """Whether the transport has closed itself since it could not write.

    The server hears of that when its loop runs next: an application that sends one piece after the other, and never
    has to wait, comes to the end of its response before.
    """
    server = getattr(receive, "__self__", None)
    transport = getattr(server, "transport", None) or getattr(getattr(server, "protocol", None), "transport", None)
    return transport is not None and bool(transport.is_closing())


def says_goodbye(exc: BaseException, receive: Receive, worker: Any) -> bool:
    """Whether what the application was at ended with this exception since the client went away."""
    if isinstance(exc, asyncio.CancelledError):
        return bool(worker.alive) or has_left(receive)
    return type(exc).__name__ in _GOODBYES or (isinstance(exc, OSError) and has_left(receive))
