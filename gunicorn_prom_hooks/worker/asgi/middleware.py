"""The wrapped application of gunicorn's asgi worker and of uvicorn's.

No hook tells the response of an ASGI application, and gunicorn's asgi worker is slower with hooks. So the loaded
application is called through a coroutine, with a ``send`` that reads the messages as they pass. A request ends with the
last message of its response's body: background tasks of the application are not part of it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from math import inf
from time import monotonic
from typing import Any, Final, NamedTuple

from ...shm.layout import PATH_REF
from ..frameworks.annotations import remember, scopes
from ..frameworks.starlette import has_broken_off
from ..recording.exceptions import CLIENT_GONE
from ..recording.in_flight import OVERFLOW_AT
from ..recording.requests import StartedRequest
from ..recording.rows import NO_ROWS, SMALL, Rows
from .disconnects import (
    Application,
    Message,
    Receive,
    Scope,
    Send,
    cancels_itself,
    gunicorn_has_sent_all,
    gunicorn_has_started,
    gunicorn_holds_headers,
    is_cut_off,
    is_disconnect,
    is_refused,
    uvicorn_has_sent_all,
    uvicorn_has_started,
    uvicorn_holds_headers,
)
from .http2 import Streams
from .request_recorder import BODILESS, AsgiRequests
from .websockets import Websockets

ENDED: Final = -inf
"""In place of the status: the request is counted. Compared by identity, since an application may set any number."""


class Clients(NamedTuple):
    """How a server tells of a disconnect: asked of the object that ``receive`` is a method of.

    Attributes:
        are_dropped: whether the server silently drops what the application sends, because the client has disconnected.
        have_left: whether the connection is lost, or the server has told the application so; none that the server is
            about to close itself.
        have_all: whether they have been sent as many bytes as the Content-Length says; asked of the server's ``send``,
            too, and with whether the response has no body.
        have_started: whether the server has accepted a start of the response; asked of its ``send``, too.
        have_nothing: whether the server has accepted a start of the response, and sent nothing.
        are_canceled: whether the server cancels the requests of those that have left, and answers none that is
            canceled. If not, it answers them with a 500, as it does whatever comes out of the application.
        have_protocol: what ``are_dropped`` looks at, for where there is no time to call it: ``protocol._closed`` of
            the object, or else its ``disconnected``.
    """

    are_dropped: Callable[[Any], bool]
    have_left: Callable[[Any], bool]
    have_all: Callable[[Any, Any, bool], bool]
    have_started: Callable[[Any, Any], bool]
    have_nothing: Callable[[Any], bool]
    are_canceled: bool
    have_protocol: bool


GUNICORN: Final = Clients(
    lambda client: bool(client.protocol._closed),  # noqa: SLF001 - nothing else tells
    lambda client: bool(
        client.protocol._conn_lost_handled or getattr(client, "_body_wait_expired", False)  # noqa: SLF001
    ),
    gunicorn_has_sent_all,
    gunicorn_has_started,
    gunicorn_holds_headers,
    are_canceled=True,
    have_protocol=True,
)
"""It is a ``BodyReceiver``. That is closed, too, as soon as a framework stops listening for the client's leaving."""
UVICORN: Final = Clients(
    lambda client: bool(client.disconnected),
    lambda client: bool(client.disconnected),
    uvicorn_has_sent_all,
    uvicorn_has_started,
    uvicorn_holds_headers,
    are_canceled=False,
    have_protocol=False,
)
"""It is a ``RequestResponseCycle``."""


