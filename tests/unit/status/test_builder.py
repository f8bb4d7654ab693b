"""What the status page says of prepared views."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from typing import Any, NoReturn

import pytest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from gunicorn_prom_hooks.model.exits import ExitReason, ExitRecord
from gunicorn_prom_hooks.model.requests import InFlightRequest
from gunicorn_prom_hooks.model.server_snapshot import ServerSnapshot
from gunicorn_prom_hooks.shm.index import CorruptIndex
from gunicorn_prom_hooks.shm.schema import FAILED
from gunicorn_prom_hooks.status import page_data
from gunicorn_prom_hooks.status.builder import Snapshots
from gunicorn_prom_hooks.status.sections import MAX_ENDPOINTS, MAX_REQUESTS, MAX_WORKERS
from gunicorn_prom_hooks.worker.recording.in_flight import UntrackedRequests
from tests.helpers.snapshots import Scene, begin, request


class Processes:
    """Memory and CPU of workers, as the collector has them."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def __call__(self, view: ServerSnapshot) -> list[Any]:
        """Half of the CPU time is the system's."""
        memory = GaugeMetricFamily("gunicorn_worker_memory_bytes", "x", labels=("worker_id",))
        cpu = CounterMetricFamily("gunicorn_worker_cpu_seconds", "x", labels=("worker_id", "mode"))
        for worker_id, seconds in self.seconds.items():
            memory.add_metric((worker_id,), 5000.0)
            for mode in ("user", "system"):
                cpu.add_metric((worker_id, mode), seconds / 2)
        return [memory, cpu]


class Listener:
    """A listener of gunicorn's."""

    sock = None

    def __str__(self) -> str:
        return "http://127.0.0.1:1"


def failing(view: ServerSnapshot) -> list[Any]:
    """Fails."""
    raise RuntimeError("a bug")


@pytest.fixture
def scene() -> Scene:
    """Two workers: 10 requests, 2 of them failed, one in progress for 1.5 s."""
    scene = Scene()
    for age in (1, 2):
        lease, recorder = scene.hire(age)
        for _ in range(4):
            request(lease, recorder)
        request(lease, recorder, labels=("POST", "/y", 500), bucket=4)
        recorder.count(FAILED, "POST", "/y", "ValueError")
    begin(lease, 98.5)
    scene.listeners = [Listener()]
    return scene


def later(scene: Scene, seconds: float) -> None:
    """Lets time go by."""
    scene.clock += seconds
    scene.now += seconds


def known(value: page_data.Traffic | page_data.Workers | page_data.Endpoints | None) -> Any:
    """The part, which is there."""
    assert value is not None
    return value


