"""The application of an ASGI worker, called so that its requests are recorded: gunicorn's asgi worker and uvicorn's.

No hook tells what an ASGI application answers, and gunicorn's asgi worker is slower where there is one. So the loaded
application is called through a coroutine that looks at the messages as they pass. A request ends with the last
message of its response's body: what the application goes on to do in the background is none of it.
"""

from __future__ import annotations

from time import monotonic
from typing import Any, Final

from .asgi_requests import AsgiRequests
from .clients import Application, Listening, Message, Receive, Scope, Send, has_left, is_cut_off, says_goodbye
from .errors import CLIENT_GONE
from .requests import NO_STATUS
from .websockets import Websockets

INCOMPLETE: Final = "IncompleteResponse"
"""error_type of a response that the application began and did not end, without an exception."""


def recorded(app: Application, worker: Any, requests: AsgiRequests) -> Application:
    """The application, with its HTTP requests and websockets recorded, and its lifespan left alone.

    Args:
        app: an ASGI 3 application.
        worker: gunicorn's; while it is alive, a request is cancelled since its client went away.
        requests: where they are recorded.
    """
    begin, end = requests.begin, requests.end
    websocket = Websockets(app, worker, requests).serve

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await (websocket if scope["type"] == "websocket" else app)(scope, receive, send)
            return
        started = monotonic()
        begun = begin(scope, started)
        if begun is None:
            await app(scope, receive, send)
            return
        status = sent = 0
        ended = gone = False
        if not hasattr(receive, "__self__"):
            receive = Listening(receive).receive

        async def sending(message: Message) -> None:
            nonlocal status, sent, ended, gone
            try:
                if sent and not ended and not message.get("more_body"):
                    gone = is_cut_off(receive)  # the server may close it by itself once all is sent
                await send(message)
            except OSError:
                gone = True
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
                    end(scope, begun, started, CLIENT_GONE if gone or has_left(receive) else status, sent, status)
            elif kind == "http.response.start":
                status = message["status"]

        try:
            await app(scope, receive, sending)
        except BaseException as exc:
            if not ended:
                ended = True
                if gone or says_goodbye(exc, receive, worker):
                    end(scope, begun, started, CLIENT_GONE, sent, status)
                elif isinstance(exc, Exception):
                    end(scope, begun, started, status or NO_STATUS, sent, status, type(exc).__name__)
                # Else nothing is answered: the worker dies on it, and the in-flight table goes on saying so.
            raise
        if not ended:
            ended = True
            if gone or has_left(receive):
                end(scope, begun, started, CLIENT_GONE, sent, status)
            elif status:
                end(scope, begun, started, status, sent, status, INCOMPLETE)
            else:
                end(scope, begun, started, NO_STATUS, sent, status)

    return application
