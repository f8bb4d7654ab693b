"""Requests that fail: exceptions, 5xx responses, malformed requests, timeouts, killed workers."""

from __future__ import annotations

import contextlib
import socket
import struct

import pytest

from tests.helpers.places import APPLICATIONS
from tests.helpers.servers import Samples, Server, eventually
from tests.integration.conftest import Serve

WORKERS = ["sync", "gthread"]


def classed(worker: str) -> str:
    """The config lines for one worker of that class."""
    return f"worker_class = {worker!r}\nthreads = {4 if worker == 'gthread' else 1}\n"


@pytest.mark.parametrize("worker", WORKERS)
def test_exception_before_or_after_the_response_start_is_counted_by_its_class(serve: Serve, worker: str) -> None:
    """An exception counts under its class name and status 500, also where it came after the response had begun."""
    server = serve(classed(worker))
    assert server.get("/boom").status_code == 500
    server.send(b"GET /late HTTP/1.1\r\nHost: x\r\n\r\n")
    samples = server.settled(3)
    assert samples.one("gunicorn_failed_requests_total", endpoint="/boom", method="GET", error_type="ValueError") == 1
    assert samples.one("gunicorn_failed_requests_total", endpoint="/late", error_type="KeyError") == 1
    assert samples.one("gunicorn_requests_total", endpoint="/boom") == samples.one(
        "gunicorn_requests_total", endpoint="/boom", status="500"
    )
    assert samples.one("gunicorn_requests_total", endpoint="/late", status="200") == 1
    assert samples.sum("gunicorn_worker_failed_requests_total") == 2
    handled = samples.all("gunicorn_worker_error_handling_total")
    assert [labels["error_type"] for labels, _ in handled] == ["ValueError"]
    assert handled[0][0]["endpoint"] == "/boom"


@pytest.mark.parametrize("worker", WORKERS)
def test_response_503_is_a_failure_without_error_handling_by_gunicorn(serve: Serve, worker: str) -> None:
    """A 5xx that the application answered itself is a failure of type "HTTP 503"; gunicorn's own handling saw none."""
    server = serve(classed(worker))
    server.get("/503")
    samples = server.settled(2)
    assert samples.one("gunicorn_failed_requests_total", error_type="HTTP 503") == 1
    assert samples.sum("gunicorn_worker_error_handling_total") == 0


