"""From the trouble to the webhook: each alert of the sample rules reaches a real Alertmanager's webhook."""

from __future__ import annotations

import os
import re
import signal
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event, Thread

import pytest
import requests

from tests.helpers.alertmanager import alertmanager
from tests.helpers.blocking_apps import ASGI, LOOPS, blocked, connected, get
from tests.helpers.places import APPLICATIONS, repository
from tests.helpers.prometheus import RULES, Labels, Prometheus, prometheus, shortened_rules
from tests.helpers.servers import Server, eventually
from tests.helpers.worker_exits import busy_worker, hanging
from tests.integration.conftest import CONFIG

pytestmark = [pytest.mark.slow, pytest.mark.needs("prometheus", "prometheus-alertmanager")]

WINDOW_SECONDS = 15
"""The window of the rules, which the sample file has in minutes, hours and days."""
HEALTHY, LOADED = "healthy", "loaded"
ONCE, FULL, QUEUE, LOOP, CRASHING, SICK, DOWN = "once", "full", "queue", "loop", "crashing", "sick", "down"
TROUBLES = APPLICATIONS / "troubles.py"
THREADS = "worker_class = 'gthread'\nthreads = 2\n"
FAILING_COLLECTOR = """
import os
from gunicorn_prom_hooks.collectors import registry
inner = registry.all_collectors

def all_collectors(*arguments):
    def collect_or_fail(name, collect):
        def run(snapshot):
            if name == "backlog" and os.path.exists("fail"):
                raise ValueError("fail")
            return collect(snapshot)
        return name, run
    return tuple(collect_or_fail(*one) for one in inner(*arguments))

registry.all_collectors = all_collectors
"""
"""A config in which a collector fails while the file ``fail`` is there."""
NEVER_BOOTS = "import sys, time\ntime.sleep(0.3)\nsys.exit(9)\n"
SERVERS: Mapping[str, tuple[str, Path]] = {
    HEALTHY: (THREADS, TROUBLES),
    LOADED: (LOOPS["uvicorn"][1], APPLICATIONS / "default_asgi.py"),
    ONCE: (LOOPS["uvicorn"][1], APPLICATIONS / "default_asgi.py"),
    FULL: (THREADS + "timeout = 8\n", TROUBLES),
    QUEUE: ("backlog = 2\ntimeout = 120\n", TROUBLES),
    LOOP: (LOOPS["uvicorn"][1] + "timeout = 120\n", ASGI),
    CRASHING: ("", TROUBLES),
    SICK: (THREADS + FAILING_COLLECTOR, TROUBLES),
    DOWN: ("", TROUBLES),
}
EXPECTED: tuple[tuple[str, str, str, Labels], ...] = (
    ("GunicornRequestFailed", ONCE, "info", {"method": "GET", "endpoint": "/boom", "error_type": "ValueError"}),
    ("GunicornErrorBudgetBurnsFast", ONCE, "critical", {}),
    ("GunicornErrorBudgetBurnsSlowly", ONCE, "warning", {}),
    ("GunicornLatencyObjectiveMissed", ONCE, "warning", {}),
    ("GunicornClientDisconnect", ONCE, "info", {"method": "GET", "endpoint": "/sleep/:id"}),
    ("GunicornInvalidRequest", ONCE, "info", {"error_type": "InvalidRequest"}),
    ("GunicornRequestKilled", ONCE, "warning", {"method": "GET", "endpoint": "/sleep/:id", "reason": "signal"}),
    ("GunicornWorkerExit", ONCE, "warning", {"reason": "signal", "detail": "SIGKILL"}),
    ("GunicornConnectionsWaiting", FULL, "warning", {}),
    ("GunicornBacklogGrowing", FULL, "critical", {}),
    ("GunicornBacklogFull", QUEUE, "critical", {"listener": ""}),
    ("GunicornThreadsBusy", FULL, "warning", {}),
    ("GunicornOldRequest", FULL, "warning", {"worker_id": "worker_0"}),
    ("GunicornEventLoopBlocked", LOOP, "warning", {"worker_id": "worker_0"}),
    ("GunicornEventLoopLag", LOOP, "warning", {"worker_id": "worker_0"}),
    ("GunicornReloadFailed", CRASHING, "critical", {}),
    ("GunicornWorkerExit", CRASHING, "warning", {"reason": "boot", "detail": "9"}),
    ("GunicornWorkerExits", CRASHING, "critical", {}),
    ("GunicornCrashLoop", CRASHING, "critical", {"reason": "boot"}),
    ("GunicornNoWorkersReady", CRASHING, "critical", {}),
    ("GunicornWorkersMissing", CRASHING, "critical", {}),
    ("GunicornMemoryGrowing", SICK, "warning", {"worker_id": "worker_0"}),
    ("GunicornExporterErrors", SICK, "warning", {"where": "collector_backlog"}),
    ("GunicornCollectorFails", SICK, "warning", {"collector": "backlog"}),
    ("GunicornServerRestarts", DOWN, "critical", {}),
    ("GunicornTargetDown", DOWN, "critical", {}),
)
"""Name, server, severity and further labels of each alert that arrives."""
NAMED_ENDPOINTS = {
    "GunicornErrorBudgetBurnsFast": "Most of the failures are of GET /boom.",
    "GunicornErrorBudgetBurnsSlowly": "Most of the failures are of GET /boom.",
    "GunicornLatencyObjectiveMissed": "The slowest endpoint is GET /sleep/:id.",
}
"""What the descriptions of alerts without the label ``endpoint`` say."""


