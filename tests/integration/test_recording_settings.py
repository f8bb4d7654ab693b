"""Settings that change what is recorded and how it is exposed, in real servers of every class."""

from __future__ import annotations

import contextlib
import re
import signal
import time
from pathlib import Path

import pytest
import requests
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from tests.helpers.blocking_apps import UVICORN
from tests.helpers.places import APPLICATIONS
from tests.helpers.servers import Samples, Server, eventually
from tests.integration.conftest import APP, Serve

INSTALL = """
from gunicorn_prom_hooks import install
bind = "127.0.0.1:PORT"
control_socket_disable = True
install(globals(), port=METRICS_PORT, {settings})
"""
ASGI = APPLICATIONS / "default_asgi.py"
CLASSES = {
    "sync": ("", APP),
    "gthread": ("worker_class = 'gthread'\nthreads = 3\n", APP),
    "gevent": ("worker_class = 'gevent'\n", APP),
    "gevent_pywsgi": ("worker_class = 'gevent_pywsgi'\n", APP),
    "tornado": ("worker_class = 'tornado'\n", APP),
    "tornado application": ("worker_class = 'tornado'\n", APPLICATIONS / "state_tornado.py"),
    "asgi": ("worker_class = 'asgi'\n", ASGI),
    "uvicorn": (f"worker_class = '{UVICORN}'\n", ASGI),
}
"""Configuration and application."""


def configured(server: Serve, settings: str, more: str = "", app: Path = APP) -> Server:
    """Return a server with these settings."""
    return server(more, app=app, config=INSTALL.format(settings=settings))


def ask(server: Server, path: str) -> None:
    """Send a request, and wait a second for its response if there is one: Tornado sends none after an exception."""
    with contextlib.suppress(requests.RequestException):
        requests.get(f"http://127.0.0.1:{server.port}{path}", timeout=1)


def reload(server: Server, settings: str) -> None:
    """Reload the server with these settings, and wait until only its new worker is there."""
    reloads = server.scrape().one("gunicorn_reloads_total") + 1
    server.configure(INSTALL.format(settings=settings) + "workers = 1\n")
    server.signal(signal.SIGHUP)

    def is_done() -> bool:
        found = server.scrape()
        states = {labels["state"]: value for labels, value in found.all("gunicorn_workers")}
        is_one = states == {"booting": 0, "running": 1, "stopping": 0}
        return is_one and found.one("gunicorn_reloads_total") == reloads

    eventually(is_done, "the new worker")


def endpoints(samples: Samples, name: str) -> set[str]:
    """Return the endpoints of a family's series that are not zero."""
    return {labels["endpoint"] for labels, value in samples.all(name) if value}


@pytest.mark.parametrize("name", CLASSES)
def test_requests_for_excluded_paths_are_counted_nowhere(serve: Serve, name: str) -> None:
    """Neither their number, failures, durations nor error handling, and all other requests are counted."""
    more, app = CLASSES[name]
    server = configured(serve, "exclude=('/boom*', '/health', '/never/*')", "workers = 1\n" + more, app)
    for _ in range(3):
        for path in ("/health", "/boom", "/", "/healthy"):
            ask(server, path)
    found = server.settled(7)
    excluded = {"/health", "/boom"}
    assert not endpoints(found, "gunicorn_requests_total") & excluded
    assert found.sum("gunicorn_requests_total") == 7
    assert found.sum("gunicorn_request_duration_seconds_count") == 7
    assert found.sum("gunicorn_worker_requests_total") == 7
    assert found.sum("gunicorn_failed_requests_total") == 0
    assert found.sum("gunicorn_worker_error_handling_total") == 0
    assert found.sum("gunicorn_requests_in_progress") == 0
    assert found.sum("gunicorn_exporter_errors_total") == 0


