"""A WSGI application called so that its requests are recorded, for worker classes that do not call the request hooks.

Those are gunicorn's tornado worker and its gevent_pywsgi worker, which leave HTTP to another library.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from typing import Any

from ..frameworks.annotations import NOTES
from ..recording.sync_hooks import Hooks

Environ = MutableMapping[str, Any]
StartResponse = Callable[..., Callable[[bytes], Any]]
Application = Callable[[Environ, StartResponse], Iterable[bytes]]


class Request:
    """What the hooks look at of a request."""

    __slots__ = ("method", "path")

    def __init__(self, environ: Environ) -> None:
        self.method = environ.get("REQUEST_METHOD", "")
        self.path = environ.get("PATH_INFO", "")


class Response:
    """What the hooks look at of a response. ``status_code`` is missing until the application has given it."""

    __slots__ = ("response_length", "sent", "status_code")
    status_code: int

    def __init__(self) -> None:
        self.sent = self.response_length = 0

    @property
    def headers_sent(self) -> bool:
        """Whether the client has seen the status."""
        return self.sent > 0


def record(worker: Any, hooks: Hooks) -> None:
    """Have the requests of a gevent_pywsgi worker recorded: its ``server_class`` is given the application wrapped.

    ``worker.wsgi`` is left as it is.
    """
    server_class = worker.server_class

    def serving(listener: Any, application: Any = None, *args: Any, **kwargs: Any) -> Any:
        return server_class(listener, recorded(application, worker, hooks), *args, **kwargs)

    worker.server_class = serving


def recorded(app: Application, worker: Any, hooks: Hooks) -> Application:
    """The application, with its requests recorded by the hooks of a worker that has many at a time."""
    pre_request, post_request = hooks

    def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        request, response = Request(environ), Response()

        def starting(status: str, headers: Any, exc_info: Any = None) -> Callable[[bytes], Any]:
            write = start_response(status, headers, exc_info)
            with contextlib.suppress(ValueError, TypeError):  # the server will say so
                response.status_code = int(status[:3])

            def writing(data: bytes) -> Any:
                response.sent += len(data)
                return write(data)

            return writing

        def end() -> None:
            post_request(worker, request, environ, response)

        environ[NOTES] = {}
        pre_request(worker, request)
        try:
            body = app(environ, starting)
        except BaseException:
            end()
            raise
        return (SizedBody if hasattr(body, "__len__") else Body)(body, response, end)

    return application


class Body:
    """A response's body. The request ends when it is closed, or fails.

    gevent_pywsgi goes through a body that has a length once more while it sends it, to add up its bytes: only what the
    first one to ask is given has been sent.
    """

    def __init__(self, body: Iterable[bytes], response: Response, end: Callable[[], None]) -> None:
        self._body = body
        self._is_sent = False
        self._response = response
        self._end: Callable[[], None] | None = end

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
                self._ended()
                raise
            self._response.sent += len(chunk)
            yield chunk

    def close(self) -> None:
        """Closes the application's own body; what that raises is the end of the request, too."""
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                close()
        finally:
            self._ended()

    def _ended(self) -> None:
        end, self._end = self._end, None
        if end is not None:
            end()


class SizedBody(Body):
    """A body that tells how many pieces it has, for servers that make a Content-Length of that."""

    def __len__(self) -> int:
        return len(self._body)  # type: ignore[arg-type]  # made only of what has a length
