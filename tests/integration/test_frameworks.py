"""Endpoints and failures of each framework's application in a real gunicorn."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from tests.helpers.places import APPLICATIONS
from tests.helpers.servers import Server
from tests.integration.conftest import Serve

WSGI_WORKERS = {
    "sync": "worker_class = 'sync'\n",
    "gthread": "worker_class = 'gthread'\nthreads = 4\n",
}
ASGI_WORKERS = {
    "asgi": "worker_class = 'asgi'\n",
    "uvicorn": "worker_class = 'uvicorn_worker.UvicornWorker'\n",
}
WSGI = {
    "flask": (APPLICATIONS / "framework_flask.py", "/items/<int:number>", "LookupError"),
    "flask-socketio": (APPLICATIONS / "framework_flask_socketio.py", "/items/<int:number>", "LookupError"),
    "django": (APPLICATIONS / "framework_django_wsgi.py", "/items/<int:number>", "LookupError"),
    "falcon": (APPLICATIONS / "framework_falcon_wsgi.py", "/items/{number:int}", "LookupError"),
    "pyramid": (APPLICATIONS / "framework_pyramid.py", "/items/{number}", "LookupError"),
    "bottle": (APPLICATIONS / "framework_bottle.py", "/items/<number:int>", "HTTP 500"),
}
ASGI = {
    "starlette": (APPLICATIONS / "framework_starlette.py", "/items/{number:int}", "LookupError"),
    "fastapi": (APPLICATIONS / "framework_fastapi.py", "/items/{number}", "LookupError"),
    "django": (APPLICATIONS / "framework_django_asgi.py", "/items/<int:number>", "LookupError"),
    "falcon": (APPLICATIONS / "framework_falcon_asgi.py", "/items/{number:int}", "LookupError"),
    "litestar": (APPLICATIONS / "framework_litestar.py", "/items/{number}", "LookupError"),
    "quart": (APPLICATIONS / "framework_quart.py", "/items/<int:number>", "LookupError"),
}
CASES = [
    pytest.param(config, *WSGI[framework], id=f"{framework}-{worker}")
    for framework in WSGI
    for worker, config in WSGI_WORKERS.items()
] + [
    pytest.param(config, *ASGI[framework], id=f"{framework}-{worker}")
    for framework in ASGI
    for worker, config in ASGI_WORKERS.items()
]
SESSION = [
    *(f"/items/{number}" for number in range(12)),
    "/no/where",
    "/gone",
    "/boom",
    "/handled",
    "/unavailable",
    "/stream",
    "/v2/items/7",
]


def requests_counted(server: Server, total: float) -> dict[tuple[str, str, str], float]:
    """Requests by method, endpoint and status, once there are so many."""
    samples = server.settled(total)
    return {
        (labels["method"], labels["endpoint"], labels["status"]): value
        for labels, value in samples.all("gunicorn_requests_total")
    }


def failures_counted(server: Server) -> dict[tuple[str, str], float]:
    """Failures by endpoint and error_type."""
    found = server.scrape().all("gunicorn_failed_requests_total")
    return {(labels["endpoint"], labels["error_type"]): value for labels, value in found}


@pytest.mark.parametrize(("config", "app", "item", "boom"), CASES)
def test_requests_and_failures_are_counted_by_route_template(
    serve: Serve, config: str, app: Path | str, item: str, boom: str
) -> None:
    """Each request is counted under its route template, each failure under the exception that the framework told."""
    server = serve(config, app=app)
    with ThreadPoolExecutor(4) as threads:
        answers = dict(zip(SESSION, threads.map(server.get, SESSION), strict=True))
    assert answers["/items/7"].ok
    # Falcon's ASGI applications match the whole path, and Quart has nothing to mount them with.
    is_mounted = answers["/v2/items/7"].ok
    mounted = ("GET", "/v2" + item, "200") if is_mounted else ("GET", "<unmatched>", "404")
    expected = {
        ("GET", "/", "200"): 1.0,
        ("GET", item, "200"): 12.0,
        ("GET", "<unmatched>", "404"): 1.0,
        ("GET", "/gone", "404"): 1.0,
        ("GET", "/boom", "500"): 1.0,
        ("GET", "/handled", "400"): 1.0,
        ("GET", "/unavailable", "503"): 1.0,
        ("GET", "/stream", "200"): 1.0,
    }
    expected[mounted] = expected.get(mounted, 0.0) + 1.0
    assert requests_counted(server, 1 + len(SESSION)) == expected
    assert failures_counted(server) == {("/boom", boom): 1, ("/unavailable", "HTTP 503"): 1}
    assert server.scrape().sum("gunicorn_exporter_errors_total") == 0


def test_flask_mounted_in_django_counts_each_under_its_own_template(serve: Serve) -> None:
    """Flask beside Django, loaded and frozen before the fork: each request counts under the template of its own."""
    app = APPLICATIONS / "framework_flask_and_django.py"
    freeze = "import gc\ndef when_ready(server):\n    gc.freeze()\n"
    server = serve(freeze + "install(globals(), port=METRICS_PORT)\npreload_app = True\nworkers = 2\n", app=app)
    for path in ("/items/1", "/flask/items/1", "/flask/no/where", "/boom", "/flask/boom"):
        server.get(path)
    assert requests_counted(server, 6) == {
        ("GET", "/", "200"): 1,
        ("GET", "/items/<int:number>", "200"): 1,
        ("GET", "/flask/items/<int:number>", "200"): 1,
        ("GET", "<unmatched>", "404"): 1,
        ("GET", "/boom", "500"): 1,
        ("GET", "/flask/boom", "500"): 1,
    }
    assert failures_counted(server) == {("/boom", "LookupError"): 1, ("/flask/boom", "LookupError"): 1}


COPIES = """
site = app

