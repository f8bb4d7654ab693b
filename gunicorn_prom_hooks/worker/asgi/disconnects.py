"""Client disconnects, as far as an ASGI server and the exceptions of the application tell of them."""

from __future__ import annotations

from asyncio import CancelledError, current_task
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from types import FrameType
from typing import Any, Final

from ..._gunicorn import SEND_LENGTH, SEND_SENT, SEND_STARTED

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

_DISCONNECTS: Final = frozenset({"ClientDisconnect", "ClientDisconnected", "RequestAborted", "WebSocketDisconnect"})
"""Exceptions, and those derived from them, with which frameworks and servers report a disconnect. They may be
wrong: Starlette raises one for every OSError of a streaming response."""
_SERVERS: Final = ("gunicorn", "uvicorn")
_BUFFER: Final = "_response_buffer"
"""Attribute of gunicorn's protocol: headers that are sent with the first piece of the body. Not in gunicorn 25.0."""
_SEND_HEADERS: Final = "headers_sent"
"""Variable of gunicorn's ``send`` for HTTP/2: whether the headers were sent. Not in gunicorn 25.0."""
_MAX_CONTEXTS: Final = 20
"""Bound of a chain of exceptions, each raised while the next one was handled."""


class Listening:
    """A ``receive`` that records when the application is told of the disconnect.

    For servers whose ``receive`` is a plain function, as gunicorn's for HTTP/2: no object tells of the client.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.disconnected = False

    async def receive(self) -> Message:
        """Return the next message."""
        message = await self._receive()
        if message["type"] in ("http.disconnect", "websocket.disconnect"):
            self.disconnected = True
        return message


def is_cut_off(client: Any) -> bool:
    """Return whether the transport has closed itself since it could not write.

    The server hears of that when its loop runs next: an application that sends one piece after the other, and never
    has to wait, comes to the end of its response before. ``client`` is what ``receive`` is a method of.
    """
    transport = getattr(client, "transport", None) or getattr(getattr(client, "protocol", None), "transport", None)
    return transport is not None and bool(transport.is_closing())


def gunicorn_has_started(client: Any, send: Any) -> bool:
    """Return whether the server has accepted a message that starts the response; True if it does not tell.

    Args:
        client: what ``receive`` is a method of.
        send: the server's.
    """
    started = _variables(send).get(SEND_STARTED)
    return started is None or bool(started.cell_contents)


def uvicorn_has_started(client: Any, send: Any) -> bool:
    """Return the same of uvicorn. ``client`` is its ``RequestResponseCycle``."""
    return bool(client.response_started)


def gunicorn_holds_headers(client: Any) -> bool:
    """Return whether the response has started, and gunicorn's asgi worker has sent nothing of it.

    It sends the headers with the first piece of the body. A response that fails before is none to the client: gunicorn
    closes the connection. ``client`` is what ``receive`` is a method of.
    """
    return getattr(client.protocol, _BUFFER, None) is not None


def uvicorn_holds_headers(client: Any) -> bool:
    """Return the same of uvicorn, which sends the headers at once."""
    return False


def stream_holds_headers(send: Any) -> bool:
    """Return the same of a stream of gunicorn's asgi worker, from the server's ``send``: the client then gets a 500."""
    sent = _variables(send).get(_SEND_HEADERS)
    return sent is not None and not sent.cell_contents


def gunicorn_has_sent_all(client: Any, send: Any, is_bodiless: bool) -> bool:
    """Return whether gunicorn's asgi worker had a client for all of a response with a Content-Length.

    Such a client has the whole response, and may leave before the application ends it with an empty piece: Starlette's
    ``BaseHTTPMiddleware`` always does. What is sent to a client that is gone is not added up. Only the variables of
    ``send`` tell; where a version has others, the answer is False.

    Args:
        client: what ``receive`` is a method of.
        send: the server's.
        is_bodiless: of the response, it is sent as a whole when the application ends it: not before.
    """
    if is_bodiless:
        return False
    variables = _variables(send)
    length, sent = variables.get(SEND_LENGTH), variables.get(SEND_SENT)
    return length is not None and sent is not None and length.cell_contents == sent.cell_contents


def uvicorn_has_sent_all(client: Any, send: Any, is_bodiless: bool) -> bool:
    """Return the same of uvicorn with ``httptools``; with ``h11``, which forgets the length with the client, False.

    Args:
        client: its ``RequestResponseCycle``.
        send: not used.
        is_bodiless: of the response, the client has everything with the headers. uvicorn sends these at once.
    """
    if is_bodiless:
        return bool(client.response_started)
    counts = getattr(client, "chunked_encoding", None) is False
    return counts and client.expected_content_length == 0


def _variables(send: Any) -> dict[str, Any]:
    """Return the cells of the variables that the server's ``send`` closes over, by name."""
    return dict(zip(send.__code__.co_freevars, send.__closure__ or (), strict=True))


def announced_length(start: Message) -> int | None:
    """Return the Content-Length of a response, from the message that starts it; None if there is none."""
    try:
        for name, value in start.get("headers", ()):
            if name.lower() == b"content-length":
                return int(value)
    except Exception:  # noqa: BLE001 - whatever the application has put there, the server is to say so
        return None
    return None


def is_disconnect(exc: BaseException, lost: bool, client: Any = None) -> bool:
    """Return whether the application ended with this exception because the client is gone, as the server knows.

    What it is called does not tell: the application's own files, databases and timeouts raise the same exceptions.

    Args:
        exc: what came out of the application.
        lost: whether the server knows that the client is gone.
        client: what ``receive`` is a method of, if that is known.
    """
    # A server that exits cancels requests and closes their transports.
    if isinstance(exc, (CancelledError, GeneratorExit)):
        return lost
    return (isinstance(exc, OSError) or _says_disconnect(exc)) and (lost or is_cut_off(client))


def cancels_itself(exc: BaseException, worker: Any) -> bool:
    """Return whether the application ended its own task with this exception, and the worker goes on."""
    return isinstance(exc, (CancelledError, GeneratorExit)) and bool(worker.alive)


def was_cancelled() -> bool:
    """Return whether the current task was asked to end, as opposed to having raised ``CancelledError`` itself."""
    cancelling = getattr(current_task(), "cancelling", None)  # since Python 3.11
    return cancelling is None or cancelling() > 0


def error_type_of(exc: BaseException) -> str:
    """Return the error_type of a request whose client is still there: of what the framework took for a disconnect."""
    for _ in range(_MAX_CONTEXTS):
        cause = exc.__cause__ or exc.__context__
        if cause is None or not _says_disconnect(exc):
            break
        exc = cause
    return type(exc).__name__


def _says_disconnect(exc: BaseException) -> bool:
    return not _DISCONNECTS.isdisjoint(base.__name__ for base in type(exc).__mro__)


def is_refused(exc: BaseException, message: Message) -> bool:
    """Return whether this exception was raised while the server sent that very message."""
    # Only the server's frames: up to Python 3.12 a frame keeps what ``f_locals`` has once returned, and its objects.
    return any(_package(frame) in _SERVERS and frame.f_locals.get("message") is message for frame in _frames(exc))


def _frames(exc: BaseException) -> Iterator[FrameType]:
    traceback = exc.__traceback__
    while traceback is not None:
        yield traceback.tb_frame
        traceback = traceback.tb_next


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]
