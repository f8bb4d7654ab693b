"""Whether the server is full: what is in progress, what could be, what waits and for how long."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable

import pytest
import requests

from tests.helpers.blocking_apps import ASGI, UVICORN, WSGI
from tests.helpers.places import APPLICATIONS
from tests.helpers.servers import Samples, Server, eventually
from tests.helpers.worker_exits import hanging
from tests.integration.conftest import CONFIG, Serve

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of accept queues")


def when(server: Server, condition: Callable[[Samples], bool], what: str) -> Samples:
    """The first scrape of which the condition holds."""

    def probe() -> Samples | None:
        samples = server.scrape()
        return samples if condition(samples) else None

    return eventually(probe, what)


@on_linux
@pytest.mark.parametrize("unix", [False, True])
def test_full_server_shows_capacity_backlog_and_growing_request_ages(serve: Serve, unix: bool) -> None:
    """Two sync workers hang at requests, five more connect: all of it is in one scrape, and the oldest gets older."""
    server = serve("workers = 2\nbacklog = 64\nbind = ['127.0.0.1:PORT', 'unix:sock']\n")
    server.wait_for_workers(2)
    path = str(server.folder / "sock") if unix else ""
    full_listener = "unix:sock" if unix else f"http://127.0.0.1:{server.port}"
    with hanging(server, "/hang", "/hang", unix=path):
        when(server, lambda samples: samples.one("gunicorn_requests_in_progress") == 2, "both workers are busy")
        with hanging(server, *["/"] * 5, unix=path):
            samples = when(
                server, lambda samples: samples.one("gunicorn_listener_backlog", listener=full_listener) == 5, "5 wait"
            )
            assert samples.one("gunicorn_requests_in_progress") == 2
            assert samples.one("gunicorn_requests_capacity") == 2
            assert samples.sum("gunicorn_listener_backlog") == 5
            limits = {labels["listener"]: value for labels, value in samples.all("gunicorn_listener_backlog_limit")}
            assert limits == dict.fromkeys(("unix:sock", f"http://127.0.0.1:{server.port}"), 64.0)
            oldest = [value for _, value in samples.all("gunicorn_worker_oldest_request_seconds")]
            busy = [value for _, value in samples.all("gunicorn_worker_busy_seconds_total")]
            assert min(oldest) > 0
            assert [value for _, value in samples.all("gunicorn_worker_requests_in_progress")] == [1, 1]
            later = server.scrape()
            assert all(
                now > then
                for now, then in zip(
                    [value for _, value in later.all("gunicorn_worker_oldest_request_seconds")], oldest, strict=True
                )
            )
            assert all(
                now > then
                for now, then in zip(
                    [value for _, value in later.all("gunicorn_worker_busy_seconds_total")], busy, strict=True
                )
            )


@pytest.mark.parametrize(
    ("worker", "capacity"),
    [
        ("", 2),
        ("worker_class = 'gthread'\nthreads = 3\n", 6),
        ("worker_class = 'gevent'\nworker_connections = 50\n", 100),
        ("worker_class = 'gevent_pywsgi'\nworker_connections = 50\n", 100),
    ],
)
def test_capacity_is_the_sum_of_threads_or_connections_of_all_workers(serve: Serve, worker: str, capacity: int) -> None:
    """Capacity is what all live workers can serve at a time: threads, or connections of an event loop."""
    server = serve("workers = 2\n" + worker)
    samples = server.wait_for_workers(2)
    assert samples.one("gunicorn_requests_capacity") == capacity
    assert [value for _, value in samples.all("gunicorn_worker_threads")] == [capacity / 2] * 2


LIMITED = """
from uvicorn_worker import UvicornWorker

class Limited(UvicornWorker):
    CONFIG_KWARGS = {**UvicornWorker.CONFIG_KWARGS, "limit_concurrency": 7}
