"""A Django project in one module: settings, URLconfs and views. Importing it configures Django for this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import django
from django.conf import settings
from django.conf.urls.i18n import i18n_patterns
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import include, path, re_path

if not settings.configured:
    settings.configure(
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF=__name__,
        MIDDLEWARE=[
            "tests.helpers.django_app.other_urls",
            "tests.helpers.django_app.answers_first",
            "django.middleware.locale.LocaleMiddleware",
            "django.middleware.common.CommonMiddleware",
        ],
        LANGUAGES=[("en", "English"), ("de", "German")],
        LANGUAGE_CODE="en",
        USE_I18N=True,
        LOGGING_CONFIG=None,
        SECRET_KEY="for tests",
    )
    django.setup()


def ok(request: HttpRequest, **taken: Any) -> HttpResponse:
    return HttpResponse("ok")


async def async_ok(request: HttpRequest, **taken: Any) -> HttpResponse:
    return HttpResponse("ok")


def gone(request: HttpRequest) -> HttpResponse:
    raise Http404


def denied(request: HttpRequest) -> HttpResponse:
    raise PermissionDenied


def boom(request: HttpRequest, **taken: Any) -> HttpResponse:
    raise LookupError("boom")


async def async_boom(request: HttpRequest) -> HttpResponse:
    raise LookupError("boom")


def unavailable(request: HttpRequest) -> HttpResponse:
    return HttpResponse(status=503)


def stream(request: HttpRequest) -> StreamingHttpResponse:
    def parts() -> Iterator[bytes]:
        yield b"a"
        yield b"b"

    return StreamingHttpResponse(parts())


def other_urls(get_response: Callable[..., Any]) -> Callable[..., Any]:
    """Return a middleware that resolves paths below /other/ with another URLconf."""

    def middleware(request: Any) -> Any:
        if request.path_info.startswith("/other/"):
            request.urlconf = OTHER
        return get_response(request)

    return middleware


def answers_exceptions(get_response: Callable[..., Any]) -> Callable[..., Any]:
    """Return a middleware that answers LookupError with 503, and nothing else."""

    def middleware(request: Any) -> Any:
        return get_response(request)

    def answer(request: Any, error: Exception) -> HttpResponse | None:
        return HttpResponse(status=503) if isinstance(error, LookupError) else None

    middleware.process_exception = answer  # type: ignore[attr-defined]
    return middleware


def answers_first(get_response: Callable[..., Any]) -> Callable[..., Any]:
    """Return a middleware that answers /health itself."""

    def middleware(request: Any) -> Any:
        if request.path_info == "/health":
            return HttpResponse("fine")
        return get_response(request)

    return middleware


OTHER = ModuleType("other_urls")
OTHER.urlpatterns = [path("other/<slug:pk>/", ok), path("other/items/<int:pk>/", boom)]  # type: ignore[attr-defined]
SHOP = [path("<slug:name>/", ok, name="shop"), re_path(r"^old/(?P<pk>\d+)/$", ok)]
urlpatterns = [
    path("", ok),
    path("items/<int:pk>/", ok),
    path("async/<int:pk>/", async_ok),
    path("other/<int:pk>/", ok),
    path("gone/", gone),
    path("denied/", denied),
    path("boom/", boom),
    path("async_boom/", async_boom),
    path("unavailable/", unavailable),
    path("stream/", stream),
    path("shop/", include((SHOP, "shop"), namespace="de")),
    path("<int:tenant>/shop/", include((SHOP, "shop"), namespace="en")),
    re_path(r"^articles/(?P<year>[0-9]{4})/(?P<slug>[\w-]+)/?$", ok),
    re_path(r"^pairs/([a-z]+)-(\d+)/$", lambda request, first, second: HttpResponse()),
    *i18n_patterns(path("pages/<slug:page>/", ok)),
]
