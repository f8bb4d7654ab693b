"""Django's match of each request, and the exceptions that it makes a 500 of, with WSGI and ASGI."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.test import override_settings
from hypothesis import given, settings
from hypothesis import strategies as st

from gunicorn_prom_hooks.worker.frameworks.django import readable
from tests.helpers import django_app
from tests.helpers.frameworks import asgi, asked, copied, only, serve_wsgi, wsgi

REQUESTS = [
    ("/", (200, "/", None)),
    ("/items/7/", (200, "/items/<int:pk>/", None)),
    ("/items/7", (301, "<unmatched>", None)),
    ("/items/x/", (404, "<unmatched>", None)),
    ("/async/7/", (200, "/async/<int:pk>/", None)),
    ("/gone/", (404, "/gone/", None)),
    ("/denied/", (403, "/denied/", None)),
    ("/boom/", (500, "/boom/", "LookupError")),
    ("/async_boom/", (500, "/async_boom/", "LookupError")),
    ("/unavailable/", (503, "/unavailable/", None)),
    ("/stream/", (200, "/stream/", None)),
    ("/health", (200, None, None)),
    ("/shop/shoes/", (200, "/shop/<slug:name>/", None)),
    ("/shop/old/7/", (200, "/shop/old/<pk>/", None)),
    ("/3/shop/shoes/", (200, "/<int:tenant>/shop/<slug:name>/", None)),
    ("/articles/2024/a-b/", (200, "/articles/<year>/<slug>/", None)),
    ("/pairs/a-1/", (200, "/pairs/<var>-<var>/", None)),
    ("/de/pages/a/", (200, "/de/pages/<slug:page>/", None)),
    ("/en/pages/a/", (200, "/en/pages/<slug:page>/", None)),
    ("/other/7/", (200, "/other/<slug:pk>/", None)),
    ("/other/items/7/", (500, "/other/items/<int:pk>/", "LookupError")),
]


@pytest.fixture(autouse=True)
def only_django(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "django")
    monkeypatch.setattr(logging.getLogger("django"), "disabled", True)


@pytest.mark.parametrize(("path", "expected"), REQUESTS)
def test_endpoint_and_exception_of_a_wsgi_request_are_those_of_django(
    path: str, expected: tuple[int, str, str | None]
) -> None:
    """The template is that which Django has put together. What a middleware answers before is not unmatched."""
    assert wsgi(get_wsgi_application(), path) == expected


@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume synchronous iterators:Warning")
@pytest.mark.parametrize(("path", "expected"), REQUESTS)
def test_endpoint_and_exception_of_an_asgi_request_are_those_of_django(
    path: str, expected: tuple[int, str, str | None]
) -> None:
    """The same with ASGI."""
    assert asgi(get_asgi_application(), path) == expected


def test_exception_that_a_middleware_answers_with_a_5xx_is_reported() -> None:
    """Its class is told, with WSGI and ASGI; what no middleware answers is told by Django."""
    with override_settings(MIDDLEWARE=["tests.helpers.django_app.answers_exceptions"]):
        for path in ("/boom/", "/async_boom/"):
            assert wsgi(get_wsgi_application(), path) == (503, path, "LookupError")
            assert asgi(get_asgi_application(), path) == (503, path, "LookupError")
        assert wsgi(get_wsgi_application(), "/unavailable/") == (503, "/unavailable/", None)


def test_endpoint_begins_with_script_name_root_path_or_forced_script_name() -> None:
    """SCRIPT_NAME and root_path come first, and so does what the setting says instead."""
    assert wsgi(get_wsgi_application(), "/items/7/", SCRIPT_NAME="/api")[1] == "/api/items/<int:pk>/"
    assert asgi(get_asgi_application(), "/api/items/7/", root_path="/api")[1] == "/api/items/<int:pk>/"
    with override_settings(FORCE_SCRIPT_NAME="/forced"):
        assert wsgi(get_wsgi_application(), "/items/7/")[1] == "/forced/items/<int:pk>/"


def test_all_wsgi_handlers_are_instrumented_once() -> None:
    """Handlers wrapped in other applications, several of them and of derived classes, are all found, and only once."""
    from django.core.handlers.wsgi import WSGIHandler

    class Own(WSGIHandler):  # type: ignore[misc]
        pass

    first, second = get_wsgi_application(), Own()

    def either(environ: dict[str, Any], start_response: Any) -> Any:
        return (first if environ["PATH_INFO"].startswith("/items/") else second)(environ, start_response)

    assert wsgi(either, "/items/7/")[1] == "/items/<int:pk>/"
    assert wsgi(either, "/other/7/")[1] == "/other/<slug:pk>/"
    watched = second.resolve_request
    asked()
    assert second.resolve_request is watched


def test_requests_in_eight_threads_have_their_own_endpoints() -> None:
    """Requests of several threads do not get each other's answers."""
    app, resolve = get_wsgi_application(), asked()
    requests = [(path, expected[1]) for path, expected in REQUESTS if expected[0] == 200] * 8

    def serve(path: str) -> str | None:
        return resolve(serve_wsgi(app, path)[1])

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(serve, [path for path, _ in requests])) == [template for _, template in requests]


