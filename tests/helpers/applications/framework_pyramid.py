"""The application of the framework tests, in Pyramid."""

from __future__ import annotations

import warnings

warnings.simplefilter("ignore")  # what Pyramid imports is deprecated

from pyramid.config import Configurator  # noqa: E402 - after the filter
from pyramid.httpexceptions import HTTPNotFound  # noqa: E402 - after the filter
from pyramid.response import Response  # noqa: E402 - after the filter
from werkzeug.middleware.dispatcher import DispatcherMiddleware  # noqa: E402 - after the filter


def view(request):
    name = request.matched_route.name
    if name == "gone":
        raise HTTPNotFound
    if name == "boom":
        raise LookupError("boom")
    if name == "handled":
        raise ValueError("handled")
    if name == "stream":
        return Response(app_iter=iter([b"a", b"b"]))
    return Response("ok", status=503 if name == "unavailable" else 200)


with Configurator() as config:
    config.add_route("root", "/")
    config.add_route("item", "items/{number}")
    for name in ("root", "item", "gone", "boom", "handled", "unavailable", "stream"):
        if name not in ("root", "item"):
            config.add_route(name, name)
        config.add_view(view, route_name=name)
    config.add_exception_view(lambda error, request: Response(status=400), context=ValueError)
    config.add_exception_view(lambda error, request: Response(status=500), context=LookupError)
    site = config.make_wsgi_app()

app = DispatcherMiddleware(site, {"/v2": site})
