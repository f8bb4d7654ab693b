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
"""Exceptions of frameworks and servers which say that the client went away; so do those derived from them."""


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


def is_cut_off(client: Any) -> bool:
    """Whether the transport has closed itself since it could not write.

    The server hears of that when its loop runs next: an application that sends one piece after the other, and never
    has to wait, comes to the end of its response before. ``client`` is what ``receive`` is a method of.
    """
    transport = getattr(client, "transport", None) or getattr(getattr(client, "protocol", None), "transport", None)
    return transport is not None and bool(transport.is_closing())


def says_goodbye(exc: BaseException, left: bool, cancels: bool) -> bool:
    """Whether what the application was at ended with this exception since the client went away.

    Args:
        exc: what came out of the application.
        left: whether the server knows that the client is gone.
        cancels: whether a request is cancelled since its client went away: by gunicorn, while the worker is alive.
    """
    if isinstance(exc, asyncio.CancelledError):
        return left or cancels
    if left and isinstance(exc, OSError):
        return True
    return not _GOODBYES.isdisjoint(base.__name__ for base in type(exc).__mro__)


def is_raised_by_server(exc: BaseException) -> bool:
    """Whether the server raised this itself, in ``send``: it has refused what the application sent."""
    traceback, package = exc.__traceback__, ""
    while traceback is not None:
        package = traceback.tb_frame.f_globals.get("__name__", "").partition(".")[0]
        traceback = traceback.tb_next
    return package in ("gunicorn", "uvicorn")
