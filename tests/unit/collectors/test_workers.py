"""Requests of each live worker."""

from __future__ import annotations

import pytest

from gunicorn_prom_hooks.collectors import requests
from gunicorn_prom_hooks.collectors.workers import WorkerRequests
from gunicorn_prom_hooks.worker.recording.in_flight import UntrackedRequests
from tests.helpers.snapshots import SimulatedServer, begin, one, request, samples

W1 = {"worker_id": "worker_1"}
BUSY = "gunicorn_worker_busy_seconds_total"


def test_successor_starts_at_zero_while_totals_go_on() -> None:
    """A successor's own requests count from zero, while the totals go on; exited workers have no series."""
    server = SimulatedServer()
    lease, recorder = server.add_worker(1)
    request(lease, recorder, bucket=5, seconds=0.1)
    server.remove_worker(lease)
    lease, recorder = server.add_worker(2)
    request(lease, recorder, bucket=5, seconds=0.1)
    request(lease, recorder, bucket=18, seconds=61.0)
    found = samples(WorkerRequests().collect(server.snapshot()))
    own = {"worker_id": "worker_2"}
    assert one(found, "gunicorn_worker_requests_total", **own) == 2.0
    assert one(found, "gunicorn_worker_request_duration_seconds_bucket", le="0.1", **own) == 1.0
    assert one(found, "gunicorn_worker_request_duration_seconds_bucket", le="60.0", **own) == 1.0
    assert one(found, "gunicorn_worker_request_duration_seconds_count", **own) == 2.0
    assert one(found, "gunicorn_worker_request_duration_seconds_sum", **own) == pytest.approx(61.1)
    assert not [labels for _, labels in found if ("worker_id", "worker_1") in labels]
    totals = samples(requests.collect(server.snapshot()))
    assert one(totals, "gunicorn_requests_total", method="GET", endpoint="/x", status=200) == 3.0


def test_busy_seconds_stay_while_an_ended_request_is_in_neither_sum() -> None:
    """While an ended request is in neither the table nor the sum, busy time stays."""
    server, collector = SimulatedServer(), WorkerRequests()
    lease, recorder = server.add_worker(1)
    begin(lease, 90.0)
    seen = [one(samples(collector.collect(server.snapshot())), BUSY, **W1)]
    server.clock = 105.0
    seen.append(one(samples(collector.collect(server.snapshot())), BUSY, **W1))
    begin(lease, 0.0)
    seen.append(one(samples(collector.collect(server.snapshot())), BUSY, **W1))
    request(lease, recorder, bucket=14, seconds=15.0)
    seen.append(one(samples(collector.collect(server.snapshot())), BUSY, **W1))
    begin(lease, 104.0)
    seen.append(one(samples(collector.collect(server.snapshot())), BUSY, **W1))
    assert seen == [10.0, 15.0, 15.0, 15.0, 16.0]


def test_busy_seconds_of_a_successor_start_at_zero() -> None:
    """The last busy time is forgotten with its worker."""
    server, collector = SimulatedServer(), WorkerRequests()
    lease, recorder = server.add_worker(1)
    request(lease, recorder, bucket=14, seconds=15.0)
    samples(collector.collect(server.snapshot()))
    server.remove_worker(lease)
    samples(collector.collect(server.snapshot()))
    server.add_worker(1)
    assert one(samples(collector.collect(server.snapshot())), BUSY, **W1) == 0.0


def test_requests_in_progress_include_untracked_ones() -> None:
    """In progress are the table's requests and those beyond it; all are busy, and the oldest one has the age."""
    server, collector = SimulatedServer(), WorkerRequests()
    lease, _ = server.add_worker(1)
    server.add_worker(2)
    begin(lease, 97.0, number=3)
    begin(lease, 92.5, number=5)
    untracked = UntrackedRequests(lease.slot)
    for started in (94.0, 95.0, 96.0, 97.0):
        untracked.add(started)
    found = samples(collector.collect(server.snapshot()))
    assert one(found, "gunicorn_worker_requests_in_progress", **W1) == 6.0
    assert one(found, "gunicorn_worker_oldest_request_seconds", **W1) == 7.5
    assert one(found, BUSY, **W1) == 10.5 + 18.0
    assert one(found, "gunicorn_worker_oldest_request_seconds", worker_id="worker_2") == 0.0
    totals = samples(requests.collect(server.snapshot()))
    assert one(totals, "gunicorn_requests_in_progress") == 6.0


def test_oldest_request_without_an_entry_has_the_mean_age() -> None:
    """If the table is empty, one of them is at least as old as their mean; those in the future have no age."""
    server = SimulatedServer()
    lease, _ = server.add_worker(1)
    untracked = UntrackedRequests(lease.slot)
    untracked.add(40.0)
    untracked.add(60.0)
    found = samples(WorkerRequests().collect(server.snapshot()))
    assert one(found, "gunicorn_worker_oldest_request_seconds", **W1) == 50.0
    assert one(found, BUSY, **W1) == 100.0
    untracked.remove(40.0)
    untracked.remove(60.0)
    untracked.add(101.0)
    found = samples(WorkerRequests().collect(server.snapshot()))
    assert one(found, "gunicorn_worker_oldest_request_seconds", **W1) == 0.0
    assert one(found, BUSY, **W1) == 0.0


def test_request_that_began_after_the_snapshot_is_0_seconds_old() -> None:
    """A request that began after the clock of the snapshot was read is 0 seconds old."""
    server = SimulatedServer()
    lease, _ = server.add_worker(1)
    begin(lease, 100.5)
    found = samples(WorkerRequests().collect(server.snapshot()))
    assert one(found, "gunicorn_worker_oldest_request_seconds", **W1) == 0.0
    assert one(found, BUSY, **W1) == 0.0
