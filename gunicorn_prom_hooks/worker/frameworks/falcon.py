"""Falcon: a middleware, added with Falcon's own ``add_middleware``, sees the request when the response is ready.

Falcon keeps the template on its request object, which nothing in the environ or the scope leads to, and has no signals.
Falcon 4.4 has a place for one function that is told of exceptions: it is taken where the application left it free.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Any

from .annotations import instances, note_error, note_no_route, note_route, noted

MODULE = "falcon"
route = noted


class NotesRoute:
    """The middleware of a WSGI application."""

    def process_response(self, req: Any, resp: Any, resource: object, req_succeeded: bool) -> None:
        """Annotate the request. Falcon calls this for every request, failed or not."""
        try:
            environ, template = req.env, req.uri_template
            if template is None:  # a sink, a static route, a middleware that answers, or no route
                note_no_route(environ, resp.status_code)
            else:
                note_route(environ, template, environ.get("SCRIPT_NAME", ""))
        except Exception:  # noqa: BLE001, S110 - runs inside the application; the path serves as well
            pass


class NotesRouteAsync:
    """The middleware of an ASGI application, whose routes are matched with the whole path."""

    async def process_response(self, req: Any, resp: Any, resource: object, req_succeeded: bool) -> None:
        """Annotate the request. Falcon calls this for every request, failed or not."""
        with suppress(Exception):
            if req.uri_template is None:
                note_no_route(req.scope, resp.status_code)
            else:
                note_route(req.scope, req.uri_template)


def prepare() -> None:
    """Add the middleware to every Falcon application in this process."""
    asgi = sys.modules.get("falcon.asgi")
    for app in instances(sys.modules[MODULE].App):
        is_async = asgi is not None and isinstance(app, asgi.App)
        app.add_middleware(NotesRouteAsync() if is_async else NotesRoute())
        if getattr(app, "_report_error", app) is None:
            app.set_error_reporter(_note_error)


def _note_error(req: Any, error: BaseException, params: object, handled: bool) -> None:
    try:
        falcon = sys.modules[MODULE]
        # These two are how an application says what to answer.
        if not isinstance(error, (falcon.HTTPError, falcon.HTTPStatus)):
            given = getattr(req, "scope", None)
            note_error(req.env if given is None else given, error)
    except Exception:  # noqa: BLE001, S110 - as above; the status serves as well
        pass
