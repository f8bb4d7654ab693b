"""HTTP/2 streams of gunicorn's asgi worker, where no object tells whether the client has disconnected.

The server tells the application, in ``receive``, and raises an exception when something is sent after the disconnect.
So the outcome of each message is awaited. gunicorn 25.0 serves HTTP/1 in the same way. What older versions do not raise
is asked of ``departure``.
"""

from __future__ import annotations

from time import monotonic
from typing import Any

from ..._gunicorn import HTTP2_CONNECTION_GONE, departure
from ..frameworks.starlette import has_broken_off
from ..recording.exceptions import CLIENT_GONE
from .disconnects import (
    Application,
    Listening,
    Message,
    Receive,
    Scope,
    Send,
    announced_length,
    cancels_itself,
    stream_holds_headers,
    was_cancelled,
)
from .request_recorder import BODILESS, AsgiRequests

_GONE: tuple[type[BaseException], ...] = (OSError, *HTTP2_CONNECTION_GONE)


class Streams:
    """The HTTP/2 streams of one worker.

    Args:
        app: an ASGI 3 application.
        worker: gunicorn's.
        requests: where they are recorded.
    """

    def __init__(self, app: Application, worker: Any, requests: AsgiRequests) -> None:
        self._app = app
        self._worker = worker
        self._requests = requests

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the application with a request."""
        requests = self._requests
        begun = requests.begin(scope, monotonic())
        if begun is None:
            await self._app(scope, receive, send)
            return
        client, has_left = Listening(receive), departure(receive, send)
        status = sent = 0
        length: int | None = None
        ended = left = False

        def has_everything() -> bool:
            is_bodiless = status in BODILESS or (status > 0 and scope.get("method") == "HEAD")
            # HTTP/2 sends the headers with the first piece of the body.
            return is_bodiless and str(scope.get("http_version")).startswith("1")

        async def sending(message: Message) -> None:
            nonlocal status, sent, length, ended, left
            # A client that has all of the response may leave before the application ends it with an empty piece, and
            # one that has the headers of a response without a body.
            if has_left is not None and not ended and sent != length and not has_everything():
                left = left or has_left()
            try:
                await send(message)
            except _GONE:
                client.disconnected = True
                raise
            if ended:
                return
            kind = message["type"]
            if kind == "http.response.body":
                body = message.get("body")
                if body:
                    sent += len(body)
                if status and not message.get("more_body"):
                    ended = True
                    requests.end(scope, begun, CLIENT_GONE if left else status, sent, status)
            elif kind == "http.response.start":
                status = message["status"]
                if has_left is not None:
                    length = announced_length(message)

        try:
            await self._app(scope, client.receive, sending)
        except BaseException as exc:
            if not ended:
                ended = True
                cancelled = cancels_itself(exc, self._worker)
                # The server cancels a stream that goes on after the disconnect, of which it may not have told before.
                gone = left or client.disconnected or (cancelled and was_cancelled())
                if gone and not left and has_everything():
                    requests.end(scope, begun, status, sent, status)
                    raise
                unsent = stream_holds_headers(send)
                requests.broken_off(scope, begun, status, sent, gone, exc, answered=cancelled, unsent=unsent)
            elif not left and not client.disconnected and has_broken_off(exc):
                requests.refused(scope, begun, status, exc)
            raise
        if not ended:
            ended = True
            if client.disconnected and not left and has_everything():
                requests.end(scope, begun, status, sent, status)
            else:
                requests.broken_off(scope, begun, status, sent, left or client.disconnected)
