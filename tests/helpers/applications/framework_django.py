"""Settings, views and URL patterns of the application of the framework tests, in Django."""

from __future__ import annotations

import django
from django.conf import settings
from django.http import Http404, HttpResponse, StreamingHttpResponse
from django.urls import include, path


def raises(error):
    def view(request):
        raise error

    return view


def stream(request):
    return StreamingHttpResponse(iter([b"a", b"b"]))


async def async_stream(request):
    async def parts():
        yield b"a"
        yield b"b"

    return StreamingHttpResponse(parts())


def answers(get_response):
    def middleware(request):
        return get_response(request)

    middleware.process_exception = answer  # type: ignore[attr-defined]
    return middleware


def answer(request, error):
    return HttpResponse(status=400) if isinstance(error, ValueError) else None


def configure(urlconf):
    if not settings.configured:
        middleware = [f"{__name__}.answers"]
        settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=urlconf, SECRET_KEY="x", MIDDLEWARE=middleware)
        django.setup()


def patterns(stream):
    return [
        path("", lambda request: HttpResponse("ok")),
        path("items/", include([path("<int:number>", lambda request, number: HttpResponse(str(number)))])),
        path("gone", raises(Http404())),
        path("boom", raises(LookupError("boom"))),
        path("handled", raises(ValueError("handled"))),
        path("unavailable", lambda request: HttpResponse(status=503)),
        path("stream", stream),
    ]
