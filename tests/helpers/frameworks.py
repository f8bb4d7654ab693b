"""What the tests of frameworks need: their applications are called as a server calls them, and asked afterwards."""

from __future__ import annotations

import asyncio
import io
import sys
from collections.abc import Callable
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.http.wsgi import WSGIErrorsWrapper

from gunicorn_prom_hooks.errors import ErrorReporter
from gunicorn_prom_hooks.worker.frameworks import FRAMEWORKS, swallowed
from gunicorn_prom_hooks.worker.frameworks.annotations import remember
from gunicorn_prom_hooks.worker.recording.labels import Resolve, resolver


def only(monkeypatch: pytest.MonkeyPatch, *used: str) -> None:
    """Hide all frameworks but these. Other tests of this process may have imported some."""
    for framework in FRAMEWORKS:
        if framework.MODULE.partition(".")[0] not in used:
            monkeypatch.delitem(sys.modules, framework.MODULE, raising=False)


def asked() -> Resolve:
    """Return the resolver of a worker that has just loaded its application."""
    errors = ErrorReporter()
    resolve = resolver(None, errors)
    assert not errors.counts
    assert resolve is not None
    return resolve


def new_environ(path: str, method: str = "GET", **more: Any) -> dict[str, Any]:
    """Return the environ of a request, as gunicorn makes it. A query string may follow the path."""
    path, _, query = path.partition("?")
    return {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "localhost",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": WSGIErrorsWrapper(Config()),
        "wsgi.multithread": False,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        **more,
    }


def serve_wsgi(app: Callable[..., Any], path: str, method: str = "GET", **more: Any) -> tuple[int, dict[str, Any]]:
    """Serve a request with the application. Return its status and its environ."""
    environ = new_environ(path, method, **more)
    statuses: list[str] = []

    def start_response(status: str, headers: Any, exc_info: Any = None) -> Callable[[bytes], None]:
        statuses.append(status)
        return lambda data: None

    body = app(environ, start_response)
    b"".join(body)
    if hasattr(body, "close"):
        body.close()
    return int(statuses[-1][:3]), environ


def new_scope(path: str, method: str = "GET", **more: Any) -> dict[str, Any]:
    """Return the scope of a request, as an ASGI server makes it, and have notes on it kept."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"localhost")],
        "client": ("127.0.0.1", 1),
        "server": ("localhost", 80),
        **more,
    }
    remember(scope)
    return scope


Told = tuple[int, "str | None", "str | None"]
"""Status, route template and swallowed exception of a request to a worker with this application."""


def serve_asgi(app: Callable[..., Any], scope: dict[str, Any], at_end: Callable[[int], Told]) -> Told:
    """Return the result of ``at_end`` at the last message of the response. A later exception is ignored."""
    statuses: list[int] = []
    ends: list[Told] = []

    async def serve() -> None:
        over = asyncio.Event()
        messages = [{"type": "http.request", "body": b"", "more_body": False}]

        async def receive() -> dict[str, Any]:
            if messages:
                return messages.pop()
            await over.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])
            elif not message.get("more_body"):
                ends.append(at_end(statuses[0]))

        try:
            await app(scope, receive, send)
        except Exception:  # noqa: BLE001 - Starlette has answered, and raises for the server to log it
            assert statuses == [500]
        finally:
            over.set()

    asyncio.run(serve())
    (told,) = ends
    return told


def wsgi(app: Callable[..., Any], path: str, method: str = "GET", **more: Any) -> Told:
    """Return status, endpoint and exception of a request to a worker with this WSGI application."""
    resolve = asked()
    status, environ = serve_wsgi(app, path, method, **more)
    return status, resolve(environ), swallowed(environ)


def copied(app: Callable[..., Any]) -> Callable[..., Any]:
    """Return the application behind a middleware that passes on a copy of the environ or scope."""
    return lambda given, *others: app(dict(given), *others)


def asgi(app: Callable[..., Any], path: str, method: str = "GET", *, hidden: str = "", **more: Any) -> Told:
    """Return status, endpoint and exception of a request to an ASGI application. ``hidden`` is removed before."""
    resolve = asked()
    scope = new_scope(path, method, **more)

    def at_end(status: int) -> Told:
        scope.pop(hidden, None)
        return status, resolve(scope), swallowed(scope)

    return serve_asgi(app, scope, at_end)
