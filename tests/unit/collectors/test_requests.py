"""Requests per live worker, and over all of them."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gunicorn_prom_hooks.collectors import requests
from gunicorn_prom_hooks.collectors.histogram import coarser, cumulative
from gunicorn_prom_hooks.collectors.worker_requests import WorkerRequests
from gunicorn_prom_hooks.shm.schema import BUCKETS, DURATION_BUCKETS, SIZE_BUCKETS, WORKER_DURATION_BUCKETS
from gunicorn_prom_hooks.worker.recording.in_flight import UntrackedRequests
from tests.helpers.snapshots import Scene, begin, names, one, request, samples

W1 = {"worker_id": "worker_1"}
BUSY = "gunicorn_worker_busy_seconds_total"


def test_buckets_are_cumulative() -> None:
    """Each bucket has all that is at most its bound, and +Inf has everything."""
    assert cumulative((0.1, 1.0), (3.0, 0.0, 2.0)) == [("0.1", 3.0), ("1.0", 3.0), ("+Inf", 5.0)]


@settings(deadline=None)
@given(st.lists(st.integers(0, 1000), min_size=BUCKETS, max_size=BUCKETS))
def test_coarser_buckets_are_some_of_the_finer(counts: list[float]) -> None:
    """The per-worker histogram has the published bounds, each with the number that the finer one has there."""
    fine = dict(cumulative(DURATION_BUCKETS, counts))
    coarse = coarser(DURATION_BUCKETS, counts, WORKER_DURATION_BUCKETS)
    assert [name for name, _ in coarse] == ["0.1", "0.5", "1.0", "2.5", "5.0", "10.0", "30.0", "60.0", "+Inf"]
    assert all(fine[name] == count for name, count in coarse)
    assert coarse[-1][1] == sum(counts)
    for (_, count), (_, next_count) in pairwise(coarse):
        assert count <= next_count


def test_each_worker_starts_at_zero() -> None:
    """A successor's own requests count from zero, while the totals go on; the departed have no series."""
    scene = Scene()
    lease, recorder = scene.hire(1)
    request(lease, recorder, bucket=5, seconds=0.1)
    scene.fire(lease)
    lease, recorder = scene.hire(2)
    request(lease, recorder, bucket=5, seconds=0.1)
    request(lease, recorder, bucket=16, seconds=61.0)
    found = samples(WorkerRequests()(scene.view()))
    own = {"worker_id": "worker_2"}
    assert one(found, "gunicorn_worker_requests_total", **own) == 2.0
    assert one(found, "gunicorn_worker_request_duration_seconds_bucket", le="0.1", **own) == 1.0
    assert one(found, "gunicorn_worker_request_duration_seconds_bucket", le="60.0", **own) == 1.0
    assert one(found, "gunicorn_worker_request_duration_seconds_count", **own) == 2.0
    assert one(found, "gunicorn_worker_request_duration_seconds_sum", **own) == pytest.approx(61.1)
    assert not [labels for _, labels in found if ("worker_id", "worker_1") in labels]
    totals = samples(requests.collect(scene.view()))
    assert one(totals, "gunicorn_requests_total", method="GET", endpoint="/x", status=200) == 3.0


def test_busy_seconds_never_go_backwards() -> None:
    """Through the moment in which an ended request is in neither the table nor the sum, busy time stands still."""
    scene, collect = Scene(), WorkerRequests()
    lease, recorder = scene.hire(1)
    begin(lease, 90.0)
    seen = [one(samples(collect(scene.view())), BUSY, **W1)]
    scene.clock = 105.0
    seen.append(one(samples(collect(scene.view())), BUSY, **W1))
    begin(lease, 0.0)
    seen.append(one(samples(collect(scene.view())), BUSY, **W1))
    request(lease, recorder, bucket=14, seconds=15.0)
    seen.append(one(samples(collect(scene.view())), BUSY, **W1))
    begin(lease, 104.0)
    seen.append(one(samples(collect(scene.view())), BUSY, **W1))
    assert seen == [10.0, 15.0, 15.0, 15.0, 16.0]


