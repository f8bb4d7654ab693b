"""Requests over all workers."""

from __future__ import annotations

import pytest

from gunicorn_prom_hooks.collectors import requests
from gunicorn_prom_hooks.shm.schema import FAILED, SIZE_BUCKETS
from tests.helpers.snapshots import SimulatedServer, names, one, request, samples


def test_totals_durations_and_sizes_agree_for_every_endpoint() -> None:
    """Totals, durations and sizes are all read off the same counts: they agree for every endpoint."""
    server = SimulatedServer()
    for age in (1, 2):
        lease, recorder = server.add_worker(age)
        request(lease, recorder, bucket=3, seconds=0.01, labels=("GET", "/x", 200), sizes=(0, 2))
        request(lease, recorder, bucket=4, seconds=0.02, labels=("GET", "/x", 404), sizes=(8, 7))
    found = samples(requests.collect(server.snapshot()))
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


def test_read_requests_and_failures_by_endpoint_are_the_sums_of_the_families() -> None:
    """The numbers for the status page are those of the collector, added up over statuses and error types."""
    server = SimulatedServer()
    lease, recorder = server.add_worker(1)
    request(lease, recorder, bucket=1, labels=("GET", "/x", 200))
    request(lease, recorder, bucket=2, labels=("GET", "/x", 500))
    recorder.count(FAILED, "GET", "/x", "ValueError")
    recorder.count(FAILED, "GET", "/x", "KeyError")
    snapshot = server.snapshot()
    [(key, found)] = requests.read_requests(snapshot).by_endpoint.items()
    assert (key, found.number, found.durations[:3]) == (("GET", "/x"), 2.0, [0.0, 1.0, 1.0])
    assert dict(requests.read_failures(snapshot)) == {("GET", "/x"): 2.0}
    families = samples(requests.collect(snapshot))
    assert sum(value for (name, _), value in families.items() if name == "gunicorn_requests_total") == found.number
