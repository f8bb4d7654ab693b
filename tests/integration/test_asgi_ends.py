"""Exits of workers with an event loop: the requests in progress, the reason, the log line."""

from __future__ import annotations

import os
import signal

import pytest

from tests.helpers.places import APPLICATIONS
from tests.helpers.servers import eventually
from tests.helpers.worker_exits import busy_worker, exit_lines, exits, hanging, killed, page_with_exits
from tests.integration.conftest import APP, Serve

BLOCKS = APPLICATIONS / "asgi_echo_blocking.py"
CLASSES = {
    "asgi": ("worker_class = 'asgi'\n", BLOCKS),
    "uvicorn": ("worker_class = 'uvicorn_worker.UvicornWorker'\n", BLOCKS),
    "tornado": ("worker_class = 'tornado'\n", APP),
}
classes = pytest.mark.parametrize("name", CLASSES)


@classes
def test_request_in_progress_in_a_killed_worker_is_logged_and_counted(serve: Serve, name: str) -> None:
    """The request in progress in a killed worker is named in the log, and counted."""
    config, app = CLASSES[name]
    server = serve(config + "workers = 2\n", app=app)
    server.wait_for_workers(2)
    path = "/block" if name == "tornado" else "/hang"
    with hanging(server, path):
        _, pid = busy_worker(server)
        os.kill(pid, signal.SIGKILL)
        samples = page_with_exits(server, {("signal", "SIGKILL"): 1})
    assert killed(samples) == {("GET", path, "signal"): 1}
    [(_, how, what)] = exit_lines(server, 1)
    assert how == "signal (SIGKILL)"
    assert what.startswith(f"GET {path} (")


@classes
def test_blocked_loop_is_a_timeout_exit_with_its_request_counted(serve: Serve, name: str) -> None:
    """A loop that is blocked for 3 seconds is a timeout, with the request that blocked it."""
    config, app = CLASSES[name]
    server = serve(config + "workers = 2\ntimeout = 3\n", app=app)
    server.wait_for_workers(2)
    # gunicorn ends none that it has never heard of: tornado's first heartbeat is a second late.
    eventually(lambda: len(server.scrape().all("gunicorn_worker_heartbeat_age_seconds")) == 2, "heartbeats")
    with hanging(server, "/block"):
        busy_worker(server)
        samples = server.settled(1, "gunicorn_killed_requests_total")
    assert [reason for reason, _ in exits(samples)] == ["timeout"]  # of SIGABRT, or of the SIGKILL that follows
    assert killed(samples) == {("GET", "/block", "timeout"): 1}


@classes
def test_hup_ttin_and_ttou_kill_no_worker_and_no_request(serve: Serve, name: str) -> None:
    """HUP, TTIN and TTOU kill no worker and no request."""
    config, app = CLASSES[name]
    server = serve(config + "workers = 1\n", app=app)
    server.wait_for_workers(1)
    server.signal(signal.SIGTTIN)
    server.wait_for_workers(2)
    server.signal(signal.SIGTTOU)
    page_with_exits(server, {("scale_down", "0"): 1})
    server.signal(signal.SIGHUP)
    samples = page_with_exits(server, {("scale_down", "0"): 1, ("reload", "0"): 1})
    assert killed(samples) == {}
    assert exit_lines(server, 0) == []


@pytest.mark.parametrize("name", ["asgi", "uvicorn"])
def test_max_requests_replaces_workers_and_counts_every_request(serve: Serve, name: str) -> None:
    """A worker that has served its share is replaced, and every request of every generation counted."""
    config, app = CLASSES[name]
    server = serve(config + "workers = 1\nmax_requests = 3\n", app=app)
    count = 1
    while server.scrape().sum("gunicorn_worker_exits_total") < 2:
        eventually(lambda: server.get("/items/7").status_code == 200, "it is served")
        count += 1
    samples = server.settled(count)
    assert set(exits(samples)) == {("max_requests", "0")}
    assert samples.sum("gunicorn_requests_total") == count


def test_sigquit_to_an_asgi_worker_is_a_signal_exit_with_a_killed_request(serve: Serve) -> None:
    """SIGQUIT to one asgi worker is a signal; the request that it cut off is killed."""
    config, app = CLASSES["asgi"]
    server = serve(config + "workers = 2\n", app=app)
    server.wait_for_workers(2)
    with hanging(server, "/hang"):
        _, pid = busy_worker(server)
        os.kill(pid, signal.SIGQUIT)
        samples = page_with_exits(server, {("signal", "SIGQUIT"): 1})
    assert killed(samples) == {("GET", "/hang", "signal"): 1}