def record(worker: Any, requests: AsgiRequests) -> None:
    """Have the requests of gunicorn's asgi worker recorded.

    For each connection its loop makes a protocol, which takes ``worker.asgi`` as it is then. The loop's
    ``create_server`` is called through a function that puts the recorded application into these protocols instead.

    Args:
        worker: gunicorn's, its application loaded and not yet served.
        requests: where they are recorded.
    """
    loop = worker.loop
    create_server = loop.create_server
    loaded: Any = None
    served: Any = None
    watched: Any = None

    def create(protocol_factory: Callable[[], Any], *args: Any, **kwargs: Any) -> Any:
        nonlocal watched
        try:
            setting = worker.cfg.settings["pre_request"]
            if setting.value is not setting.default and setting.value is not watched:
                watched = setting.value = _watched(setting.value, requests)
        except Exception:  # noqa: BLE001 - the server must listen
            requests.errors.report("asgi")

        def connected() -> Any:
            nonlocal loaded, served
            protocol = protocol_factory()
            try:
                if protocol.worker is worker:
                    if protocol.app is not loaded:
                        loaded, served = protocol.app, recorded(protocol.app, worker, requests, GUNICORN)
                    protocol.app = served
            except AttributeError:  # of a server of the application's own
                pass
            return protocol

        return create_server(connected, *args, **kwargs)

    loop.create_server = create


def _watched(pre_request: Callable[[Any, Any], Any], requests: AsgiRequests) -> Callable[[Any, Any], Any]:
    """Return the user's hook such that a request that it raises for is counted.

    gunicorn answers that request with 500, and does not call the application.
    """

    @wraps(pre_request)
    def hook(worker: Any, req: Any) -> Any:
        try:
            return pre_request(worker, req)
        except Exception as exc:
            requests.refused_by_hook(req, exc)
            raise

    return hook


