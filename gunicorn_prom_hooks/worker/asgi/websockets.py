"""Websockets of an ASGI application: how many were opened, and are open.

A websocket is no request: it may last for days. Only a refused handshake has a response with a status, and is counted
as a request.
"""

from __future__ import annotations

from time import monotonic
from typing import Any, Final

from ..recording.exceptions import CLIENT_GONE
from ..recording.requests import NO_STATUS
from .disconnects import (
    Application,
    Listening,
    Message,
    Receive,
    Scope,
    Send,
    cancels_itself,
    error_type_of,
    is_cut_off,
    is_disconnect,
)
from .request_recorder import AsgiRequests

FORBIDDEN: Final = 403
"""Status of a handshake that the application closes before it has accepted it."""
DENIAL: Final = "websocket.http.response"
"""The extension with which a server lets the application answer a refused handshake itself; else it is forbidden."""


class Websockets:
    """The websockets of one worker.

    Args:
        app: an ASGI 3 application.
        worker: gunicorn's.
        requests: where refused handshakes are recorded.
    """

    def __init__(self, app: Application, worker: Any, requests: AsgiRequests) -> None:
        self._app = app
        self._worker = worker
        self._requests = requests
        # Of a handshake that the application leaves open: gunicorn forbids it, to uvicorn it is an error.
        self._default_status = FORBIDDEN if hasattr(worker, "asgi") else NO_STATUS

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the application with a websocket."""
        begun = self._requests.begin(scope, monotonic())
        if begun is None:
            await self._app(scope, receive, send)
            return
        cell: int | None = None
        status = 0
        client, listening = getattr(receive, "__self__", None), Listening(receive)
        closes = False
        refused: Exception | None = None

        async def sending(message: Message) -> None:
            nonlocal cell, begun, status, closes, refused
            closes |= message["type"] == "websocket.close"
            try:
                await send(message)
            except Exception as error:
                # uvloop raises RuntimeError on a lost connection. A close by the application tells nothing.
                if isinstance(error, OSError) or (not closes and is_cut_off(client)):
                    listening.disconnected, refused = True, error
                raise
            if begun is None:
                return
            kind = message["type"]
            if kind == "websocket.accept":
                self._requests.drop(begun)
                begun, cell = None, self._open(scope)
            elif kind == f"{DENIAL}.start":
                status = message["status"] if DENIAL in (scope.get("extensions") or ()) else FORBIDDEN
            elif kind == "websocket.close":
                status = FORBIDDEN

        try:
            await self._app(scope, listening.receive, sending)
        except BaseException as exc:
            cancelled = cancels_itself(exc, self._worker)
            lost = listening.disconnected or (cancelled and is_cut_off(client))
            left = is_disconnect(exc, lost) or exc is refused
            if begun is not None:
                if not status and isinstance(exc, Exception):  # it may be the server's: the client has disconnected
                    left = left or is_cut_off(client)
                if left or cancelled or isinstance(exc, Exception):
                    seen = status or (self._default_status if cancelled else NO_STATUS)
                    error_type = None if left else error_type_of(exc)
                    self._requests.end(scope, begun, CLIENT_GONE if left else seen, 0, status, error_type)
            elif isinstance(exc, Exception) and not left:
                self._requests.failed(scope, "GET", None, error_type_of(exc))
            raise
        else:
            if begun is not None:
                self._requests.end(scope, begun, status or self._default_status, 0, status)
        finally:
            if cell is not None:
                self._requests.naming.close_websocket(cell)

    def _open(self, scope: Scope) -> int | None:
        """Count an opened websocket. Return the first of its cells."""
        requests = self._requests
        try:
            label = None if requests.resolve is None else requests.resolve(scope)
            return requests.naming.open_websocket(scope["path"], label)
        except Exception:  # noqa: BLE001 - the websocket must be served
            requests.errors.report("asgi")
            return None
