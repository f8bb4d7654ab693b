"""Each trouble of docs/operations.md, made to happen: its query and its alert name it, and no healthy server."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from tests.helpers.blocking_apps import LOOPS, blocked, connected, get
from tests.helpers.cgroups import MakeCgroup, joining, limited_cgroup  # noqa: F401 - a fixture
from tests.helpers.places import APPLICATIONS
from tests.helpers.prometheus import Labels, Prometheus, documented, prometheus, shortened_rules
from tests.helpers.servers import Server, eventually
from tests.helpers.worker_exits import busy_worker, hanging
from tests.integration.conftest import CONFIG, Serve

pytestmark = pytest.mark.needs("prometheus")

RULE_SECONDS = 20
"""The window of the rules, which the documentation has in minutes."""
HEALTHY, ONCE, THREADS, SYNC, QUEUE = "healthy", "once", "threads", "sync", "queue"
TROUBLES = APPLICATIONS / "troubles.py"
SERVERS = {
    HEALTHY: ("worker_class = 'gthread'\nthreads = 2\n", TROUBLES),
    ONCE: (LOOPS["uvicorn"][1], APPLICATIONS / "default_asgi.py"),
    THREADS: ("worker_class = 'gthread'\nthreads = 2\ntimeout = 60\n", TROUBLES),
    SYNC: ("timeout = 4\n", TROUBLES),
    QUEUE: ("backlog = 2\ntimeout = 120\n", TROUBLES),
}


@dataclass
class Plant:
    """Servers, and the Prometheus that scrapes them and has the sample rules.

    Attributes:
        servers: by name.
        monitor: the Prometheus.
    """

    servers: Mapping[str, Server]
    monitor: Prometheus

    def named(self, query: str) -> set[str]:
        """Return the names of the servers in the result. The healthy one is never among them."""
        found = {name for name, _, _ in self.monitor.rows(query)}
        assert HEALTHY not in found, self.monitor.rows(query)
        return found

    def silent(self, server: str, *queries: str) -> None:
        """Wait until no result has a row of the server, or of the healthy one."""
        for query in queries:
            eventually(lambda query=query: server not in self.named(query), f"{query} is silent")  # type: ignore[misc]

    def names(self, query: str, server: str, **labels: str) -> float:
        """Wait until the result names the server with these labels, and not the healthy one. Return the value."""

        def probe() -> tuple[float] | None:
            self.servers[HEALTHY].get("/")
            self.named(query)
            rows = [row for row in self.monitor.rows(query) if row[0] == server and labels.items() <= row[1].items()]
            return (rows[0][2],) if rows else None

        return eventually(probe, f"{query} names {server} with {labels}")[0]

    def fires(self, alert: str, server: str, **labels: str) -> Labels:
        """Wait until the alert fires for the server with these labels, not the healthy one. Return its annotations."""

        def probe() -> Labels | None:
            found = self.monitor.firing(alert)
            assert HEALTHY not in {name for name, _, _ in found}, found
            return next((says for name, has, says in found if name == server and labels.items() <= has.items()), None)

        says = eventually(probe, f"{alert} fires for {server} with {labels}")
        assert str(self.servers[server].metrics_port) in says["description"]
        return says


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    """Run servers and a Prometheus for all tests of this file. Its rules have short windows and no ``for``."""
    folder = tmp_path_factory.mktemp("operations")
    with ExitStack() as stack:
        servers = {}
        for name, (config, app) in SERVERS.items():
            text = CONFIG + "workers = 1\ngraceful_timeout = 1\n" + config
            servers[name] = stack.enter_context(Server(folder / name, app=app, config=text))
        rules = shortened_rules(RULE_SECONDS)
        monitor = stack.enter_context(prometheus(folder / "prometheus", servers, rules=rules))
        monitor.wait_for_sums()
        yield Plant(servers, monitor)


def exits_query() -> str:
    """Return the query for the reasons of worker exits."""
    return documented("gunicorn_worker_exits_total unless", "reason, detail", seconds=RULE_SECONDS)


def test_first_failure_499_malformed_request_and_killed_request_each_show_and_fire(plant: Plant) -> None:
    """A single event of each kind has a result of its query, and fires its alert, which names endpoint or reason."""
    server = plant.servers[ONCE]
    failures = documented("gunicorn_failed_requests_total unless", "method, endpoint", seconds=RULE_SECONDS)
    ratio = documented("increase(sum by", "> 0", "gunicorn_failed_requests_total", seconds=RULE_SECONDS)
    disconnects = documented('status="499"', "unless", seconds=RULE_SECONDS)
    malformed = documented("gunicorn_invalid_requests_total unless", seconds=RULE_SECONDS)
    killed = documented("gunicorn_killed_requests_total unless", seconds=RULE_SECONDS)
    log = documented("gunicorn_log_messages_total", "unless", seconds=RULE_SECONDS)
    plant.silent(ONCE, failures, ratio, disconnects, malformed, killed, log, exits_query())

    assert server.get("/boom").status_code == 500
    assert plant.names(failures, ONCE, method="GET", endpoint="/boom", error_type="ValueError") == 1
    assert 0 < plant.names(ratio, ONCE) < 1
    says = plant.fires("GunicornRequestFailed", ONCE, endpoint="/boom", error_type="ValueError")
    assert "GET /boom of app:app at" in says["description"]
    plant.fires("GunicornErrorBudgetBurnsFast", ONCE)

    with connected(socket.AF_INET, ("127.0.0.1", server.port), get("/sleep/7")):
        busy_worker(server)
    assert plant.names(disconnects, ONCE, method="GET", endpoint="/sleep/:id") == 1
    plant.fires("GunicornClientDisconnect", ONCE, endpoint="/sleep/:id")

    server.send(b"NONSENSE\r\n\r\n")
    assert plant.names(malformed, ONCE) == 1
    plant.fires("GunicornInvalidRequest", ONCE)

    with hanging(server, "/sleep/60"):
        _, pid = busy_worker(server)
        os.kill(pid, signal.SIGKILL)
        assert plant.names(exits_query(), ONCE, reason="signal", detail="SIGKILL") == pytest.approx(1, rel=0.2)
        assert plant.names(killed, ONCE, endpoint="/sleep/:id", reason="signal") == 1
        assert plant.names(log, ONCE, level="error") >= 1
    says = plant.fires("GunicornWorkerExit", ONCE, reason="signal", detail="SIGKILL")
    assert "exited: signal (SIGKILL)" in says["description"]
    plant.fires("GunicornRequestKilled", ONCE, endpoint="/sleep/:id", reason="signal")


def test_server_whose_threads_are_all_stuck_is_full_and_ready(plant: Plant) -> None:
    """Utilization is 1, the waiting connections are counted, the alert fires; /readyz stays 200."""
    server = plant.servers[THREADS]
    waiting = documented("waiting_connections", "sum by", "__name__", "> 0")
    busy = documented("busy_seconds", "requests_capacity")
    address = "127.0.0.1", server.port
    plant.silent(THREADS, waiting)
    with blocked(server, socket.AF_INET, address, 2), connected(socket.AF_INET, address, *[get()] * 5):
        eventually(lambda: plant.names(waiting, THREADS) == 5, "all clients are waiting")
        eventually(lambda: plant.monitor.ask(busy)[THREADS] > 0.9, "the server is full")
        assert plant.monitor.ask(busy)[HEALTHY] < 0.7
        assert requests.get(f"http://127.0.0.1:{server.metrics_port}/readyz", timeout=10).status_code == 200
        plant.fires("GunicornConnectionsWaiting", THREADS)


def test_full_accept_queue_is_named_and_connections_beyond_it_are_in_no_metric(plant: Plant) -> None:
    """The queue holds one connection more than its limit, and the alert names it. A further client is not counted."""
    server = plant.servers[QUEUE]
    part = documented("gunicorn_listener_backlog /")
    waiting = documented("waiting_connections", "sum by", "__name__", "> 0")
    address, listener = ("127.0.0.1", server.port), f"http://127.0.0.1:{server.port}"
    plant.silent(QUEUE, waiting)
    with blocked(server, socket.AF_INET, address), connected(socket.AF_INET, address, *[get()] * 3):
        eventually(lambda: plant.monitor.ask(part)[QUEUE] == 1.5, "the queue is full")
        assert plant.monitor.ask(part)[HEALTHY] < 1
        says = plant.fires("GunicornBacklogFull", QUEUE, listener=listener)
        assert f"3 connections wait in the accept queue {listener} of app:app at" in says["description"]
        with socket.socket() as client:
            client.settimeout(0.5)
            with pytest.raises(TimeoutError):
                client.connect(address)
            assert plant.names(waiting, QUEUE) == 3


@pytest.mark.parametrize("number", [None, signal.SIGABRT, signal.SIGQUIT])
def test_request_that_a_signal_ends_in_a_sync_worker_counts_once_in_the_share_of_errors(
    number: signal.Signals | None, plant: Plant
) -> None:
    """It is answered with a 500, failed and killed, and is one error and one ended request. None: the timeout."""
    server = plant.servers[SYNC if number is None else QUEUE]
    name = SYNC if number is None else QUEUE
    errors = "job_instance:gunicorn_errors:sum"
    ended = (
        "job_instance:gunicorn_requests:sum + job_instance:gunicorn_killed_requests:sum "
        "- job_instance:gunicorn_interrupted_requests:sum"
    )
    killed = "job_instance:gunicorn_killed_requests:sum"
    server.wait_for_workers(1)
    before = {query: plant.monitor.ask(query)[name] for query in (killed, errors, ended)}
    with hanging(server, "/hang"):
        _, pid = busy_worker(server)
        if number is not None:
            os.kill(pid, number)

        def counted() -> bool:
            found = {query: plant.monitor.ask(query)[name] - before[query] for query in before}
            assert found == dict.fromkeys(before, 1.0)
            return True

        eventually(counted, "the request counts once")
    server.wait_for_workers(1)


def test_request_that_hangs_names_worker_and_process(plant: Plant) -> None:
    """A request that only gets older is named, with the process of its worker."""
    server = plant.servers[THREADS]
    hangs = documented("gunicorn_worker_oldest_request_seconds > 30").replace("> 30", "> 2")
    process = documented("gunicorn_worker_pid").replace("> 30", "> 2")
    oldest = documented("max by", "oldest_request")
    plant.silent(THREADS, hangs, process)
    with blocked(server, socket.AF_INET, ("127.0.0.1", server.port)):
        worker, pid = busy_worker(server)
        assert plant.names(hangs, THREADS, worker_id=worker) > 2
        assert plant.names(process, THREADS, worker_id=worker, pid=str(pid)) > 2
        found = plant.monitor.ask(oldest)
        assert found[THREADS] > 2
        assert found[HEALTHY] < 1


def test_timeout_signals_error_exit_and_failed_boots_are_named_and_workers_are_missing(plant: Plant) -> None:
    """Each reason of an exit is named, and so are heartbeats that are late, and workers that do not start."""
    server = plant.servers[SYNC]
    missing = documented("gunicorn_workers{", "gunicorn_workers_target")
    heartbeat = documented("heartbeat_age")
    plant.silent(SYNC, missing, heartbeat, exits_query())
    with hanging(server, "/hang"):
        worker, _ = busy_worker(server)
        assert plant.names(heartbeat, SYNC, worker_id=worker) > 0.7
        plant.fires("GunicornOldRequest", SYNC, worker_id=worker)
        assert plant.names(exits_query(), SYNC, reason="timeout") >= 1
    server.wait_for_workers(1)
    server.workers()[0].send_signal(signal.SIGSEGV)
    assert plant.names(exits_query(), SYNC, reason="signal", detail="SIGSEGV") >= 1
    server.wait_for_workers(1)
    with hanging(server, "/exit"):
        assert plant.names(exits_query(), SYNC, reason="error", detail="7") == 1
    plant.fires("GunicornWorkerExits", SYNC)
    server.wait_for_workers(1)
    server.write_application("import sys\nsys.exit(9)\n")
    server.workers()[0].kill()
    assert plant.names(exits_query(), SYNC, reason="boot", detail="9") >= 1
    assert plant.names(missing, SYNC) == 0
    plant.fires("GunicornWorkersMissing", SYNC)
    server.write_application(TROUBLES)
    server.wait_for_workers(1)


def test_worker_killed_for_lack_of_memory_is_named_as_oom(
    serve: Serve,
    limited_cgroup: MakeCgroup,  # noqa: F811 - the fixture
    tmp_path: Path,
) -> None:
    """The reason is oom, the request is named, and a healthy server beside it has neither."""
    cgroup, _ = limited_cgroup(300 * 1024 * 1024)
    servers = {
        HEALTHY: serve("workers = 1\n"),
        "eater": serve("workers = 1\n", app=APPLICATIONS / "default_memory.py", before=joining(cgroup)),
    }
    killed = documented("gunicorn_killed_requests_total unless", seconds=RULE_SECONDS)
    with prometheus(tmp_path / "prometheus", servers) as monitor:
        oom = Plant(servers, monitor)
        oom.silent("eater", killed, exits_query())
        with suppress(requests.RequestException):
            servers["eater"].get("/eat")
        assert oom.names(exits_query(), "eater", reason="oom", detail="SIGKILL") == 1
        assert oom.names(killed, "eater", method="GET", endpoint="/eat", reason="oom") == 1


def test_slow_endpoint_is_the_first_of_the_slowest(plant: Plant) -> None:
    """The slow endpoint has the highest percentile and takes the most time; a healthy server is below both."""
    percentile = documented("topk", "request_duration_seconds_bucket", "endpoint")
    seconds = documented("topk", "request_duration_seconds_sum")

    def probe() -> bool:
        plant.servers[THREADS].get("/sleep/1")
        plant.servers[HEALTHY].get("/")
        for query in (percentile, seconds):
            rows = [row for row in plant.monitor.rows(query) if row[2] == row[2]]
            assert rows
            name, labels, value = max(rows, key=lambda row: row[2])
            assert (name, labels["method"], labels["endpoint"]) == (THREADS, "GET", "/sleep/:id")
            assert value > 0.5
            assert all(other < 0.2 for server, _, other in rows if server == HEALTHY), rows
            assert {server for server, _, _ in rows} >= {HEALTHY}
        return True

    eventually(probe, "the slow endpoint is named")


def test_worker_that_leaks_memory_is_named(plant: Plant) -> None:
    """A worker whose memory grows is named, and the memory of server and master is known of each server."""
    growth = documented("deriv(gunicorn_worker_memory_bytes")

    def probe() -> bool:
        plant.servers[THREADS].get("/leak")
        plant.servers[HEALTHY].get("/")
        assert THREADS in plant.named(growth)
        return plant.monitor.ask(growth)[THREADS] > 2**18

    eventually(probe, "the leak is named")
    assert set(plant.monitor.ask(documented("sum by", "memory_bytes", "process_resident"))) == set(SERVERS)
