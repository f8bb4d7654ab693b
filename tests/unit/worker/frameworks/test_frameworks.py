"""Frameworks side by side, frameworks that are not there, and what becomes of a swallowed exception."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import falcon
import flask
import pytest
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from starlette.applications import Starlette
from starlette.routing import Mount, Route, Router
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from gunicorn_prom_hooks.errors import ErrorReporter
from gunicorn_prom_hooks.shm.schema import FAILED
from gunicorn_prom_hooks.worker.frameworks import FRAMEWORKS
from gunicorn_prom_hooks.worker.frameworks.annotations import instances, noted
from gunicorn_prom_hooks.worker.recording.labels import resolver
from tests.helpers import django_app  # noqa: F401 - configures Django
from tests.helpers.frameworks import asgi, asked, only, wsgi
from tests.helpers.recording import KINDS, Bench, MakeHooks

IMPORTS = """
import sys

asked = []

class Records:
    def find_spec(self, name, path=None, target=None):
        asked.append(name.partition(".")[0])

sys.meta_path.insert(0, Records())
import flask
from gunicorn_prom_hooks.errors import ErrorReporter
from gunicorn_prom_hooks.worker.recording.labels import resolver
from gunicorn_prom_hooks.worker.frameworks.annotations import noted

before = set(sys.modules)
errors = ErrorReporter()
resolve = resolver(None, errors)
assert resolve is noted, resolve
assert resolve({"PATH_INFO": "/"}) is None
assert not errors.counts, errors.counts
assert set(sys.modules) == before, set(sys.modules) - before
print(*sorted(set(asked) & {"bottle", "django", "falcon", "fastapi", "pyramid", "starlette"}))
"""


def test_unused_frameworks_are_not_imported_or_searched() -> None:
    """No framework is imported or searched, and a single one is asked alone."""
    done = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "\n", "")


@pytest.mark.parametrize("framework", FRAMEWORKS, ids=lambda framework: framework.MODULE)
def test_unknown_version_of_a_framework_is_counted_as_an_exporter_error(
    framework: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It costs a failure that is counted under its name at the most, never the worker its start."""
    only(monkeypatch)
    monkeypatch.setitem(sys.modules, framework.MODULE, ModuleType(framework.MODULE))
    monkeypatch.setattr(framework, "prepare", lambda: sys.modules[framework.MODULE].nothing)
    errors = ErrorReporter()
    assert resolver(None, errors) is None
    assert errors.counts == {framework.MODULE.partition(".")[0]: 1}


def test_unreadable_route_is_an_exporter_error_and_has_no_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be read is counted, and the path serves; the request is not lost."""
    only(monkeypatch, "starlette", "flask")
    errors = ErrorReporter()
    resolve = resolver(None, errors)
    assert resolve is not None
    router = Router()
    router.routes = None  # type: ignore[assignment]
    assert resolve({"type": "http", "router": router, "endpoint": object(), "path": "/"}) is None
    assert errors.counts == {"starlette": 1}


def hello(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    return [b"hello"]


def flask_application() -> flask.Flask:
    app = flask.Flask("app")
    app.add_url_rule("/flask/<int:number>", "item", str)
    return app


def test_each_request_has_the_endpoint_of_the_framework_that_handled_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """In one process the framework that handled a request gives its template; without one there is none."""
    only(monkeypatch, "flask", "django", "falcon", "bottle", "starlette", "pyramid")
    import bottle

    app = bottle.Bottle()
    app.route("/<name>", callback=lambda name: name)
    api = falcon.App()
    api.add_route("/{name}", type("Resource", (), {"on_get": lambda self, req, resp, name: None})())
    site = DispatcherMiddleware(
        get_wsgi_application(), {"/f": flask_application(), "/b": app, "/api": api, "/hello": hello}
    )
    served = [wsgi(site, path)[:2] for path in ("/items/7/", "/b/x", "/api/x", "/hello", "/hello/x", "/no", "/b/x/y")]
    assert served == [
        (200, "/items/<int:pk>/"),
        (200, "/b/<name>"),
        (200, "/api/{name}"),
        (200, None),
        (200, None),
        (404, "<unmatched>"),
        (404, "<unmatched>"),
    ]


def test_cascaded_request_has_the_endpoint_of_the_framework_with_the_route(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where one is asked only if another had nothing, the one that had the route tells."""
    only(monkeypatch, "flask", "bottle", "django")
    import bottle

    child = bottle.Bottle()
    child.route("/<name>", callback=lambda name: name)
    parts = [flask_application(), child, get_wsgi_application()]

    def cascade(environ: dict[str, Any], start_response: Any) -> Any:
        for app in parts:
            answer: list[Any] = []
            body = app(environ, lambda status, headers, exc_info=None, answer=answer: answer.append((status, headers)))
            if not answer[0][0].startswith("404"):
                break
        start_response(*answer[0])
        return body

    assert wsgi(cascade, "/b")[:2] == (200, "/<name>")
    assert wsgi(cascade, "/items/7/")[:2] == (200, "/items/<int:pk>/")
    assert wsgi(cascade, "/no/where")[:2] == (404, "<unmatched>")
    parts[:2] = reversed(parts[:2])
    assert wsgi(cascade, "/b")[:2] == (200, "/<name>")