def app(environ, start_response):
    return site(dict(environ), start_response)
"""
COPIES_SCOPE = """
site = app

async def app(scope, receive, send):
    await site(dict(scope), receive, send)
"""
COPYING = [
    pytest.param(config, WSGI[framework][0].read_text() + COPIES, *WSGI[framework][1:], id=f"{framework}-{worker}")
    for framework, worker in (("flask", "sync"), ("bottle", "gthread"), ("django", "tornado"))
    for config in [f"worker_class = '{worker}'\n"]
] + [
    pytest.param(
        config, ASGI[framework][0].read_text() + COPIES_SCOPE, *ASGI[framework][1:], id=f"{framework}-{worker}"
    )
    for framework, worker in (("starlette", "asgi"), ("fastapi", "uvicorn"), ("litestar", "uvicorn"), ("quart", "asgi"))
    for config in [ASGI_WORKERS[worker]]
]


@pytest.mark.parametrize(("config", "app", "item", "boom"), COPYING)
def test_copied_environ_or_scope_keeps_endpoint_and_failure(
    serve: Serve, config: str, app: Path | str, item: str, boom: str
) -> None:
    """A copy of the environ or scope loses nothing, and many requests on one connection do not share what is noted."""
    server = serve(config, app=app)
    with requests.Session() as session:
        for path in ("/items/1", "/no/where", "/items/2", "/items/3", "/boom"):
            session.get(f"http://127.0.0.1:{server.port}{path}", timeout=10)
    assert requests_counted(server, 6) == {
        ("GET", "/", "200"): 1,
        ("GET", item, "200"): 3,
        ("GET", "<unmatched>", "404"): 1,
        ("GET", "/boom", "500"): 1,
    }
    assert failures_counted(server) == {("/boom", boom): 1}
    assert server.scrape().sum("gunicorn_exporter_errors_total") == 0


UNKNOWN = APPLICATIONS / "unknown_framework.py"


@pytest.mark.parametrize("worker", ASGI_WORKERS)
def test_unknown_framework_has_the_general_path_and_404_or_405_is_unmatched(serve: Serve, worker: str) -> None:
    """It is not taken for one that is imported: the path is made general, and only a 404 or 405 is unmatched."""
    server = serve(ASGI_WORKERS[worker], app=UNKNOWN)
    for path in ("/items/7", "/gone/7", "/method/7", "/denied/7"):
        server.get(path)
    assert requests_counted(server, 5) == {
        ("GET", "/", "200"): 1,
        ("GET", "/items/:id", "200"): 1,
        ("GET", "<unmatched>", "404"): 1,
        ("GET", "<unmatched>", "405"): 1,
        ("GET", "/denied/:id", "401"): 1,
    }
    assert server.scrape().sum("gunicorn_exporter_errors_total") == 0


def test_endpoint_callable_gets_the_asgi_scope_and_none_is_default(serve: Serve) -> None:
    """The user's callable is given the scope of an ASGI application; None leaves it to the framework."""
    server = serve(
        """
def name(scope):
    if scope["path"] == "/handled":
        raise RuntimeError("no name")
    return "mine" if scope["path"] == "/stream" else None

install(globals(), port=METRICS_PORT, endpoint=name)
worker_class = "asgi"
""",
        app=APPLICATIONS / "framework_starlette.py",
    )
    for path in ("/stream", "/handled", "/items/7"):
        server.get(path)
    assert requests_counted(server, 4) == {
        ("GET", "/", "200"): 1,
        ("GET", "mine", "200"): 1,
        ("GET", "/handled", "400"): 1,
        ("GET", "/items/{number:int}", "200"): 1,
    }
    assert server.scrape().sum("gunicorn_exporter_errors_total", where="endpoint") == 1


FACTORIES = {
    "django": (APPLICATIONS / "framework_django_asgi_factory.py", "/items/<int:number>"),
    "falcon": (APPLICATIONS / "framework_falcon_asgi_factory.py", "/items/{number:int}"),
}


@pytest.mark.parametrize("framework", FACTORIES)
def test_application_of_a_uvicorn_factory_is_counted_by_route_template(serve: Serve, framework: str) -> None:
    """An application that uvicorn has a factory make, after the worker has loaded, is known like any other."""
    app, item = FACTORIES[framework]
    server = serve("worker_class = 'uvicorn_worker.UvicornWorker'\n", app=app)
    for path in ("/items/7", "/boom"):
        server.get(path)
    assert requests_counted(server, 3) == {("GET", "/", "200"): 1, ("GET", item, "200"): 1, ("GET", "/boom", "500"): 1}
    assert failures_counted(server) == {("/boom", "LookupError"): 1}
    assert server.scrape().sum("gunicorn_exporter_errors_total") == 0
