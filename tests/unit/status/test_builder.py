"""The data of the status page for prepared snapshots."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from typing import Any, NoReturn

import pytest

from gunicorn_prom_hooks.collectors.processes import ProcessUsage
from gunicorn_prom_hooks.model.counts import InFlightRequest
from gunicorn_prom_hooks.model.exits import ExitReason, ExitRecord
from gunicorn_prom_hooks.model.server_snapshot import ServerSnapshot
from gunicorn_prom_hooks.shm.index import CorruptIndex
from gunicorn_prom_hooks.shm.schema import FAILED
from gunicorn_prom_hooks.status import page_data
from gunicorn_prom_hooks.status.builder import StatusBuilder
from gunicorn_prom_hooks.status.sections import MAX_ENDPOINTS, MAX_REQUESTS, MAX_WORKERS
from gunicorn_prom_hooks.worker.recording.in_flight import UntrackedRequests
from tests.helpers.snapshots import SimulatedServer, begin, request


class Processes:
    """Memory and CPU of workers, as set by the test."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def __call__(self, snapshot: ServerSnapshot) -> dict[str, ProcessUsage]:
        """Half of the CPU time is system time."""
        return {
            worker_id: ProcessUsage(5000, 0.0, seconds / 2, seconds / 2, None)
            for worker_id, seconds in self.seconds.items()
        }


class Listener:
    """A listener of gunicorn's."""

    sock = None

    def __str__(self) -> str:
        return "http://127.0.0.1:1"


def failing(snapshot: ServerSnapshot) -> NoReturn:
    """Raise."""
    raise RuntimeError("a bug")


@pytest.fixture
def server() -> SimulatedServer:
    """Two workers: 10 requests, 2 of them failed, one in progress for 1.5 s."""
    server = SimulatedServer()
    for age in (1, 2):
        lease, recorder = server.add_worker(age)
        for _ in range(4):
            request(lease, recorder)
        request(lease, recorder, labels=("POST", "/y", 500), bucket=4)
        recorder.count(FAILED, "POST", "/y", "ValueError")
    begin(lease, 98.5)
    server.listeners = [Listener()]
    return server


def later(server: SimulatedServer, seconds: float) -> None:
    """Advance the clocks."""
    server.clock += seconds
    server.now += seconds


def known(value: page_data.Traffic | page_data.Workers | page_data.Endpoints | None) -> Any:
    """Return the part, which must not be None."""
    assert value is not None
    return value


def test_data_without_a_sample_has_totals_and_rates_since_the_start(server: SimulatedServer) -> None:
    """Requests, failures, load and phases are those of the snapshot; rates are since the server's start."""
    found = StatusBuilder().build(server.snapshot())
    assert found.traffic == page_data.Traffic(requests=10, failed=2, per_second=0.5, failed_per_second=0.1)
    assert found.rates == page_data.Rates(seconds=20.0, since_start=True)
    assert found.load == page_data.Load(in_progress=1, capacity=2, hanging=0, hanging_after_seconds=10.0)
    assert found.server == page_data.Server(
        app="shop",
        gunicorn="1",
        python="2",
        gunicorn_prom_hooks="0",
        worker_class="sync",
        pid=os.getpid(),
        uptime_seconds=20.0,
        timeout_seconds=30.0,
        reloads=5,
        workers_target=2,
        workers_booting=0,
        workers_running=2,
        workers_stopping=0,
    )
    assert found.time == 60.0
    assert found.exits == []


def test_rates_and_cpu_are_over_the_time_since_the_sample(server: SimulatedServer) -> None:
    """With a sample, all rates and CPU are over the time since then."""
    processes = Processes()
    processes.seconds = {"worker_1": 4.0, "worker_2": 6.0}
    builder = StatusBuilder(processes)
    first = known(builder.build(server.snapshot()).workers)
    assert [row.cpu_percent for row in first.rows] == [40.0, 60.0]
    later(server, 4.0)
    lease, recorder = server.add_worker(3)
    lease.since = 102.0
    for _ in range(12):
        request(lease, recorder)
    recorder.count(FAILED, "GET", "/x", "ValueError")
    processes.seconds = {"worker_1": 5.0, "worker_2": 6.0, "worker_3": 1.0}
    found = builder.build(server.snapshot())
    assert found.rates == page_data.Rates(seconds=4.0, since_start=False)
    assert found.traffic == page_data.Traffic(requests=22, failed=3, per_second=3.0, failed_per_second=0.25)
    assert [row.cpu_percent for row in known(found.workers).rows] == [25.0, 0.0, 50.0]
    assert {row.endpoint: row.per_second for row in known(found.endpoints).rows} == {"/x": 3.0, "/y": 0.0}
    later(server, 300.0)
    assert builder.build(server.snapshot()).rates == page_data.Rates(seconds=324.0, since_start=True)