def test_totals(scene: Scene) -> None:
    """Requests, failures, load and phases are those of the view; without an earlier look rates are since the start."""
    found = Snapshots().take(scene.view())
    assert found.traffic == page_data.Traffic(requests=10, failed=2, per_second=0.5, failed_per_second=0.1)
    assert found.rates == page_data.Rates(seconds=20.0, since_start=True)
    assert found.load == page_data.Load(in_progress=1, capacity=2)
    assert found.server == page_data.Server(
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
    assert found.deaths == []


def test_rates_are_of_the_recent_past(scene: Scene) -> None:
    """With an earlier look, rates and CPU are over the time since then, of everything."""
    processes = Processes()
    processes.seconds = {"worker_1": 4.0, "worker_2": 6.0}
    snapshots = Snapshots(processes)
    first = known(snapshots.take(scene.view()).workers)
    assert [row.cpu_percent for row in first.rows] == [40.0, 60.0]
    later(scene, 4.0)
    lease, recorder = scene.hire(3)
    lease.since = 102.0
    for _ in range(12):
        request(lease, recorder)
    recorder.count(FAILED, "GET", "/x", "ValueError")
    processes.seconds = {"worker_1": 5.0, "worker_2": 6.0, "worker_3": 1.0}
    found = snapshots.take(scene.view())
    assert found.rates == page_data.Rates(seconds=4.0, since_start=False)
    assert found.traffic == page_data.Traffic(requests=22, failed=3, per_second=3.0, failed_per_second=0.25)
    assert [row.cpu_percent for row in known(found.workers).rows] == [25.0, 0.0, 50.0]
    assert {row.endpoint: row.per_second for row in known(found.endpoints).rows} == {"/x": 3.0, "/y": 0.0}
    later(scene, 300.0)
    assert snapshots.take(scene.view()).rates == page_data.Rates(seconds=324.0, since_start=True)


def test_cpu_of_a_worker_that_could_not_be_asked_before(scene: Scene) -> None:
    """Its CPU over the period is not known, and nothing else is said instead."""
    processes = Processes()
    snapshots = Snapshots(processes)
    snapshots.take(scene.view())
    later(scene, 4.0)
    processes.seconds = {"worker_1": 4.0}
    assert [row.cpu_percent for row in known(snapshots.take(scene.view()).workers).rows] == [None, None]


def test_workers(scene: Scene) -> None:
    """A row has what the worker did itself, its process's figures, and the requests it is at."""
    found = known(Snapshots().take(scene.view()).workers)
    row = found.rows[1]
    assert (row.worker_id, row.age, row.pid, row.state) == ("worker_2", 2, os.getpid(), "running")
    assert (row.uptime_seconds, row.heartbeat_age_seconds) == (10.0, 0.5)
    assert (row.requests, row.failed, row.in_progress, row.capacity) == (5, 1, 1, 1)
    assert row.memory_bytes > 1_000_000
    assert row.cpu_percent >= 0.0
    assert row.at == page_data.Requests([page_data.Request("GET", "/x", 1.5)], 0)
    assert found.rows[0].at == page_data.Requests([], 0)


def test_many_requests_in_progress(scene: Scene) -> None:
    """The oldest ones are named; of the others, those included that the table has no room for, there is the number."""
    lease = scene.allocator.live[0]
    for number in range(MAX_REQUESTS + 3):
        begin(lease, 50.0 + number, number)
    untracked = UntrackedRequests(lease.slot)
    for _ in range(4):
        untracked.add(90.0)
    row = known(Snapshots().take(scene.view()).workers).rows[0]
    assert [request.seconds for request in row.at.rows] == [50.0 - number for number in range(MAX_REQUESTS)]
    assert row.at.more == 7
    assert row.in_progress == MAX_REQUESTS + 7


def test_many_workers() -> None:
    """So many rows, and the number of the others."""
    scene = Scene()
    for age in range(1, MAX_WORKERS + 4):
        scene.hire(age)
    found = known(Snapshots(Processes()).take(scene.view()).workers)
    assert (len(found.rows), found.more) == (MAX_WORKERS, 3)


def test_endpoints(scene: Scene) -> None:
    """By total, with failures and percentiles of their histograms."""
    found = known(Snapshots().take(scene.view()).endpoints)
    assert found.rows == [
        page_data.Endpoint("GET", "/x", 8, 0, 0.4, 0.0025, 0.0045, 0.00495),
        page_data.Endpoint("POST", "/y", 2, 2, 0.1, 0.0625, 0.0725, 0.07475),
    ]
    assert found.more == 0


def test_many_endpoints() -> None:
    """Those that are busiest now are shown, most requests first; a quiet one with a great past is not."""
    scene, snapshots = Scene(), Snapshots(Processes())
    lease, recorder = scene.hire(1)
    for _ in range(1000):
        request(lease, recorder, labels=("GET", "/old", 200))
    snapshots.take(scene.view())
    later(scene, 5.0)
    for number in range(MAX_ENDPOINTS + 2):
        for _ in range(number + 1):
            request(lease, recorder, labels=("GET", f"/{number}", 200))
    found = known(snapshots.take(scene.view()).endpoints)
    assert [row.endpoint for row in found.rows] == [f"/{number}" for number in range(MAX_ENDPOINTS + 1, 1, -1)]
    assert found.more == 3


def test_deaths(scene: Scene) -> None:
    """The ledger's latest, with how long their requests had run when the worker died."""
    requests = [InFlightRequest(70.0, "GET", "/a"), InFlightRequest(79.5, "PUT", "/b")]
    scene.exit_stats.keep(
        ExitRecord(40.0, 80.0, "worker_9", 77, ExitReason.SIGNAL, "SIGKILL", requests, 3), notable=True
    )
    assert Snapshots().take(scene.view()).deaths == [
        page_data.Death(
            time=40.0,
            worker_id="worker_9",
            pid=77,
            reason="signal",
            detail="SIGKILL",
            at=page_data.Requests([page_data.Request("GET", "/a", 10.0), page_data.Request("PUT", "/b", 0.5)], 3),
        )
    ]


def test_a_part_that_fails_costs_itself_only(scene: Scene) -> None:
    """Without psutil there is neither memory nor CPU, without queues none of these, and all else is there."""
    whole = Snapshots(Processes(), lambda view: []).take(scene.view())
    found = Snapshots(failing, failing).take(scene.view())
    assert found == whole
    assert found.listeners == [page_data.Listener("http://127.0.0.1:1", None, None, None)]
    assert {(row.memory_bytes, row.cpu_percent) for row in known(found.workers).rows} == {(None, None)}


def broken(**parts: Any) -> Callable[[ServerSnapshot], ServerSnapshot]:
    """Replaces parts of a view by what cannot be used."""
    return lambda view: dataclasses.replace(view, **parts)


@pytest.mark.parametrize(
    ("spoil", "missing"),
    [
        (broken(exit_stats=None), {"deaths"}),
        (broken(build={}), {"server"}),
        (broken(listeners=None), {"listeners"}),
        (broken(workers=None), {"server", "load", "workers"}),
    ],
    ids=["exit_stats", "build", "listeners", "workers"],
)
def test_parts_that_are_not_there(
    spoil: Callable[[ServerSnapshot], ServerSnapshot], missing: set[str], scene: Scene
) -> None:
    """Each is None, and the others are not."""
    found = dataclasses.asdict(Snapshots().take(spoil(scene.view())))
    assert {name for name, part in found.items() if part is None} - {"traffic", "endpoints"} == missing


def test_a_corrupt_slot(scene: Scene) -> None:
    """Totals that cannot be added up are not there; the workers are. Rates go on when they are back."""
    snapshots = Snapshots()

    def fail() -> NoReturn:
        raise CorruptIndex("x")

    found = snapshots.take(dataclasses.replace(scene.view(), read_totals=fail))
    assert (found.traffic, found.endpoints) == (None, None)
    assert len(known(found.workers).rows) == 2
    later(scene, 4.0)
    assert snapshots.take(scene.view()).traffic is not None
