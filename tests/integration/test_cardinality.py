"""The label endpoint stays bounded for any requests."""

from __future__ import annotations

from tests.helpers.places import APPLICATIONS
from tests.integration.conftest import Serve

FLASK = APPLICATIONS / "flask_routes.py"


def test_flask_route_template_is_the_endpoint_and_no_match_is_unmatched(serve: Serve) -> None:
    """Flask's route template is the endpoint, with its mount; what matches no route is <unmatched>, a 404 or not."""
    server = serve("workers = 1\n", app=FLASK)
    for path in ("/items/1", "/items/2", "/items/13", "/v2/items/5", "/users/ada/posts", "/nowhere/at/all"):
        server.get(path)
    server.send(b"GET /dir/carl HTTP/1.1\r\nHost: x\r\n\r\n")
    server.send(b"DELETE /users/bob/posts HTTP/1.1\r\nHost: x\r\n\r\n")
    samples = server.settled(9)
    assert samples.one("gunicorn_requests_total", endpoint="/v2/items/<int:number>", status="200") == 1
    assert samples.one("gunicorn_requests_total", endpoint="<unmatched>", status="308") == 1
    assert samples.one("gunicorn_requests_total", endpoint="<unmatched>", status="405") == 1
    assert samples.one("gunicorn_requests_total", endpoint="/items/<int:number>", status="200") == 2
    assert samples.one("gunicorn_requests_total", endpoint="/items/<int:number>", status="404") == 1
    assert samples.one("gunicorn_requests_total", endpoint="/users/<name>/posts", status="500") == 1
    assert samples.one("gunicorn_requests_total", endpoint="<unmatched>", status="404") == 1


def test_endpoint_callable_names_the_endpoint_and_none_or_failure_is_default(serve: Serve) -> None:
    """The user's callable names the endpoint; where it says None, or raises, which is counted, the default does."""
    server = serve(
        """
def name(environ):
    path = environ["PATH_INFO"]
    if path == "/raise":
        raise RuntimeError("no name")
    return "the shop" if path.startswith("/shop") else None

install(globals(), port=METRICS_PORT, endpoint=name)
"""
    )
    for path in ("/shop/1", "/shop/2", "/items/5", "/raise"):
        server.get(path)
    samples = server.settled(5)
    assert samples.one("gunicorn_requests_total", endpoint="the shop") == 2
    assert samples.one("gunicorn_requests_total", endpoint="/items/:id") == 1
    assert samples.one("gunicorn_requests_total", endpoint="/raise") == 1
    assert samples.one("gunicorn_exporter_errors_total", where="endpoint") == 1
    assert server.log.count("endpoint failed") == 1


def test_max_endpoints_bounds_the_page_over_all_workers_and_generations(serve: Serve) -> None:
    """max_endpoints holds for the page, over all workers and generations."""
    server = serve("workers = 3\nmax_requests = 5\ninstall(globals(), port=METRICS_PORT, max_endpoints=4)\n")
    for number in range(60):
        server.get("/" + "abcdefghijklmnopqrstuvwxyz"[number % 26])
    samples = server.settled(61)
    assert samples.sum("gunicorn_requests_total") == 61
    assert len({labels["endpoint"] for labels, _ in samples.all("gunicorn_requests_total")}) == 5
    assert samples.one("gunicorn_exporter_overflowed_labels_total", label="endpoint") > 0