@pytest.mark.parametrize("name", ["sync", "gthread", "gevent", "gevent_pywsgi", "asgi", "uvicorn"])
def test_excluded_request_in_progress_is_in_no_table_and_no_exit(serve: Serve, name: str) -> None:
    """It is not in progress, and not killed when its worker exits; a malformed request counts as before."""
    more, app = CLASSES[name]
    server = configured(serve, "exclude=['/hang', '/bad*']", "workers = 1\ntimeout = 60\n" + more, app)
    [worker] = server.workers()
    ask(server, "/hang")
    assert server.scrape().one("gunicorn_requests_in_progress") == 0
    worker.send_signal(signal.SIGKILL)
    found = server.settled(1, "gunicorn_worker_exits_total")
    assert found.sum("gunicorn_killed_requests_total") == 0
    if name in ("sync", "gthread", "gevent"):
        server.send(b"GET /bad HTTP/1.1\r\nTransfer-Encoding: nonsense\r\n\r\n")
        assert server.settled(1, "gunicorn_invalid_requests_total")


def test_websocket_of_an_excluded_path_is_not_counted(serve: Serve) -> None:
    """It is opened, and neither opened nor open websockets count it."""
    pytest.importorskip("websockets")
    from websockets.sync.client import connect

    server = configured(serve, "exclude=['/private']", "workers = 1\nworker_class = 'asgi'\n", ASGI)
    with connect(f"ws://127.0.0.1:{server.port}/private"), connect(f"ws://127.0.0.1:{server.port}/public"):
        found = server.settled(1, "gunicorn_websockets_total")
        assert endpoints(found, "gunicorn_websockets_total") == {"/public"}
        assert found.sum("gunicorn_websockets_in_progress") == 1


def test_buckets_of_the_setting_are_published_and_those_of_workers_stay(serve: Serve) -> None:
    """Requests and queue times have the setting's bounds, and the per-worker histogram its own."""
    server = configured(serve, "duration_buckets=(0.2, 2, 20), size_histograms=False", "workers = 1\n")
    for path in ("/sleep/0.3", "/sleep/2.1"):
        server.get(path)
    found = server.settled(3)
    bounds = {labels["le"] for labels, _ in found.all("gunicorn_request_duration_seconds_bucket")}
    assert bounds == {"0.2", "2.0", "20.0", "+Inf"}
    durations = {le: found.sum("gunicorn_request_duration_seconds_bucket", le=le) for le in bounds}
    assert durations == {"0.2": 1.0, "2.0": 2.0, "20.0": 3.0, "+Inf": 3.0}
    own = {labels["le"]: value for labels, value in found.all("gunicorn_worker_request_duration_seconds_bucket")}
    assert own == {
        **{"0.1": 1.0, "0.5": own["0.5"], "1.0": 2.0, "2.5": own["2.5"], "5.0": 3.0},
        **{"10.0": 3.0, "30.0": 3.0, "60.0": 3.0, "+Inf": 3.0},
    }
    assert "size_bytes" not in server.page().text
    server.get("/", headers={"X-Request-Start": f"t={time.time():.3f}"})
    queue = server.settled(4).all("gunicorn_request_queue_seconds_bucket")
    assert {labels["le"] for labels, _ in queue} == bounds


def test_reload_applies_settings_except_those_read_at_startup(serve: Serve) -> None:
    """Labels and excluded paths change with a HUP; buckets stay, no counter falls, and one line says so."""
    server = configured(serve, "labels={'team': 'a'}", "workers = 1\n")
    server.get("/health")
    before = server.settled(2)
    assert {labels["team"] for labels, _ in before.all("gunicorn_requests_total")} == {"a"}
    changed = "labels={'team': 'b', 'zone': 'z'}, exclude='/health', duration_buckets=[1], created_timestamps=True"
    reload(server, changed)
    server.get("/health")
    server.get("/")
    after = server.settled(3)
    assert {(labels["team"], labels["zone"]) for labels, _ in after.all("gunicorn_requests_total")} == {("b", "z")}
    assert after.sum("gunicorn_requests_total") == 3
    bounds = {labels["le"] for labels, _ in after.all("gunicorn_request_duration_seconds_bucket")}
    assert len(bounds) == 19
    assert server.log.count("setting duration_buckets is read at startup only: not changed") == 1