def test_copied_environ_keeps_endpoint_and_exception() -> None:
    """A copy of the environ loses neither the template nor the exception."""
    app = get_wsgi_application()
    assert wsgi(copied(app), "/boom/") == (500, "/boom/", "LookupError")


def test_copied_scope_keeps_endpoint_and_exception() -> None:
    """The same of a scope."""
    app = get_asgi_application()
    assert asgi(copied(app), "/boom/") == (500, "/boom/", "LookupError")


def test_propagated_exception_is_raised() -> None:
    """Where Django is set to let exceptions through, they come through."""
    with override_settings(DEBUG_PROPAGATE_EXCEPTIONS=True), pytest.raises(LookupError):
        wsgi(get_wsgi_application(), "/boom/")


@pytest.mark.parametrize(
    ("pattern", "template"),
    [
        ("items/<int:pk>/", "items/<int:pk>/"),
        (r"^items/(?P<pk>[^/.]+)/$", "items/<pk>/"),
        (r"^items\.(?P<format>[a-z0-9]+)/?$", "items.<format>/"),
        (r"^a/(?P<b>(x|y(z))[)]+)/c$", "a/<b>/c"),
        (r"^a/(\d+)/(?:page-(?P<page>\d+)/)?$", "a/<var>/page-<page>/"),
        (r"^a/\d{4}/[\]a-z]{2,3}/(?=x)(?i)b\Z", "a/<var>/<var>/b"),
        (r"api/^items/(?P<pk>[]a]+)$", "api/items/<pk>"),
        (r"^broken/(?P<pk>[a", "broken/<pk>"),
        (r"^broken/(a", "broken/<var>"),
        ("broken\\", "broken"),
        (r"app/^.*$", "app/<var>"),
        (r"^docs/.+\.html$", "docs/<var>.html"),
        (r"^(?!api/).*$", "<var>"),
        (r"^(?!api/)", "<var>"),
        (r"^(?!static|media)(?P<path>.*)$", "<path>"),
        (r"^(?:(?!api).)*$", "<var>"),
        (r"[\s\S]*", "<var>"),
        (r"^.$", "<var>"),
        (r"^x/..$", "x/<var>"),
        (r"catch/.*", "catch/<var>"),
        (r"^((?:[\w\-]+/)*)$", "<var>"),
        (r"^(\w+/)?page/$", "<var>/page/"),
        (r"^((?P<n>\d+)/)?page/$", "<n>/page/"),
        (r"^robots.txt$", "robots.txt"),
        (r"^a[.]html$", "a.html"),
        (r"^a[\.]html$", "a.html"),
        (r"^\x2e\u0041/\U00000042$", ".A/B"),
        (r"^/?$", ""),
        (r"^/?(?P<path>.*)$", "<path>"),
        (r"^$|^index/$", "index/"),
        (r"^a/$|^b/$", "a/|b/"),
        (r"^(?:de|en)/x/$", "<var>/x/"),
        (r"^(?i:foo)/(?i)bar(?#comment)/$", "foo/bar/"),
        (r"^(?P<x>a)/(?P=x)/(\d)\2$", "<x>/<x>/<var>"),
        (r"^v(?P<v>1|2)/{1}x$", "v<v>/x"),
        ("c++/", "c++/"),
        ("v1.0/x", "v1.0/x"),
        ("^", ""),
    ],
)
def test_pattern_becomes_a_readable_template(pattern: str, template: str) -> None:
    """Named groups become their names; what is only there to match is left out."""
    assert readable(pattern) == template


@settings(deadline=None)
@given(st.text(alphabet="ab/^$()[]{}\\?P<>:*+|.d", max_size=40))
def test_readable_terminates_with_bounded_length_for_any_pattern(pattern: str) -> None:
    """There is an end and an answer for whatever it is."""
    assert len(readable(pattern)) <= 6 * len(pattern)


def test_django_settings_are_those_of_the_test_project() -> None:
    """No other test of this process has configured Django differently."""
    from django.conf import settings as configured

    assert django_app.__name__ == configured.ROOT_URLCONF