def test_cpu_is_unknown_if_it_could_not_be_read_at_the_sample(server: SimulatedServer) -> None:
    """CPU over the period is not known, and nothing else is shown instead."""
    processes = Processes()
    builder = StatusBuilder(processes)
    builder.build(server.snapshot())
    later(server, 4.0)
    processes.seconds = {"worker_1": 4.0}
    assert [row.cpu_percent for row in known(builder.build(server.snapshot()).workers).rows] == [None, None]


def test_worker_row_has_its_counts_process_and_requests_in_progress(server: SimulatedServer) -> None:
    """A row has the worker's own counts, its process's numbers, and its requests in progress."""
    found = known(StatusBuilder().build(server.snapshot()).workers)
    row = found.rows[1]
    assert (row.worker_id, row.age, row.pid, row.state) == ("worker_2", 2, os.getpid(), "running")
    assert (row.uptime_seconds, row.heartbeat_age_seconds) == (10.0, 0.5)
    assert (row.requests, row.failed, row.in_progress, row.capacity) == (5, 1, 1, 1)
    assert row.memory_bytes > 1_000_000
    assert row.cpu_percent >= 0.0
    assert row.requests_in_progress == page_data.Requests([page_data.Request("GET", "/x", 1.5, hangs=False)], 0)
    assert found.rows[0].requests_in_progress == page_data.Requests([], 0)


def test_requests_beyond_the_limit_are_a_number(server: SimulatedServer) -> None:
    """The oldest ones have rows; the others, untracked ones included, are a number."""
    lease = server.allocator.live[0]
    for number in range(MAX_REQUESTS + 3):
        begin(lease, 50.0 + number, number)
    untracked = UntrackedRequests(lease.slot)
    for _ in range(4):
        untracked.add(90.0)
    row = known(StatusBuilder().build(server.snapshot()).workers).rows[0]
    assert [request.seconds for request in row.requests_in_progress.rows] == [
        50.0 - number for number in range(MAX_REQUESTS)
    ]
    assert row.requests_in_progress.more == 7
    assert row.in_progress == MAX_REQUESTS + 7


@pytest.mark.parametrize(
    ("timeout", "seconds", "limit"),
    [
        (30.0, [10.5, 10.0, 5.0], 10.0),
        (600.0, [10.5, 10.0], 10.0),
        (0.0, [10.5, 10.0], 10.0),
        (4.0, [2.5, 2.0, 1.0], 2.0),
        (20.0, [10.5, 10.0], 10.0),
        (5.0, [3.0, 2.5], 2.5),
    ],
)
def test_request_in_progress_for_10_seconds_or_half_of_the_timeout_hangs(
    timeout: float, seconds: list[float], limit: float
) -> None:
    """The first one is in progress for longer than both allow, the others are not; the load has their number."""
    server = SimulatedServer()
    for age in (1, 2):
        lease, _ = server.add_worker(age)
        for number, age_seconds in enumerate(seconds):
            begin(lease, server.clock - age_seconds, number)
    found = StatusBuilder(Processes()).build(dataclasses.replace(server.snapshot(), timeout=timeout))
    for row in known(found.workers).rows:
        shown = [(request.seconds, request.hangs) for request in row.requests_in_progress.rows]
        assert shown == [(one, number == 0) for number, one in enumerate(seconds)]
    assert found.load == page_data.Load(2 * len(seconds), 2, hanging=2, hanging_after_seconds=limit)


def test_workers_beyond_the_limit_are_a_number() -> None:
    """There are MAX_WORKERS rows, and the number of the others."""
    server = SimulatedServer()
    for age in range(1, MAX_WORKERS + 4):
        server.add_worker(age)
    found = known(StatusBuilder(Processes()).build(server.snapshot()).workers)
    assert (len(found.rows), found.more) == (MAX_WORKERS, 3)


def test_endpoints_have_failures_and_percentiles(server: SimulatedServer) -> None:
    """Endpoints are in the order of their totals, with failures and percentiles of their histograms."""
    found = known(StatusBuilder().build(server.snapshot()).endpoints)
    assert found.rows == [
        page_data.Endpoint("GET", "/x", 8, 0, 0.4, 0.0, 0.0, 0.0),
        page_data.Endpoint("POST", "/y", 2, 2, 0.1, 0.0175, 0.0235, 0.02485),
    ]
    assert found.more == 0
    assert (found.lowest_bucket_seconds, found.highest_bucket_seconds) == (0.001, 60.0)


def percentiles(found: page_data.StatusData) -> dict[str, tuple[float | None, ...]]:
    """Return p50, p90 and p99 by endpoint."""
    return {row.endpoint: (row.p50_seconds, row.p90_seconds, row.p99_seconds) for row in known(found.endpoints).rows}