def test_labels_are_on_the_applications_own_series_too(serve: Serve) -> None:
    """Every sample of the page has them, in both formats."""
    server = configured(serve, "labels={'team': 'a'}", app=APPLICATIONS / "shop.py")
    server.get("/")
    lines = [line for line in server.page().text.splitlines() if not line.startswith("#")]
    assert any(line.startswith("orders") or line.startswith("shop") for line in lines)
    assert [line for line in lines if 'team="a"' not in line] == []


def test_created_samples_are_in_the_openmetrics_format_only(serve: Serve) -> None:
    """A series' time is that of its first request; the plain format, in which they would be series, has none."""
    server = configured(serve, "created_timestamps=True", "workers = 2\n")
    server.get("/first")
    server.settled(2)
    server.get("/second")
    server.settled(3)
    assert "_created" not in server.page().text
    text = server.page(headers={"Accept": "application/openmetrics-text;version=1.0.0"}).text
    times = {
        sample.labels.get("endpoint"): sample.value
        for family in text_string_to_metric_families(text)  # type: ignore[no-untyped-call]
        for sample in family.samples
        if sample.name == "gunicorn_requests_created"
    }
    assert times["<other>"] < times["/first"] < times["/second"]
    again = server.page(headers={"Accept": "application/openmetrics-text;version=1.0.0"}).text
    wanted = re.compile(r"^gunicorn_requests_created.*", re.MULTILINE)
    assert wanted.findall(again) == wanted.findall(text)


def test_workers_that_share_a_slot_label_make_no_new_series(serve: Serve) -> None:
    """Over many workers in one slot, no family has more series than one worker has; the PID is a value."""
    server = configured(serve, "worker_label='slot'", "workers = 1\nmax_requests = 5\n")
    series: set[str] = set()
    for generation in range(5):
        for _ in range(5):
            server.get("/")
        exits = generation + 1
        eventually(lambda exits=exits: server.scrape().sum("gunicorn_worker_exits_total") >= exits, "an exit")  # type: ignore[misc]
        eventually(lambda: server.scrape().sum("gunicorn_workers", state="running") == 1, "the next worker")
        lines = server.page().text.splitlines()
        series |= {line.rpartition(" ")[0] for line in lines if 'worker_id="' in line and "_bucket" not in line}
    per_family: dict[str, int] = {}
    for name in series:
        family = name.partition("{")[0]
        per_family[family] = per_family.get(family, 0) + 1
    assert per_family.pop("gunicorn_worker_state") <= 3
    assert per_family.pop("gunicorn_worker_state_timestamp_seconds") <= 3
    assert per_family.pop("gunicorn_worker_cpu_seconds_total") == 2
    assert set(per_family.values()) == {1}
    [worker] = server.workers()
    assert server.scrape().one("gunicorn_worker_pid") == worker.pid
    times = server.scrape().all("gunicorn_worker_state_timestamp_seconds", state="running")
    assert [labels["worker_id"] for labels, _ in times] == ["worker_0"]
    states = server.scrape().all("gunicorn_worker_state")
    assert {labels["timestamp"] for labels, _ in states} <= {""}
    assert [labels["state"] for labels, value in states if value] == ["running"]


REWRITES = """
def pre_request(worker, req):
    if req.path.startswith(BEFORE):
        req.path = AFTER + req.path[len(BEFORE):]
"""
"""A hook of the user that changes the path, before gunicorn makes the environ of it."""


@pytest.mark.parametrize("name", ["sync", "gthread", "gevent"])
@pytest.mark.parametrize(
    ("before", "after", "excluded"), [("/old/", "/", "/old/*"), ("/app/health", "/health", "/health")]
)
def test_path_that_the_users_hook_changes_is_decided_once(
    serve: Serve, name: str, before: str, after: str, excluded: str
) -> None:
    """A request is left out, or recorded from its start to its end, by the path with which it came."""
    hook = REWRITES.replace("BEFORE", repr(before)).replace("AFTER", repr(after))
    settings = f"exclude={[excluded]!r}"
    server = serve(CLASSES[name][0] + "workers = 1\n", config=hook + INSTALL.format(settings=settings))
    for _ in range(5):
        server.get(before)
    server.get("/")
    counted = 2 if before == "/old/" else 7
    found = server.settled(counted)
    assert found.sum("gunicorn_requests_total") == counted
    assert found.sum("gunicorn_request_duration_seconds_sum") < 5.0
    assert found.sum("gunicorn_worker_busy_seconds_total") < 5.0
    assert found.one("gunicorn_requests_in_progress") == 0
    assert found.sum("gunicorn_exporter_errors_total") == 0


