"""The client's own record against the page: 1,000 requests of every sort, for each class of worker."""

from __future__ import annotations

import os
import random
from typing import Any

import gunicorn_h1c  # type: ignore[import-untyped]
import pytest

from tests.helpers.client_record import ClientRecord, load
from tests.helpers.client_record import Server as Served
from tests.helpers.places import APPLICATIONS
from tests.helpers.servers import Server, eventually
from tests.integration.conftest import CONFIG, Serve

WSGI, ASGI = APPLICATIONS / "client_record_wsgi.py", APPLICATIONS / "client_record_asgi.py"

REQUESTS = 1000
PATCHED = "import gevent.monkey\ngevent.monkey.patch_all()\n" + CONFIG
REFUSED = {
    b"NONSENSE\r\n\r\n": (400, "InvalidRequestLine"),
    b"get / HTTP/1.1\r\n\r\n": (400, "InvalidRequestMethod"),
    b"GET / HTTP/9.9\r\n\r\n": (400, "InvalidHTTPVersion"),
    b"GET / HTTP/1.1\r\nBad Name: x\r\n\r\n": (400, "InvalidHeaderName"),
    b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n": (400, "InvalidHeader"),
    b"GET / HTTP/1.1\r\nTransfer-Encoding: zip\r\n\r\n": (501, "UnsupportedTransferCoding"),
    b"GET /" + b"x" * 5000 + b" HTTP/1.1\r\n\r\n": (414, "LimitRequestLine"),
    b"GET / HTTP/1.1\r\n" + b"".join(b"H%d: x\r\n" % n for n in range(150)) + b"\r\n": (431, "LimitRequestHeaders"),
}
ASGI_TRAITS: dict[str, Any] = {
    "tells": False,
    "late_is_handled": True,
    "cafe": "/café",
    # The server reads the body before, while and after the application is called: which answers first is luck.
    "without": ("refused_body", "refused_body_unread"),
}
FAST = dict(REFUSED)
if not hasattr(gunicorn_h1c, "UnsupportedTransferCoding"):  # before gunicorn_h1c 0.6.12 it is one more bad header
    FAST[b"GET / HTTP/1.1\r\nTransfer-Encoding: zip\r\n\r\n"] = (400, "InvalidHeader")


def checked(server: Server, **traits: Any) -> ClientRecord:
    """Loads the server, of which ``traits`` are told to the client, and compares the record with the page."""
    seed = int(os.environ.get("BOOK_SEED", random.randrange(2**32)))
    print(f"BOOK_SEED={seed}")  # noqa: T201 - to run a failure again
    bells = server.folder / "bells"
    bells.mkdir()
    server.wait_for_workers(2)  # a SIGTERM is lost on one that is only just being forked
    record = load(Served(server.port, bells, **traits), REQUESTS, seed)
    record.requests["GET", "/", "200"] += 1  # the one that waited for the server to answer
    assert not record.surprises, f"seed {seed}: {record.surprises[:3]}"
    last: object = None

    def agrees() -> bool:
        nonlocal last
        last = record.differences(server.scrape())
        return not last

    try:
        eventually(agrees, "the page agrees with the record", 10)
    except AssertionError:
        raise AssertionError(f"seed {seed}: {last}") from None
    return record


@pytest.mark.parametrize("parser", ["python", "fast"])
@pytest.mark.parametrize(
    ("worker", "config"),
    [("sync", CONFIG), ("gthread", CONFIG), ("gevent", CONFIG), ("gevent", PATCHED)],
    ids=["sync", "gthread", "gevent", "gevent-patched"],
)
def test_page_equals_the_client_record_for_wsgi_workers(serve: Serve, worker: str, config: str, parser: str) -> None:
    """Every request to gunicorn's WSGI workers is in the metrics, including those whose client disconnected."""
    server = serve(
        f"workers = 2\nworker_class = {worker!r}\nthreads = {6 if worker == 'gthread' else 1}\nkeepalive = 30\n"
        f"http_parser = {parser!r}\n",
        app=WSGI,
        config=config,
    )
    keepalive = worker != "sync"
    record = checked(server, keepalive=keepalive, reads_on=keepalive, refused=FAST if parser == "fast" else REFUSED)
    assert record.requests.total() + record.invalid.total() > 0.9 * REQUESTS


@pytest.mark.parametrize("access_log", [True, False], ids=["access-log", "no-access-log"])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("parser", ["python", "fast"])
def test_page_equals_the_client_record_for_the_asgi_worker(
    serve: Serve, loop: str, parser: str, access_log: bool
) -> None:
    """gunicorn's asgi worker, with either event loop, either parser, and with and without its access log."""
    server = serve(
        f"workers = 2\nworker_class = 'asgi'\nasgi_loop = {loop!r}\nhttp_parser = {parser!r}\nkeepalive = 30\n"
        + ("accesslog = 'access.log'\n" if access_log else ""),
        app=ASGI,
    )
    refused = FAST if parser == "fast" else REFUSED
    # With gunicorn_h1c 0.6.9 this worker now and then closes on requests that come behind one with a chunked body; so
    # it does without us.
    checked(server, refused=refused, pipelines_bodies=parser == "python", **ASGI_TRAITS)


def test_page_equals_the_client_record_for_the_uvicorn_worker(serve: Serve) -> None:
    """uvicorn's worker, which refuses less, and for one reason."""
    server = serve("workers = 2\nworker_class = 'uvicorn_worker.UvicornWorker'\nkeepalive = 30\n", app=ASGI)
    refused = dict.fromkeys((b"NONSENSE\r\n\r\n", b"GET / HTTP/1.1\r\nBad Name: x\r\n\r\n"), (400, "InvalidRequest"))
    checked(server, refused=refused, **{**ASGI_TRAITS, "tells": True})


def test_page_equals_the_client_record_for_the_tornado_worker(serve: Serve) -> None:
    """gunicorn's tornado worker with a WSGI application, which Tornado calls when the request is complete.

    It sends nothing before the response is complete either: a client that leaves has its response all the same. Where
    the application raises Tornado sends nothing at all, and keeps the connection.
    """
    server = serve("workers = 2\nworker_class = 'tornado'\nkeepalive = 30\n", app=WSGI)
    raising = ("raising", "late", "leaving", "leaving_a_large_one", "leaving_an_upload")
    refused = ("refused", "refused_body", "refused_body_unread")
    checked(server, refused={}, without=(*raising, *refused), cafe="/caf\u00c3\u00a9")