@contextmanager
def loaded(server: Server, path: str = "/") -> Iterator[None]:
    """Send one request after the other until the end of the block."""
    ended = Event()

    def send() -> None:
        with requests.Session() as session:
            while not ended.wait(0.01):
                session.get(f"http://127.0.0.1:{server.port}{path}", timeout=20)

    thread = Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def rules() -> str:
    """Return the sample rules with short windows. In these, memory has to grow faster: a new worker always does."""
    text = shortened_rules(WINDOW_SECONDS, hold=2)
    assert "> 10000\n" in text
    return text.replace("> 10000\n", "> 200000\n")


def restart(server: Server, monitor: Prometheus, times: int) -> None:
    """Restart the server this many times. Prometheus scrapes each start."""

    for _ in range(times):
        before = monitor.ask("process_start_time_seconds")[DOWN]
        server.stop()
        server.start()
        later = f"process_start_time_seconds > {before}"
        eventually(lambda later=later: DOWN in monitor.ask(later), "Prometheus has scraped the new master")  # type: ignore[misc]


def make_single_events(server: Server) -> None:
    """Make failures, slow requests, a malformed request, a client disconnect, and a worker exit during a request."""
    for _ in range(3):
        assert server.get("/boom").status_code == 500
    server.send(b"NONSENSE\r\n\r\n")
    with hanging(server, *["/sleep/1"] * 5):
        eventually(lambda: server.scrape().sum("gunicorn_requests_total", endpoint="/sleep/:id") == 5, "slow requests")
    with connected(socket.AF_INET, ("127.0.0.1", server.port), get("/sleep/7")):
        busy_worker(server)
    eventually(lambda: server.scrape().sum("gunicorn_requests_total", status="499") == 1, "a disconnect")
    with hanging(server, "/sleep/60"):
        _, pid = busy_worker(server)
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: server.scrape().sum("gunicorn_killed_requests_total") == 1, "a killed request")


def test_alert_of_each_trouble_arrives_at_the_webhook_and_none_of_a_healthy_loaded_server(tmp_path: Path) -> None:
    """Each alert of the rules arrives with exactly its labels, from a gunicorn that is in that trouble."""
    assert {alert for alert, *_ in EXPECTED} == set(re.findall(r"- alert: (\w+)", RULES.read_text()))
    config = CONFIG.replace("METRICS_PORT)", "METRICS_PORT, worker_label='slot')") + "graceful_timeout = 1\n"
    servers = {
        name: Server(tmp_path / name, app=app, config=f"{config}proc_name = 'shop {name}'\n{more}")
        for name, (more, app) in SERVERS.items()
    }
    with ExitStack() as stack:
        for server in servers.values():
            stack.push(server)
            server.start()
        for name, server in servers.items():
            eventually(lambda server=server: server.get("/").status_code, f"{name} answers")  # type: ignore[misc]
        receiver = stack.enter_context(alertmanager(tmp_path / "alertmanager"))
        monitor = stack.enter_context(
            prometheus(tmp_path / "prometheus", servers, rules=rules(), alertmanager=receiver.address)
        )
        for name in (HEALTHY, LOADED):
            stack.enter_context(loaded(servers[name]))
        monitor.wait_for_sums()
        assert receiver.received == []

        (servers[SICK].folder / "fail").touch()
        stack.enter_context(loaded(servers[SICK], "/leak"))
        full = "127.0.0.1", servers[FULL].port
        stack.enter_context(blocked(servers[FULL], socket.AF_INET, full, 2))
        stack.enter_context(connected(socket.AF_INET, full, *[get()] * 5))
        queue = "127.0.0.1", servers[QUEUE].port
        stack.enter_context(blocked(servers[QUEUE], socket.AF_INET, queue))
        stack.enter_context(connected(socket.AF_INET, queue, *[get()] * 3))
        stack.enter_context(blocked(servers[LOOP], socket.AF_INET, ("127.0.0.1", servers[LOOP].port)))
        servers[CRASHING].write_application(NEVER_BOOTS)
        servers[CRASHING].signal(signal.SIGHUP)
        make_single_events(servers[ONCE])
        restart(servers[DOWN], monitor, 3)
        servers[DOWN].stop()

        for alert, name, severity, more in EXPECTED:
            instance = f"127.0.0.1:{servers[name].metrics_port}"
            labels = {"alertname": alert, "app": f"shop {name}", "job": "gunicorn", "instance": instance, **more}
            labels["severity"] = severity
            if "listener" in more:
                labels["listener"] = f"http://127.0.0.1:{servers[name].port}"

            def arrives(labels: Labels = labels) -> Labels | None:
                found = receiver.find(labels)
                assert found, sorted({tuple(sorted(has.items())) for has, _ in receiver.received})
                return found

            says = eventually(arrives, f"{labels} arrives")
            assert f"shop {name} at {instance} of job gunicorn" in says["description"]
            assert NAMED_ENDPOINTS.get(alert, "") in says["description"]
            assert says["runbook_url"].startswith(f"{repository()}/blob/main/docs/operations.md#")
        assert {has["app"] for has, _ in receiver.received}.isdisjoint({f"shop {HEALTHY}", f"shop {LOADED}"})