@pytest.mark.parametrize("name", ["sync", "gthread", "gevent"])
def test_tls_error_of_the_application_at_an_excluded_path_is_no_malformed_request(serve: Serve, name: str) -> None:
    """gunicorn takes it for the client's, and answers; it is counted nowhere."""
    app = APPLICATIONS / "tls_error.py"
    server = configured(serve, "exclude='/upstream'", CLASSES[name][0] + "workers = 1\n", app)
    for _ in range(3):
        ask(server, "/upstream")
        ask(server, "/")
    found = server.settled(4)
    assert found.sum("gunicorn_requests_total") == 4
    assert found.sum("gunicorn_invalid_requests_total") == 0
    assert found.sum("gunicorn_worker_error_handling_total") == 0


def test_sizes_of_requests_that_were_not_counted_are_not_in_the_sum(serve: Serve) -> None:
    """With size_histograms on, off and on again, sum and number are of the same requests."""
    server = configured(serve, "size_histograms=True", "workers = 1\n")
    for is_on, bodies in ((True, 1), (False, 5), (True, 2)):
        reload(server, f"size_histograms={is_on}")
        for _ in range(bodies):
            server.post("/read", b"x" * 1000)
    found = server.settled(9)
    assert found.sum("gunicorn_request_size_bytes_sum", endpoint="/read") == 3000
    assert found.sum("gunicorn_request_size_bytes_count", endpoint="/read") == 3


def test_asgi_application_that_changes_its_path_into_an_excluded_one_changes_nothing(serve: Serve) -> None:
    """Requests that come with the excluded path stay uncounted, also after one that was given this path."""
    server = configured(
        serve, "exclude='/health'", "workers = 1\nworker_class = 'asgi'\n", APPLICATIONS / "asgi_strip.py"
    )
    for path in ("/health", "/strip/health", "/health", "/strip/health", "/health", "/"):
        server.get(path)
    assert server.settled(4).sum("gunicorn_requests_total") == 4


def test_excluded_path_matches_without_the_root_path_of_uvicorn(serve: Serve) -> None:
    """uvicorn puts the root path in front of what the client has sent."""
    worker = "from uvicorn_worker import UvicornWorker\n"
    worker += "class Rooted(UvicornWorker):\n    CONFIG_KWARGS = {'root_path': '/api'}\n"
    server = serve(
        "workers = 1\nworker_class = Rooted\n", app=ASGI, config=worker + INSTALL.format(settings="exclude='/health'")
    )
    for path in ("/health", "/health", "/x"):
        server.get(path)
    assert server.settled(2).sum("gunicorn_requests_total") == 2


def test_startup_settings_are_compared_with_those_in_effect(serve: Serve) -> None:
    """Each reload with another value logs so, and one with the value in effect does not."""
    server = configured(serve, "duration_buckets=[1]", "workers = 1\n")
    line = "setting duration_buckets is read at startup only"
    for value, lines in (([1], 0), ([2], 1), ([2], 2), ([1], 2)):
        reload(server, f"duration_buckets={value}")
        assert server.log.count(line) == lines


def test_odd_value_at_a_reload_keeps_the_server_and_its_settings(serve: Serve) -> None:
    """A number too large for a float is refused in one line, at a reload too."""
    server = configured(serve, "duration_buckets=[1]", "workers = 1\n")
    server.configure(INSTALL.format(settings="duration_buckets=[10**400]") + "workers = 1\n")
    server.signal(signal.SIGHUP)
    eventually(lambda: "the previous settings stay" in server.log, "the line")
    assert server.get("/").status_code == 200
    assert {labels["le"] for labels, _ in server.settled(2).all("gunicorn_request_duration_seconds_bucket")} == {
        "1.0",
        "+Inf",
    }