def test_percentiles_are_those_of_the_requests_in_the_period(server: SimulatedServer) -> None:
    """Earlier requests do not count, and an endpoint without others has no latency, unless there is no sample."""
    builder = StatusBuilder(Processes())
    builder.build(server.snapshot())
    later(server, 40.0)
    lease, recorder = server.add_worker(3)
    for _ in range(10):
        request(lease, recorder, bucket=4)
    request(lease, recorder, labels=("GET", "/new", 200), bucket=len(server.snapshot().buckets.bounds))
    found = builder.build(server.snapshot())
    assert found.rates == page_data.Rates(40.0, since_start=False)
    assert percentiles(found) == {
        "/x": (0.0175, 0.0235, 0.02485),
        "/y": (None, None, None),
        "/new": (60.0, 60.0, 60.0),
    }
    later(server, 61.0)
    found = builder.build(server.snapshot())
    assert found.rates == page_data.Rates(121.0, since_start=True)
    assert percentiles(found)["/y"] == (0.0175, 0.0235, 0.02485)


def test_percentile_at_or_below_the_lowest_bound_is_0(server: SimulatedServer) -> None:
    """Of a percentile in the lowest bucket nothing is interpolated, and one above it is."""
    lease, recorder = server.add_worker(3)
    for bucket in (0, 1):
        for _ in range(10):
            request(lease, recorder, labels=("GET", "/z", 200), bucket=bucket)
    assert percentiles(StatusBuilder(Processes()).build(server.snapshot()))["/z"] == (0.0, 0.0022, 0.00247)


def test_endpoints_beyond_the_limit_are_the_least_busy_now() -> None:
    """Those that are busiest now are shown, most requests first; an idle one with many requests in the past is not."""
    server, builder = SimulatedServer(), StatusBuilder(Processes())
    lease, recorder = server.add_worker(1)
    for _ in range(1000):
        request(lease, recorder, labels=("GET", "/old", 200))
    builder.build(server.snapshot())
    later(server, 5.0)
    for number in range(MAX_ENDPOINTS + 2):
        for _ in range(number + 1):
            request(lease, recorder, labels=("GET", f"/{number}", 200))
    found = known(builder.build(server.snapshot()).endpoints)
    assert [row.endpoint for row in found.rows] == [f"/{number}" for number in range(MAX_ENDPOINTS + 1, 1, -1)]
    assert found.more == 3


def test_exits_have_the_ages_of_their_requests(server: SimulatedServer) -> None:
    """The latest exits, with the ages of their requests at the exit."""
    requests = [InFlightRequest(70.0, "GET", "/a"), InFlightRequest(79.5, "PUT", "/b")]
    shown = [page_data.InterruptedRequest("GET", "/a", 10.0), page_data.InterruptedRequest("PUT", "/b", 0.5)]
    server.exit_stats.keep(
        ExitRecord(40.0, 80.0, "worker_9", 77, ExitReason.SIGNAL, "SIGKILL", requests, 3), notable=True
    )
    assert StatusBuilder().build(server.snapshot()).exits == [
        page_data.Exit(
            time=40.0,
            worker_id="worker_9",
            pid=77,
            reason="signal",
            detail="SIGKILL",
            requests_in_progress=page_data.InterruptedRequests(shown, 3),
        )
    ]


def test_reader_that_fails_costs_its_own_fields_only(server: SimulatedServer) -> None:
    """Without psutil there is neither memory nor CPU, without queues none of these, and all else is there."""
    whole = StatusBuilder(Processes(), lambda snapshot: []).build(server.snapshot())
    found = StatusBuilder(failing, failing).build(server.snapshot())
    assert found == whole
    assert found.listeners == [page_data.Listener("http://127.0.0.1:1", None, None, None)]
    assert {(row.memory_bytes, row.cpu_percent) for row in known(found.workers).rows} == {(None, None)}


def broken(**parts: Any) -> Callable[[ServerSnapshot], ServerSnapshot]:
    """Return a function that replaces parts of a snapshot by unusable ones."""
    return lambda snapshot: dataclasses.replace(snapshot, **parts)


@pytest.mark.parametrize(
    ("spoil", "missing"),
    [
        (broken(exit_stats=None), {"exits"}),
        (broken(build={}), {"server"}),
        (broken(listeners=None), {"listeners"}),
        (broken(workers=None), {"server", "load", "workers"}),
    ],
    ids=["exit_stats", "build", "listeners", "workers"],
)
def test_part_that_fails_is_none_and_the_others_are_not(
    spoil: Callable[[ServerSnapshot], ServerSnapshot], missing: set[str], server: SimulatedServer
) -> None:
    """Each is None, and the others are not."""
    found = dataclasses.asdict(StatusBuilder().build(spoil(server.snapshot())))
    assert {name for name, part in found.items() if part is None} - {"traffic", "endpoints"} == missing


def test_corrupt_slot_leaves_out_totals_until_it_is_read_again(server: SimulatedServer) -> None:
    """Totals that cannot be added up are None; the workers are there. Rates go on when the totals are back."""
    builder = StatusBuilder()

    def fail() -> NoReturn:
        raise CorruptIndex("x")

    found = builder.build(dataclasses.replace(server.snapshot(), read_totals=fail))
    assert (found.traffic, found.endpoints) == (None, None)
    assert len(known(found.workers).rows) == 2
    later(server, 4.0)
    assert builder.build(server.snapshot()).traffic is not None