"""


def test_capacity_of_uvicorn_is_its_limit_concurrency(serve: Serve) -> None:
    """What limits uvicorn's workers is the setting of uvicorn's for it."""
    server = serve("workers = 2\nworker_class = Limited\n", app=ASGI, config=LIMITED + CONFIG)
    samples = server.wait_for_workers(2)
    assert samples.one("gunicorn_requests_capacity") == 14
    assert [value for _, value in samples.all("gunicorn_worker_threads")] == [7, 7]


@pytest.mark.parametrize("worker", ["asgi", UVICORN, "tornado"])
def test_workers_without_a_limit_have_no_capacity(serve: Serve, worker: str) -> None:
    """Where nothing limits the requests at a time there is no capacity, and no infinite one."""
    config = f"workers = 2\nworker_class = {worker!r}\nworker_connections = 50\n"
    server = serve(config, app=WSGI if worker == "tornado" else ASGI)
    samples = server.wait_for_workers(2)
    assert samples.all("gunicorn_requests_capacity") == samples.all("gunicorn_worker_threads") == []
    assert not [key for key, value in samples.values.items() if value == float("inf")]
    found = requests.get(f"http://127.0.0.1:{server.metrics_port}/status.json", timeout=10).json()
    assert (found["load"]["in_progress"], found["load"]["capacity"]) == (0, None)
    assert [row["capacity"] for row in found["workers"]["rows"]] == [None, None]


@on_linux
def test_ipv6_listener_has_a_backlog(serve: Serve) -> None:
    """An IPv6 listener has its queue too."""
    server = serve("bind = ['127.0.0.1:PORT', '[::1]:PORT']\n")
    names = {f"http://127.0.0.1:{server.port}", f"http://[::1]:{server.port}"}
    assert {labels["listener"] for labels, _ in server.scrape().all("gunicorn_listener_backlog")} == names


@pytest.mark.parametrize("worker", ["", "worker_class = 'gthread'\nthreads = 2\n", "worker_class = 'gevent'\n"])
def test_queue_time_is_read_from_the_proxy_header_in_any_unit(serve: Serve, worker: str) -> None:
    """The proxy's header, in any of its units, gives the time that a request waited; nonsense gives none."""
    server = serve(worker)
    now = time.time()
    sent = now - 2
    for value in (f"t={sent:.3f}", f"{sent * 1e3:.0f}", f"t={sent * 1e6:.0f}", f"{now + 50}", "x", "", "7"):
        server.get("/", headers={"X-Request-Start": value})
    samples = server.settled(8)
    assert samples.one("gunicorn_request_queue_seconds_count") == 4
    assert samples.one("gunicorn_request_queue_seconds_bucket", le="1.0") == 1
    assert samples.one("gunicorn_request_queue_seconds_bucket", le="10.0") == 4
    assert 6 <= samples.one("gunicorn_request_queue_seconds_sum") < 20
    assert samples.sum("gunicorn_exporter_errors_total") == 0


def test_queue_header_setting_replaces_the_default_header(serve: Serve) -> None:
    """The setting names another header; then the usual one is nothing."""
    server = serve("install(globals(), port=METRICS_PORT, queue_header='X-Queue-Start')\n")
    for header in ("X-Request-Start", "X-Queue-Start"):
        server.get("/", headers={header: f"t={time.time()}"})
    assert server.settled(3).one("gunicorn_request_queue_seconds_count") == 1


@pytest.mark.parametrize("level", ["debug", "info", "error"])
def test_log_messages_except_debug_are_counted_at_any_log_level(serve: Serve, level: str) -> None:
    """Messages are counted over master and workers, and the log level hides none but those of debug."""
    app = APPLICATIONS / "logging_critical.py"
    server = serve(f"workers = 2\nloglevel = {level!r}\n", app=app)
    before = server.wait_for_workers(2)
    server.get("/log")
    for _ in range(3):
        server.get("/boom")
    server.send(b"NONSENSE\r\n\r\n")
    after = server.settled(1, "gunicorn_invalid_requests_total")
    moved = {
        labels["level"]: value - before.one("gunicorn_log_messages_total", **labels)
        for labels, value in after.all("gunicorn_log_messages_total")
    }
    assert {name: moved[name] for name in ("critical", "error", "warning")} == {
        "critical": 1,
        "error": 3,
        "warning": 1,
    }
    assert after.one("gunicorn_log_messages_total", level="info") >= 4  # listening, using, and two booting
    assert (after.one("gunicorn_log_messages_total", level="debug") > 0) == (level == "debug")


def test_log_messages_of_a_forked_child_are_not_counted(serve: Serve) -> None:
    """What a process forked by the application logs is not counted in its worker's slot."""
    app = APPLICATIONS / "logging_in_child.py"
    server = serve(app=app)
    server.get("/fork")
    server.settled(2)
    assert "from a child" in server.log
    assert server.scrape().one("gunicorn_log_messages_total", level="critical") == 0


def test_boot_and_lifetime_durations_of_workers_are_recorded(serve: Serve) -> None:
    """Boots take the time that the application takes to load; lifetimes end with their workers."""
    server = serve(
        "workers = 1\n",
        app=APPLICATIONS / "slow_to_load.py",
    )
    server.wait_for_workers(1)
    server.workers()[0].kill()
    samples = when(
        server, lambda samples: samples.one("gunicorn_worker_boot_seconds_count") == 2, "the successor has booted"
    )
    assert 0.6 <= samples.one("gunicorn_worker_boot_seconds_sum") < 10
    assert samples.one("gunicorn_worker_boot_seconds_bucket", le="0.25") == 0
    assert samples.one("gunicorn_worker_lifetime_seconds_count") == 1
    assert 0.3 <= samples.one("gunicorn_worker_lifetime_seconds_sum") < 60


def test_worker_is_booting_until_the_application_is_loaded(serve: Serve) -> None:
    """A worker that takes long to load is booting, and running when it has."""
    app = APPLICATIONS / "waiting_to_boot.py"
    server = serve("workers = 1\n", app=app)
    (server.folder / "wait").touch()
    server.signal(signal.SIGTTIN)
    when(server, lambda samples: samples.one("gunicorn_workers", state="booting") == 1, "it is booting")
    (server.folder / "wait").unlink()
    assert server.wait_for_workers(2).one("gunicorn_workers", state="booting") == 0
    assert requests.get(f"http://127.0.0.1:{server.port}/", timeout=10).ok
