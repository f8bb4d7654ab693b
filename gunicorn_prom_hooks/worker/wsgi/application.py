"""A WSGI application wrapped so that its requests are recorded, for worker classes that call no request hooks.

Those are gunicorn's tornado worker and its gevent_pywsgi worker, which leave HTTP to another library.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from time import monotonic
from typing import Any

from ..frameworks.annotations import NOTES
from ..recording.exceptions import CLIENT_GONE, error_type_of, interrupted_by, is_cut_off, status_of_server
from ..recording.headers import size_received
from ..recording.requests import NO_STATUS, Requests, StartedRequest
from ..recording.sync_hooks import current_exception

Environ = MutableMapping[str, Any]
StartResponse = Callable[..., Callable[[bytes], Any]]
Application = Callable[[Environ, StartResponse], Iterable[bytes]]


def record(worker: Any, requests: Requests, queue_header: str | None) -> None:
    """Have the requests of a gevent_pywsgi worker recorded: its ``server_class`` is given the wrapped application.

    ``worker.wsgi`` is left as it is.
    """
    server_class = worker.server_class

    def serving(listener: Any, application: Any = None, *args: Any, **kwargs: Any) -> Any:
        return server_class(listener, recorded(application, worker, requests, queue_header), *args, **kwargs)

    worker.server_class = serving


def recorded(app: Application, worker: Any, requests: Requests, queue_header: str | None = None) -> Application:
    """Return the application with its requests recorded.

    Args:
        app: a WSGI application.
        worker: gunicorn's.
        requests: where they are recorded.
        queue_header: key in the environ of the header with the time at which a proxy passed the request on.
    """

    def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        environ[NOTES] = {}
        method, path = environ.get("REQUEST_METHOD", ""), environ.get("PATH_INFO", "")
        if environ.get("wsgi.websocket") is not None:
            return _websocket(app, environ, start_response, requests)
        started = requests.start(method, path, monotonic())
        if started is None:
            return app(environ, start_response)
        response = Response(worker, requests, started, environ, queue_header)

        def starting(status: str, headers: Any, exc_info: Any = None) -> Callable[[bytes], Any]:
            write = start_response(status, headers, exc_info)
            with contextlib.suppress(ValueError, TypeError):  # the server reports it
                response.status = int(status[:3])

            def writing(data: bytes) -> Any:
                response.sent += len(data)
                return write(data)

            return writing

        try:
            body = app(environ, starting)
        except BaseException:
            response.end()
            raise
        return (SizedBody if hasattr(body, "__len__") else Body)(body, response)

    return application


def _websocket(
    app: Application, environ: Environ, start_response: StartResponse, requests: Requests
) -> Iterable[bytes]:
    """Call the application for a websocket of gevent-websocket, which does not close what it returns.

    The handshake is done. What the application returns is iterated to its end, and not sent.
    """
    opened = None
    try:
        opened = requests.naming.open_websocket(environ.get("PATH_INFO", ""), None)
    except Exception:  # noqa: BLE001 - the websocket must be served
        requests.errors.report("wsgi")
    try:
        return list(app(environ, start_response))
    finally:
        if opened is not None:
            requests.naming.close_websocket(opened)


class Response:
    """A response in progress.

    Attributes:
        status: set by the application; None until then.
        sent: bytes of the body, so far.
    """

    def __init__(
        self, worker: Any, requests: Requests, request: StartedRequest, environ: Environ, queue_header: str | None
    ) -> None:
        self.status: int | None = None
        self.sent = 0
        self._worker = worker
        self._requests = requests
        self._request: StartedRequest | None = request
        self._environ = environ
        self._queue_header = queue_header

    def end(self) -> None:
        """Record the end of the request, once, with the exception that is being handled, if there is one."""
        request, self._request = self._request, None
        if request is None:
            return
        try:
            exc = current_exception()
            if exc is None or not is_cut_off(exc, self._worker):
                self._finish(request, exc)
            # Else the worker exits and sends no response: the request stays in the in-flight table.
        except Exception:  # noqa: BLE001 - the next request must be served
            self._requests.give_up(request)

    def _finish(self, request: StartedRequest, exc: BaseException | None) -> None:
        status, error_type = self.status or NO_STATUS, None
        if exc is not None:
            status = status_of_server(exc, status if self.sent else None)
            error_type = None if status == CLIENT_GONE else error_type_of(exc)
            if interrupted_by(exc):
                self._requests.mark_interrupted(request)
        self._requests.finish(
            request,
            self._environ,
            status,
            self.sent,
            app_status=self.status,
            received=size_received(self._environ),
            queue_stamp=None if self._queue_header is None else self._environ.get(self._queue_header),
            error_type=error_type,
        )


class Body:
    """A response's body. The request ends when it is closed, or fails.

    gevent_pywsgi iterates a body that has a length once more while it sends it, to add up its bytes. Only the first
    iterator's chunks are sent.
    """

    def __init__(self, body: Iterable[bytes], response: Response) -> None:
        self._body = body
        self._is_sent = False
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        if self._is_sent:
            return iter(self._body)
        self._is_sent = True
        return self._sending()

    def _sending(self) -> Iterator[bytes]:
        chunks: Iterator[bytes] | None = None
        while True:
            try:
                if chunks is None:
                    chunks = iter(self._body)
                chunk = next(chunks)
            except StopIteration:
                return
            except BaseException:
                self._response.end()
                raise
            yield chunk
            self._response.sent += len(chunk)  # the server has taken it

    def close(self) -> None:
        """Close the application's body. An exception that this raises is recorded as the request's."""
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                close()
        finally:
            self._response.end()


class SizedBody(Body):
    """A body that has a length, for servers that make a Content-Length of that."""

    def __len__(self) -> int:
        return len(self._body)  # type: ignore[arg-type]  # made only of what has a length