def test_a_successor_is_busy_from_zero() -> None:
    """What is remembered of busy time goes with the worker."""
    scene, collect = Scene(), WorkerRequests()
    lease, recorder = scene.hire(1)
    request(lease, recorder, bucket=14, seconds=15.0)
    samples(collect(scene.view()))
    scene.fire(lease)
    samples(collect(scene.view()))
    scene.hire(1)
    assert one(samples(collect(scene.view())), BUSY, **W1) == 0.0


def test_what_is_in_progress() -> None:
    """In progress are the table's requests and those past its end; all are busy, and the oldest one tells its age."""
    scene, collect = Scene(), WorkerRequests()
    lease, _ = scene.hire(1)
    scene.hire(2)
    begin(lease, 97.0, number=3)
    begin(lease, 92.5, number=5)
    untracked = UntrackedRequests(lease.slot)
    for started in (94.0, 95.0, 96.0, 97.0):
        untracked.add(started)
    found = samples(collect(scene.view()))
    assert one(found, "gunicorn_worker_requests_in_progress", **W1) == 6.0
    assert one(found, "gunicorn_worker_oldest_request_seconds", **W1) == 7.5
    assert one(found, BUSY, **W1) == 10.5 + 18.0
    assert one(found, "gunicorn_worker_oldest_request_seconds", worker_id="worker_2") == 0.0
    totals = samples(requests.collect(scene.view()))
    assert one(totals, "gunicorn_requests_in_progress") == 6.0


def test_the_oldest_request_of_those_without_an_entry() -> None:
    """Where the table is empty again, one of them is at least as old as they are on average; later ones have no age."""
    scene = Scene()
    lease, _ = scene.hire(1)
    untracked = UntrackedRequests(lease.slot)
    untracked.add(40.0)
    untracked.add(60.0)
    found = samples(WorkerRequests()(scene.view()))
    assert one(found, "gunicorn_worker_oldest_request_seconds", **W1) == 50.0
    assert one(found, BUSY, **W1) == 100.0
    untracked.remove(40.0)
    untracked.remove(60.0)
    untracked.add(101.0)
    found = samples(WorkerRequests()(scene.view()))
    assert one(found, "gunicorn_worker_oldest_request_seconds", **W1) == 0.0
    assert one(found, BUSY, **W1) == 0.0


def test_a_request_of_the_future_has_no_age() -> None:
    """A request that began after the clock of the view was read is 0 seconds old."""
    scene = Scene()
    lease, _ = scene.hire(1)
    begin(lease, 100.5)
    found = samples(WorkerRequests()(scene.view()))
    assert one(found, "gunicorn_worker_oldest_request_seconds", **W1) == 0.0
    assert one(found, BUSY, **W1) == 0.0


def test_requests_over_all_are_one_sum() -> None:
    """Totals, durations and sizes are all read off the same counts: they agree for every endpoint."""
    scene = Scene()
    for age in (1, 2):
        lease, recorder = scene.hire(age)
        request(lease, recorder, bucket=1, seconds=0.01, labels=("GET", "/x", 200), sizes=(0, 2))
        request(lease, recorder, bucket=2, seconds=0.02, labels=("GET", "/x", 404), sizes=(8, 7))
    found = samples(requests.collect(scene.view()))
    where = {"method": "GET", "endpoint": "/x"}
    assert one(found, "gunicorn_requests_total", status=200, **where) == 2.0
    assert one(found, "gunicorn_requests_total", status=404, **where) == 2.0
    assert one(found, "gunicorn_request_duration_seconds_bucket", le="0.01", **where) == 2.0
    assert one(found, "gunicorn_request_duration_seconds_bucket", le="+Inf", **where) == 4.0
    assert one(found, "gunicorn_request_duration_seconds_sum", **where) == pytest.approx(0.06)
    assert one(found, "gunicorn_response_size_bytes_bucket", le="4096.0", **where) == 0.0
    assert one(found, "gunicorn_response_size_bytes_bucket", le="16384.0", **where) == 2.0
    assert one(found, "gunicorn_response_size_bytes_count", **where) == 4.0
    assert one(found, "gunicorn_request_size_bytes_count", **where) == 2.0
    assert names(found).count("gunicorn_request_size_bytes_bucket") == len(SIZE_BUCKETS) + 1