def recorded(app: Application, worker: Any, requests: AsgiRequests, clients: Clients) -> Application:
    """Return the application with its HTTP requests and websockets recorded; its lifespan is passed through.

    As in ``request_hooks``, one long function with few calls.

    Args:
        app: an ASGI 3 application.
        worker: gunicorn's.
        requests: where they are recorded.
        clients: how its server tells of disconnects.
    """
    begin, end, broken_off, refused = requests.begin, requests.end, requests.broken_off, requests.refused
    words, free = requests.recorder.slot.words, requests.in_flight.free
    paths, endpoints = requests.cache.paths, requests.cache.endpoints
    resolve, queue_header, errors = requests.resolve, requests.queue_header, requests.errors
    queued = requests.naming.queued
    is_dropped, has_left, has_all, has_started, has_nothing, are_canceled, has_protocol = clients
    header_names, store = requests.header_names, requests.store
    other = {"websocket": Websockets(app, worker, requests).serve}
    stream = Streams(app, worker, requests).serve
    server: type | None = None

    def follow() -> None:
        nonlocal words, free, store
        words, free, store = requests.recorder.slot.words, requests.in_flight.free, requests.store

    requests.recorder.followers.append(follow)

    async def remembered(handler: Application, scope: Scope, receive: Receive, send: Send) -> None:
        """Call what records a request or websocket in another way."""
        key = remember(scope)
        try:
            await handler(scope, receive, send)
        finally:
            scopes.pop(key, None)

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await remembered(other.get(scope["type"], app), scope, receive, send)
            return
        started = monotonic()
        try:
            client = receive.__self__  # type: ignore[attr-defined]
            rows, known = paths[scope["path"]][scope["method"]]
        except (AttributeError, KeyError):
            client, known = getattr(receive, "__self__", None), 0.0
        if type(client) is not server and not is_known(client):  # another server, or HTTP/2
            await remembered(stream, scope, receive, send)
            return
        if known and free:
            at = free.pop()
            words[at + PATH_REF] = known
            words[at] = started
        else:
            begun = begin(scope, started)
            if begun is None:
                await app(scope, receive, send)
                return
            _, _, _, rows, at = begun
        request = scope, rows, at, started, client
        if resolve is not None:
            key = remember(scope)
        status: Any = 0
        sent = 0
        app_status: Any  # set with ``ENDED``
        decisive: Message  # that with the status, then that which ends the response

        def sending(message: Message) -> Any:
            nonlocal status, app_status, sent, decisive
            try:
                if message["type"] == "http.response.body":
                    body = message.get("body")
                    size = len(body) if body else 0
                    sent += size
                    if status > 0:
                        if not message.get("more_body"):
                            app_status = status
                            status = ENDED
                            decisive = message
                            ending(request, app_status, sent, None if sent == size else send)
                    elif status is ENDED:
                        decisive = {}  # what is refused from now on is one message too many
                elif message["type"] == "http.response.start" and (
                    not status or (status is not ENDED and not has_started(client, send))
                ):
                    status = message["status"]
                    decisive = message
            except Exception:  # noqa: BLE001 - whatever that is for a message, the server is to say so
                errors.report("asgi")
            return send(message)

        try:
            await app(scope, receive, sending)
        except BaseException as exc:
            if status is not ENDED:
                app_status, status = status, ENDED
                if app_status and not sent and is_refused(exc, decisive):
                    app_status = 0  # the client has not seen it
                left = is_disconnect(exc, has_left(client), client)
                if left and has_everything(request, app_status, send):
                    end(scope, started_request(request), app_status, sent, app_status)
                else:
                    answered = not are_canceled or cancels_itself(exc, worker)
                    unsent, begun = has_nothing(client), started_request(request)
                    broken_off(scope, begun, app_status, sent, left, exc, answered=answered, unsent=unsent)
            elif not is_disconnect(exc, has_left(client), client) and (
                is_refused(exc, decisive) or has_broken_off(exc)
            ):
                refused(scope, started_request(request), app_status, exc)
            raise
        else:
            if status is not ENDED:
                app_status, status = status, ENDED
                left = is_dropped(client)
                if left and has_everything(request, app_status, send):
                    end(scope, started_request(request), app_status, sent, app_status)
                else:
                    broken_off(scope, started_request(request), app_status, sent, left, unsent=has_nothing(client))
        finally:
            if resolve is not None:
                scopes.pop(key, None)

    def ending(request: tuple[Scope, Rows, int, float, Any], status: int, sent: int, in_pieces: Send | None) -> None:
        scope, rows, at, started, client = request
        duration = monotonic() - started
        label = since = None
        is_gone = False
        try:
            if resolve is not None:
                label = resolve(scope)
                if label is not None:
                    rows = NO_ROWS if at == OVERFLOW_AT else endpoints.get((scope["method"], label), NO_ROWS)
            is_gone = client.protocol._closed if has_protocol else client.disconnected  # noqa: SLF001
            if in_pieces is not None:  # the server's send
                is_gone = not has_all(client, in_pieces, False) if is_gone else is_cut_off(client)
            row = None if sent > SMALL or is_gone else rows.get(status)
            for name, value in scope["headers"]:
                if name in header_names:
                    if name == queue_header:
                        since = value.decode("latin-1")
                    else:
                        row = None
        except Exception:  # noqa: BLE001 - the application may have put something else there; the long way tells
            row = None
        if row is None:
            seen = CLIENT_GONE if is_gone and not has_everything(request, status, in_pieces) else status
            end(scope, started_request(request), seen, sent, status, None, label)
            return
        if since is not None:
            queued(since, duration)
        store(row, at, duration, sent)
        free.append(at)

    def has_everything(request: tuple[Scope, Rows, int, float, Any], status: Any, send: Send | None) -> bool:
        """Return whether a client that has left has the whole response, which has no body, with its headers."""
        try:
            scope, client = request[0], request[4]
            is_bodiless = status in BODILESS or (status > 0 and scope["method"] == "HEAD")
            return is_bodiless and has_all(client, send, True)
        except Exception:  # noqa: BLE001 - the application may have put something else there
            return False

    def started_request(request: tuple[Scope, Rows, int, float, Any]) -> StartedRequest:
        scope, rows, at, started, _ = request
        return StartedRequest(scope.get("method", "GET"), scope.get("path", ""), started, rows, at)

    def is_known(client: Any) -> bool:
        """Return whether this is what the server's ``receive`` is a method of; learned from the first one."""
        nonlocal server
        try:
            is_dropped(client), has_left(client)
        except AttributeError:
            return False
        server = type(client)
        return True

    return application