@pytest.mark.parametrize("worker", WORKERS)
def test_client_that_disconnects_in_a_response_is_499_and_not_failed(serve: Serve, worker: str) -> None:
    """A client that hangs up in the middle of a response is a 499, and no failure."""
    server = serve(classed(worker))
    with socket.create_connection(("127.0.0.1", server.port)) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.sendall(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n")
        sock.recv(1000)
    samples = server.settled(2)
    assert samples.one("gunicorn_requests_total", endpoint="/big", status="499") == 1
    assert samples.sum("gunicorn_failed_requests_total") == 0


REFUSED = {
    b"NONSENSE\r\n\r\n": (400, "InvalidRequestLine"),
    b"GET / HTTP/9.9\r\n\r\n": (400, "InvalidHTTPVersion"),
    b"GET / HTTP/1.1\r\nBad Name: x\r\n\r\n": (400, "InvalidHeaderName"),
    b"GET /" + b"x" * 5000 + b" HTTP/1.1\r\n\r\n": (414, "LimitRequestLine"),
    b"GET / HTTP/1.1\r\n" + b"".join(b"H%d: x\r\n" % n for n in range(150)) + b"\r\n": (431, "LimitRequestHeaders"),
}


@pytest.mark.parametrize("worker", WORKERS)
@pytest.mark.parametrize("level", ["info", "critical"])
def test_malformed_request_is_counted_by_reason_at_any_log_level(serve: Serve, worker: str, level: str) -> None:
    """What gunicorn refuses to parse is counted under the reason, whatever the log level lets through."""
    server = serve(classed(worker) + f"loglevel = {level!r}\n")
    for data, (status, _) in REFUSED.items():
        assert f" {status} ".encode() in server.send(data)[:30]
    samples = server.settled(len(REFUSED), "gunicorn_invalid_requests_total")
    for _, error_type in REFUSED.values():
        assert samples.one("gunicorn_invalid_requests_total", error_type=error_type) == 1
        assert samples.one(
            "gunicorn_worker_error_handling_total", error_type=error_type, method="<other>", endpoint="<unmatched>"
        )
    assert samples.sum("gunicorn_requests_total") == 1  # the one that waited for the server to answer


@pytest.mark.parametrize("worker", WORKERS)
def test_malformed_body_is_400_and_counted_as_invalid(serve: Serve, worker: str) -> None:
    """A body that breaks off into nonsense is refused while the application reads it: 400, invalid, and failed."""
    server = serve(classed(worker))
    answer = server.send(b"POST /read HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n")
    assert b" 400 " in answer[:30]
    samples = server.settled(2)
    assert samples.one("gunicorn_requests_total", method="POST", endpoint="/read", status="400") == 1
    assert samples.sum("gunicorn_invalid_requests_total") == 1
    assert samples.sum("gunicorn_request_size_bytes_count", method="POST") == 0


@pytest.mark.parametrize("worker", ["sync", "gthread", "gevent"])
def test_request_and_response_sizes_are_counted_in_bytes_also_with_sendfile(serve: Serve, worker: str) -> None:
    """Bodies are counted in bytes, both ways, a file that gunicorn sends with sendfile included."""
    app = APPLICATIONS / "sizes.py"
    server = serve(classed(worker), app=app)
    (server.folder / "five").write_bytes(b"5" * 5000)
    import requests

    requests.post(f"http://127.0.0.1:{server.port}/double", data=b"x" * 3000, timeout=10)
    assert len(server.get("/file").content) == 5000
    assert requests.head(f"http://127.0.0.1:{server.port}/file", timeout=10).status_code == 200
    samples = server.settled(4)
    assert samples.one("gunicorn_request_size_bytes_sum", endpoint="/double") == 3000
    assert samples.one("gunicorn_request_size_bytes_bucket", endpoint="/double", le="1024.0") == 0
    assert samples.one("gunicorn_request_size_bytes_bucket", endpoint="/double", le="4096.0") == 1
    assert samples.one("gunicorn_response_size_bytes_sum", endpoint="/double") == 6000
    assert samples.one("gunicorn_response_size_bytes_sum", endpoint="/file", method="GET") == 5000
    assert samples.one("gunicorn_response_size_bytes_sum", endpoint="/file", method="HEAD") == 0


@pytest.mark.parametrize("worker", WORKERS)
def test_timeout_sets_state_abort_and_logs_the_stacks_of_all_threads(serve: Serve, worker: str) -> None:
    """A worker that times out is in state abort, counted as a timeout, and logs where each of its threads hung."""
    app = APPLICATIONS / "timeouts.py"
    server = serve(classed(worker) + "timeout = 1\n", app=app)
    with contextlib.suppress(Exception):
        server.get("/hang")
    samples = eventually(lambda: timed_out(server), "the timeout is recorded")
    assert samples.one("gunicorn_master_worker_restart_total", reason="restart") == 0
    assert samples.one("gunicorn_master_worker_restart_total", reason="error") == 0
    states = samples.all("gunicorn_worker_state", state="abort")
    assert [value for _, value in states] == [1.0]
    worker_id = states[0][0]["worker_id"]
    assert samples.all("gunicorn_worker_requests_total", worker_id=worker_id) == []
    log = server.log
    assert "aborted; stacks of its threads" in log
    assert log.count("in hang_here") >= (2 if worker == "gthread" else 1)
    assert "stacks.py" not in log


def timed_out(server: Server) -> Samples | None:
    """The page, once the timeout is on it."""
    samples = server.scrape()
    return samples if samples.one("gunicorn_master_worker_restart_total", reason="timeout") == 1 else None


def test_killed_or_exited_worker_is_an_error_and_keeps_only_its_last_state(serve: Serve) -> None:
    """A worker that is killed, or exits by itself with a code, is an error, and its rows are its last state only."""
    server = serve("workers = 2\n")
    samples = server.wait_for_workers(2)
    [victim] = [labels for labels, _ in samples.all("gunicorn_worker_info", slot="0")]
    server.workers()[0].kill() if server.workers()[0].pid == int(victim["pid"]) else server.workers()[1].kill()
    samples = eventually(
        lambda: s if (s := server.scrape()).one("gunicorn_master_worker_restart_total", reason="error") == 1 else None,
        "the kill is recorded",
    )
    [(labels, value)] = samples.all("gunicorn_worker_state", worker_id=victim["worker_id"])
    assert (labels["state"], value) == ("quit", 1.0)
    with contextlib.suppress(Exception):
        server.get("/exit")
    eventually(lambda: server.scrape().one("gunicorn_master_worker_restart_total", reason="error") == 2, "code 7")
    server.wait_for_workers(2)


@pytest.mark.parametrize("length", [b"100000000000000000000", b"1" + b"0" * 400])
def test_impossible_content_length_is_in_no_sum(serve: Serve, length: bytes) -> None:
    """A Content-Length that no client can send is in no sum of sizes; the request is counted.

    gunicorn_h1c 0.6.10 refuses it as malformed; gunicorn's own parser does not.
    """
    server = serve("http_parser = 'python'\n")
    server.send(b"POST /items/1 HTTP/1.1\r\nHost: x\r\nContent-Length: " + length + b"\r\n\r\n")
    samples = server.settled(2)
    assert samples.sum("gunicorn_requests_total", method="POST") == 1
    assert samples.sum("gunicorn_request_size_bytes_sum") == 0
    assert samples.sum("gunicorn_exporter_errors_total") == 0


def test_sendfile_without_content_length_has_no_response_size(serve: Serve) -> None:
    """What sendfile sends without a Content-Length is in no histogram of sizes, rather than in it as nothing."""
    app = APPLICATIONS / "file_without_length.py"
    server = serve(app=app)
    (server.folder / "five").write_bytes(b"5" * 5000)
    assert len(server.get("/file").content) == 5000
    samples = server.settled(2)
    assert samples.one("gunicorn_requests_total", endpoint="/file") == 1
    assert samples.one("gunicorn_response_size_bytes_count", endpoint="/file") == 0
