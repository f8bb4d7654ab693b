"""ASGI applications in real workers: gunicorn's own asgi worker and uvicorn's."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from tests.helpers.places import APPLICATIONS
from tests.helpers.servers import Server, eventually
from tests.integration.conftest import APP, Serve

ECHO = APPLICATIONS / "asgi_echo.py"

ASGI = [
    pytest.param("worker_class = 'asgi'\nasgi_loop = 'asyncio'\n", id="asgi"),
    pytest.param("worker_class = 'asgi'\nasgi_loop = 'uvloop'\naccesslog = '-'\n", id="asgi-uvloop-accesslog"),
    pytest.param("worker_class = 'uvicorn_worker.UvicornWorker'\n", id="uvicorn"),
]


def counts(server: Server, total: float) -> dict[tuple[str, str, str], float]:
    """Requests by method, endpoint and status, once there are so many."""
    samples = server.settled(total)
    return {
        (labels["method"], labels["endpoint"], labels["status"]): value
        for labels, value in samples.all("gunicorn_requests_total")
    }


@pytest.mark.parametrize("config", ASGI)
def test_response_that_failed_before_its_body_has_the_status_that_the_client_saw(serve: Serve, config: str) -> None:
    """gunicorn sends the headers with the first piece of the body: without one, nothing. uvicorn sends them at once."""
    server = serve(config, app=ECHO)
    for path in ("/headers/raise", "/headers/return"):
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert client.recv(12) == (b"HTTP/1.1 200" if "uvicorn" in config else b"")
    status = "200" if "uvicorn" in config else "500"
    found = counts(server, 3)
    assert found["GET", "/headers/raise", status] == found["GET", "/headers/return", status] == 1
    failed = server.scrape().all("gunicorn_failed_requests_total")
    assert sorted(labels["error_type"] for labels, _ in failed) == ["IncompleteResponse", "KeyError"]


@pytest.mark.parametrize("config", ASGI)
def test_each_outcome_of_a_request_is_counted_under_asgi_workers(serve: Serve, config: str) -> None:
    """What happens to a request is on the page: status, seconds, bytes, exceptions; no hook fails."""
    server = serve(config, app=ECHO)
    session = "/items/1", "/items/2", "/status/404", "/status/503", "/boom", "/silent", "/stream", "/late", "/half"
    for path in session:
        try:
            server.get(path)
        except OSError:  # an answer that ends too early
            assert path in ("/late", "/half")
    server.post("/items/3", b"12345")
    assert counts(server, 11) == {
        ("GET", "/", "200"): 1,
        ("GET", "/items/:id", "200"): 2,
        ("POST", "/items/:id", "200"): 1,
        ("GET", "<unmatched>", "404"): 1,
        ("GET", "/status/:id", "503"): 1,
        ("GET", "/boom", "500"): 1,
        ("GET", "/silent", "500"): 1,
        ("GET", "/stream", "200"): 1,
        ("GET", "/late", "200"): 1,
        ("GET", "/half", "200"): 1,
    }
    samples = server.scrape()
    assert {
        (labels["endpoint"], labels["error_type"]): value
        for labels, value in samples.all("gunicorn_failed_requests_total")
    } == {
        ("/status/:id", "HTTP 503"): 1,
        ("/boom", "ValueError"): 1,
        ("/silent", "HTTP 500"): 1,
        ("/late", "KeyError"): 1,
        ("/half", "IncompleteResponse"): 1,
    }
    assert samples.sum("gunicorn_worker_error_handling_total", error_type="ValueError", endpoint="/boom") == 1
    assert samples.sum("gunicorn_request_size_bytes_sum", method="POST", endpoint="/items/:id") == 5
    assert 3000 < samples.sum("gunicorn_response_size_bytes_sum", endpoint="/stream") < 3020
    # asyncio may wake a little early.
    assert 0.29 < samples.sum("gunicorn_request_duration_seconds_sum", endpoint="/stream") < 20
    assert samples.one("gunicorn_requests_in_progress") == 0
    assert samples.sum("gunicorn_exporter_errors_total") == 0
    assert samples.all("gunicorn_requests_capacity") == []


@pytest.mark.parametrize("config", ASGI)
def test_response_that_the_server_refuses_is_a_failure(serve: Serve, config: str) -> None:
    """The status is that which the client saw, 500 if there was none; a failure is counted once."""
    server = serve(config, app=APPLICATIONS / "asgi_refused.py")
    seen: dict[str, int | None] = {}
    for path in ("/longer", "/shorter", "/text", "/header", "/ends", "/text?503", "/header?503"):
        try:
            seen[path] = server.get(path).status_code
        except OSError:  # there is no response, or only a part of it
            seen[path] = None
    is_uvicorn = "uvicorn" in config
    # gunicorn cuts a body that is too long, and does not tell the application of one that is too short.
    assert seen["/longer"] == (None if is_uvicorn else 200)
    assert [seen["/shorter"], seen["/text"], seen["/text?503"]] == [None] * 3
    assert {seen["/header"], seen["/header?503"], seen["/ends"]} <= {500, None}
    assert counts(server, 8) == {
        ("GET", "/", "200"): 1,
        ("GET", "/longer", "200"): 1,
        ("GET", "/shorter", "200"): 1,
        ("GET", "/text", "200"): 1,
        ("GET", "/text", "503"): 1,
        ("GET", "/header", "500"): 2,
        ("GET", "/ends", "500"): 1,
    }
    samples, header = server.scrape(), "LocalProtocolError" if is_uvicorn else "InvalidResponseHeaderName"
    failures = {
        ("/text", "TypeError"): 1,
        ("/text", "HTTP 503"): 1,
        ("/header", header): 2,
        ("/ends", "GeneratorExit"): 1,
    }
    if is_uvicorn:
        failures |= {("/longer", header): 1, ("/shorter", header): 1}
    assert {
        (labels["endpoint"], labels["error_type"]): value
        for labels, value in samples.all("gunicorn_failed_requests_total")
    } == failures
    assert samples.one("gunicorn_requests_in_progress") == 0
    assert samples.sum("gunicorn_exporter_errors_total") == 0


@pytest.mark.parametrize("config", ASGI)
@pytest.mark.parametrize("request_line", ["HEAD /slow", "GET /slow?204", "GET /slow?304"])
def test_client_that_leaves_with_the_headers_of_a_response_without_a_body_is_no_499(
    serve: Serve, config: str, request_line: str
) -> None:
    """The client has everything, while the application has yet to end its response."""
    server = serve(config, app=APPLICATIONS / "asgi_refused.py")
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(f"{request_line} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert client.recv(4096)
    method, status = request_line.partition(" ")[0], request_line.partition("?")[2] or "200"
    assert counts(server, 2) == {("GET", "/", "200"): 1, (method, "/slow", status): 1}


def test_request_above_the_limit_of_uvicorn_is_a_503(serve: Serve) -> None:
    """What uvicorn answers itself is counted as the client saw it, as a failure, without method and path."""
    limited = "from uvicorn_worker import UvicornWorker\nclass worker_class(UvicornWorker):\n"
    server = serve(limited + "    CONFIG_KWARGS = {'limit_concurrency': 2}\n", app=ECHO)
    with socket.create_connection(("127.0.0.1", server.port)) as other:
        other.sendall(b"GET /items/1 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b" 200 " in other.recv(4096)
        assert server.get("/items/2").status_code == 503
        assert server.get("/items/3").status_code == 503
    assert counts(server, 4) == {
        ("GET", "/", "200"): 1,
        ("GET", "/items/:id", "200"): 1,
        ("<other>", "<unmatched>", "503"): 2,
    }
    samples = server.scrape()
    assert samples.one("gunicorn_failed_requests_total", error_type="HTTP 503", endpoint="<unmatched>") == 2
    assert samples.one("gunicorn_requests_in_progress") == 0


@pytest.mark.parametrize("worker", ["asgi", "gthread"])
def test_request_that_the_users_pre_request_refuses_is_a_failure(serve: Serve, worker: str) -> None:
    """An exception of the hook is answered with a 500 by gunicorn, and counted as one; other requests go on."""
    hook = "def pre_request(worker, req):\n    if req.path == '/items/13':\n        raise LookupError('refused')\n"
    app = ECHO if worker == "asgi" else APP
    server = serve(f"worker_class = '{worker}'\n{hook}install(globals(), port=METRICS_PORT)\n", app=app)
    assert [server.get(path).status_code for path in ("/items/13", "/items/7", "/items/13")] == [500, 200, 500]
    assert counts(server, 4) == {
        ("GET", "/", "200"): 1,
        ("GET", "/items/:id", "200"): 1,
        ("GET", "/items/:id", "500"): 2,
    }
    samples = server.scrape()
    assert samples.one("gunicorn_failed_requests_total", error_type="LookupError") == 2
    assert samples.sum("gunicorn_worker_error_handling_total", error_type="LookupError") == 2
    assert samples.one("gunicorn_requests_in_progress") == 0


def test_request_refused_by_uvicorn_is_counted_as_invalid_only(serve: Serve) -> None:
    """What uvicorn cannot parse it tells in its log alone: it is counted as invalid, and is no request."""
    server = serve("worker_class = 'uvicorn_worker.UvicornWorker'\n", app=ECHO)
    assert b" 400 " in server.send(b"NONSENSE\r\n\r\n")
    samples = server.settled(1, "gunicorn_invalid_requests_total")
    assert samples.one("gunicorn_invalid_requests_total", error_type="InvalidRequest") == 1
    assert samples.sum("gunicorn_worker_error_handling_total", error_type="InvalidRequest") == 1
    assert counts(server, 1) == {("GET", "/", "200"): 1}


@pytest.mark.parametrize("config", ASGI)
def test_request_of_a_disconnected_client_is_499_and_not_failed(serve: Serve, config: str) -> None:
    """A client that hangs up is 499, and no failure; what it asked for is in progress until then."""
    server = serve(config, app=ECHO)
    with socket.create_connection(("127.0.0.1", server.port)) as sock:
        sock.sendall(b"GET /hang HTTP/1.1\r\nHost: x\r\n\r\n")
        eventually(lambda: server.scrape().one("gunicorn_requests_in_progress") == 1, "it is in progress")
    assert counts(server, 2)["GET", "/hang", "499"] == 1
    assert server.scrape().sum("gunicorn_failed_requests_total") == 0


@pytest.mark.parametrize("config", ASGI)
def test_request_is_counted_at_its_response_and_not_after_background_work(serve: Serve, config: str) -> None:
    """A request ends with its response: it is counted while the application is still at work."""
    server = serve(config, app=ECHO)
    assert server.get("/background").status_code == 200
    samples = server.settled(2)
    assert not (server.folder / "done").exists()
    assert samples.sum("gunicorn_request_duration_seconds_sum", endpoint="/background") < 1
    eventually((server.folder / "done").exists, "the background work is done")
    assert counts(server, 2)["GET", "/background", "200"] == 1


@pytest.mark.parametrize("config", ASGI)
def test_websockets_refused_handshakes_and_failures_are_counted_by_endpoint(serve: Serve, config: str) -> None:
    """Opened and open websockets, by endpoint; a refused handshake is a request; an exception is a failure."""
    server = serve(config, app=ECHO)
    url = f"ws://127.0.0.1:{server.port}"
    with connect(f"{url}/rooms/1") as one, connect(f"{url}/rooms/2") as two:
        for websocket in (one, two):
            websocket.send("hello")
            assert websocket.recv() == "hello"
        samples = server.scrape()
        assert samples.one("gunicorn_websockets_total", endpoint="/rooms/:id") == 2
        assert samples.one("gunicorn_websockets_in_progress", endpoint="/rooms/:id") == 2
        assert samples.one("gunicorn_requests_in_progress") == 0
        two.send("fail")
        with pytest.raises(ConnectionClosed):
            two.recv()
        eventually(lambda: server.scrape().one("gunicorn_websockets_in_progress") == 1, "the one that failed is closed")
    for path, status in (("/refused", 403), ("/fails", 500)):
        with pytest.raises(InvalidStatus) as refused, connect(url + path):
            pass
        assert refused.value.response.status_code == status
    assert counts(server, 3) == {
        ("GET", "/", "200"): 1,
        ("GET", "/refused", "403"): 1,
        ("GET", "/fails", "500"): 1,
    }
    samples = server.scrape()
    assert {
        (labels["endpoint"], labels["error_type"]): value
        for labels, value in samples.all("gunicorn_failed_requests_total")
    } == {("/rooms/:id", "ValueError"): 1, ("/fails", "KeyError"): 1}
    eventually(lambda: server.scrape().one("gunicorn_websockets_in_progress") == 0, "all are closed")


def test_websockets_of_a_killed_worker_stay_counted_and_leave_in_progress(serve: Serve) -> None:
    """Websockets that went down with their worker are open no more, and were opened all the same."""
    server = serve("worker_class = 'asgi'\n", app=ECHO)
    with connect(f"ws://127.0.0.1:{server.port}/") as websocket:
        websocket.send("hello")
        assert websocket.recv() == "hello"
        (worker,) = server.workers()
        worker.kill()
        eventually(lambda: server.scrape().sum("gunicorn_worker_exits_total", reason="signal") == 1, "it is gone")
        samples = server.wait_for_workers(1)
    assert samples.one("gunicorn_websockets_total") == 1
    assert samples.one("gunicorn_websockets_in_progress") == 0


@pytest.mark.parametrize("config", ASGI)
def test_lifespan_reaches_the_application_once_and_is_not_a_request(serve: Serve, config: str) -> None:
    """Startup and shutdown reach the application, once each, and are not requests."""
    server = serve(config, app=ECHO)
    assert counts(server, 1) == {("GET", "/", "200"): 1}
    server.stop()
    assert (server.folder / "lifespan.startup").read_text() == "x"
    assert (server.folder / "lifespan.shutdown").read_text() == "x"


def test_three_hundred_concurrent_requests_are_all_in_progress_and_all_end(serve: Serve) -> None:
    """Hundreds of requests in one worker are all in progress, beyond what the in-flight table names, and all end."""
    server = serve("worker_class = 'asgi'\n", app=ECHO)
    clients = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(300)]
    try:
        for client in clients:
            client.sendall(b"GET /hang HTTP/1.1\r\nHost: x\r\n\r\n")
        eventually(lambda: server.scrape().one("gunicorn_requests_in_progress") == 300, "300 in progress")
    finally:
        for client in clients:
            client.close()
    assert counts(server, 301)["GET", "/hang", "499"] == 300
    assert server.scrape().one("gunicorn_requests_in_progress") == 0


FACTORY = APPLICATIONS / "asgi_echo_factory.py"
DOUBLE = APPLICATIONS / "asgi_echo_asgi2.py"


@pytest.mark.parametrize("app", [FACTORY, DOUBLE], ids=["factory", "asgi2"])
def test_factory_and_asgi2_applications_in_uvicorn_are_served_and_counted(serve: Serve, app: Path) -> None:
    """What uvicorn makes of an application by a look at it, it still does."""
    server = serve("worker_class = 'uvicorn_worker.UvicornWorker'\n", app=app)
    assert server.get("/items/1").status_code == 200
    assert counts(server, 2)["GET", "/items/:id", "200"] == 1


@pytest.mark.parametrize("hook", ["", "def pre_request(worker, req):\n    open('called', 'w').close()\n"])
def test_asgi_worker_has_no_request_hooks_but_those_of_the_user(serve: Serve, hook: str) -> None:
    """gunicorn's asgi worker has no request hooks but the user's: without any it serves faster."""
    server = serve(
        hook
        + "install(globals(), port=METRICS_PORT)\nworker_class = 'asgi'\n"
        + "def post_worker_init(worker):\n"
        + "    from gunicorn.asgi.protocol import _post_request_hook, _pre_request_hook\n"
        + "    notify = worker.notify\n"
        + "    def serving():\n"
        + "        hooks = _pre_request_hook(worker.cfg, worker.log), _post_request_hook(worker.cfg)\n"
        + "        open('hooks', 'w').write(repr(hooks))\n"
        + "        notify()\n"
        + "    worker.notify = serving\n",
        app=ECHO,
    )
    hooks = eventually((server.folder / "hooks").read_text, "the worker serves")
    assert (server.folder / "called").exists() == bool(hook)
    assert hooks == "(None, None)" if not hook else hooks.startswith("(<function pre_request")
    assert counts(server, 1) == {("GET", "/", "200"): 1}