def test_django_mounted_in_starlette_has_its_endpoint_with_the_mount(monkeypatch: pytest.MonkeyPatch) -> None:
    """The inner one knows more: Django mounted in Starlette tells its own route with the mount."""
    only(monkeypatch, "django", "starlette")

    async def unused(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError

    app = Starlette(routes=[Mount("/d", get_asgi_application()), Route("/x", unused)])
    assert asgi(app, "/d/items/7/") == (200, "/d/items/<int:pk>/", None)
    assert asgi(app, "/d/boom/") == (500, "/d/boom/", "LookupError")
    assert asgi(app, "/d/nowhere") == (404, "<unmatched>", None)


def test_instances_include_derived_and_slotted_classes() -> None:
    """All of them are found, of derived classes and those with slots too."""

    class Base:
        __slots__ = ()

    class Slotted(Base):
        __slots__ = ("held",)

    class Derived(Slotted):
        pass

    made = [Slotted(), Derived(), Derived()]
    assert set(map(id, instances(Base))) == set(map(id, made))


FROZEN = """
import gc
from gunicorn_prom_hooks.worker.frameworks.annotations import instances

class Slotted:
    __slots__ = ("held",)

made = Slotted()
gc.freeze()
before = gc.get_freeze_count()
assert instances(Slotted) == [made]
assert gc.get_freeze_count() >= before
assert gc.isenabled()
gc.disable()
assert instances(Slotted) == [made]
assert not gc.isenabled()
gc.unfreeze()
assert instances(Slotted) == [made]
assert gc.get_freeze_count() == 0
"""


def test_instances_frozen_by_gc_are_found_and_stay_frozen() -> None:
    """What a config file has frozen before the fork is found, and stays frozen."""
    done = subprocess.run([sys.executable, "-c", FROZEN], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def wrongs() -> flask.Flask:
    """An application in which each path goes wrong in its own way."""
    app = flask.Flask("app")

    @app.get("/boom/<int:number>")
    def boom(number: int) -> str:
        raise LookupError("boom")

    @app.get("/503")
    def unavailable() -> tuple[str, int]:
        return "", 503

    @app.get("/handled")
    def handled() -> str:
        raise ZeroDivisionError

    app.register_error_handler(ZeroDivisionError, lambda error: ("handled", 400))
    return app


@pytest.mark.parametrize("make", KINDS)
def test_exception_handled_by_a_framework_is_the_failure_of_a_5xx(
    make: MakeHooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A 5xx that a framework made of an exception counts under its class name; one that it handled is no failure."""
    only(monkeypatch, "flask")
    with Bench(asked(), make=make) as bench:
        for path in (b"/boom/1", b"/boom/2", b"/503", b"/handled", b"/nowhere"):
            bench.get(path, wrongs())
        assert bench.counts(FAILED) == {
            ("GET", "/boom/<int:number>", "LookupError"): 2,
            ("GET", "/503", "HTTP 503"): 1,
        }
        assert bench.requests()["GET", "/boom/<int:number>", "500"] == 2
        assert not bench.errors.counts


@pytest.mark.parametrize("make", KINDS)
def test_request_of_no_framework_is_unmatched_only_with_404_or_405(
    make: MakeHooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a request that no framework has handled, nothing but a 404 and a 405 is unmatched, whatever is imported."""
    only(monkeypatch, "flask", "django", "falcon", "bottle", "pyramid")

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response(environ["PATH_INFO"][1:4] + " X", [("Content-Length", "2")])
        return [b"ok"]

    with Bench(asked(), make=make) as bench:
        for status in (200, 204, 301, 401, 403, 404, 405, 410, 503):
            bench.get(b"/%d/7" % status, app)
        endpoints = {status: endpoint for _, endpoint, status in bench.requests()}
        assert {status for status, endpoint in endpoints.items() if endpoint == "<unmatched>"} == {"404", "405"}
        assert {endpoint for endpoint in endpoints.values() if endpoint != "<unmatched>"} == {"/:id/:id"}
        assert not bench.errors.counts


@pytest.mark.parametrize("make", KINDS)
def test_endpoint_callable_is_called_once_per_request_and_not_when_refused(
    make: MakeHooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The callable is called once for each request, one that fails included, never for one that gunicorn refused."""
    only(monkeypatch, "flask")
    calls: list[str] = []

    def endpoint(environ: Mapping[str, Any]) -> str | None:
        calls.append(environ["PATH_INFO"])
        if environ["PATH_INFO"] == "/503":
            raise KeyError("name")
        return None if environ["PATH_INFO"].startswith("/boom") else "mine"

    errors = ErrorReporter()
    with Bench(resolver(endpoint, errors), make=make) as bench:
        for path in (b"/boom/1", b"/503", b"/handled"):
            bench.get(path, wrongs())
        bench.send(b"GET / HTTP/9.9\r\n\r\n", wrongs())
        bench.send(b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n", wrongs())
        bench.send(b"GET /refused HTTP/1.1\r\nHost: x\r\nScript_Name: /mine\r\n\r\n", wrongs())
        assert calls == ["/boom/1", "/503", "/handled"]
    assert errors.counts == {"endpoint": 1}


def test_endpoint_callable_without_a_framework_returns_its_value_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """None from the callable leaves the endpoint to the path."""
    only(monkeypatch)
    resolve = resolver(lambda given: given["x"], ErrorReporter())
    assert resolve is not None
    assert resolve({"x": None}) is None
    assert resolve({"x": "<unmatched>"}) == "<unmatched>"


def test_frameworks_that_note_routes_share_one_resolver(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frameworks that leave notes are not asked one after the other."""
    only(monkeypatch, "flask", "django", "falcon")
    assert asked() is noted
