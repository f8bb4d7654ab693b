"""All collectors as one page."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from prometheus_client import generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics

from gunicorn_prom_hooks.collectors import MetricsPage
from gunicorn_prom_hooks.errors import ErrorReporter
from gunicorn_prom_hooks.model.server_snapshot import ServerSnapshot
from gunicorn_prom_hooks.shm.schema import ERROR_HANDLING, FAILED, INVALID, OVERFLOWED
from tests.helpers.snapshots import SimulatedServer, names, one, request, samples, scraped

COLLECTORS = ("requests", "worker_requests", "worker_states", "worker_processes", "master", "process", "exporter")


@pytest.fixture
def server() -> SimulatedServer:
    """Two workers, one of them a successor, with something in every family."""
    server = SimulatedServer()
    lease, recorder = server.add_worker(1)
    request(lease, recorder, labels=("GET", 'quote " back \\ line \n', 200), sizes=(8, 7))
    request(lease, recorder, bucket=3)
    server.remove_worker(lease)
    for age in (2, 3):
        lease, recorder = server.add_worker(age)
        request(lease, recorder, bucket=16, seconds=70.0)
        for family in (FAILED, ERROR_HANDLING):
            recorder.count(family, "GET", "/x", "ValueError")
        recorder.count(INVALID, "InvalidHeader")
        recorder.count(OVERFLOWED, "endpoint")
        recorder.exporter_error("post_request")
    server.departed = [("worker_1", "quit", 55.0)]
    server.errors = {"post_request": 2, "scrape": 1}
    return server


def test_text_page_is_valid_and_has_each_sample_once(server: SimulatedServer) -> None:
    """Prometheus's own parser takes the page, with label values that need escaping, and each sample is there once."""
    found = scraped(server.metrics_page())
    assert one(found, "gunicorn_requests_total", method="GET", endpoint="/x", status=200) == 3.0
    assert one(found, "gunicorn_requests_total", method="GET", endpoint='quote " back \\ line \n', status=200) == 1.0
    assert one(found, "gunicorn_worker_requests_total", worker_id="worker_2") == 1.0
    assert one(found, "gunicorn_invalid_requests_total", error_type="InvalidHeader") == 2.0
    assert one(found, "gunicorn_master_worker_restart_total", reason="restart") == 3.0
    assert one(found, "gunicorn_worker_state", worker_id="worker_1", state="quit", timestamp=55) == 1.0
    assert one(found, "gunicorn_worker_state", worker_id="worker_2", state="booting", timestamp=50) == 0.0
    assert one(found, "gunicorn_workers", state="running") == 2.0


def test_openmetrics_page_is_valid(server: SimulatedServer) -> None:
    """The stricter parser of OpenMetrics takes the page too: histograms are cumulative and complete, counters named."""
    found = samples(parse_openmetrics(generate_openmetrics(server.metrics_page()).decode()))  # type: ignore[no-untyped-call]
    assert one(found, "gunicorn_request_duration_seconds_count", method="GET", endpoint="/x") == 3.0


def test_internal_failures_are_summed_over_master_and_workers(server: SimulatedServer) -> None:
    """Internal failures are those of the master and those in the slots; overflowed label values likewise."""
    found = scraped(server.metrics_page())
    assert one(found, "gunicorn_exporter_errors_total", where="post_request") == 4.0
    assert one(found, "gunicorn_exporter_errors_total", where="scrape") == 1.0
    assert one(found, "gunicorn_exporter_overflowed_labels_total", label="endpoint") == 6.0
    assert one(found, "gunicorn_exporter_overflowed_labels_total", label="series") == 0.0


def test_every_collector_succeeds_and_is_timed(server: SimulatedServer) -> None:
    """Each collector has a success of 1 and a duration."""
    errors = ErrorReporter()
    found = scraped(server.metrics_page(errors))
    for name in COLLECTORS:
        assert one(found, "gunicorn_exporter_collector_success", collector=name) == 1.0
        assert one(found, "gunicorn_exporter_collector_duration_seconds", collector=name) >= 0.0
    assert len(names(found)) - len(set(names(found))) > 0
    assert errors.counts == {}


def without(page: MetricsPage, name: str) -> set[str]:
    """Return names of the samples of all collectors except this one."""
    kept = tuple(pair for pair in page._collectors if pair[0] != name)
    page._collectors = kept
    return set(names(scraped(page)))


@pytest.mark.parametrize("name", COLLECTORS)
def test_collector_that_raises_costs_its_families_only(name: str, server: SimulatedServer) -> None:
    """Whichever raises, even half-way: its families are missing, success is 0, and everything else is there."""

    def broken(snapshot: ServerSnapshot) -> Iterator[Metric]:
        yield GaugeMetricFamily("half_of_it", "Must not show.", value=1.0)
        raise RuntimeError("a bug")

    errors = ErrorReporter()
    page = server.metrics_page(errors)
    page._collectors = tuple((n, broken if n == name else collect) for n, collect in page._collectors)
    found = scraped(page)
    assert set(names(found)) == without(server.metrics_page(), name)
    for other in COLLECTORS:
        assert one(found, "gunicorn_exporter_collector_success", collector=other) == float(other != name)
    assert errors.counts == {f"collector_{name}": 1}


def test_corrupt_slot_fails_the_collectors_that_add_up_slots_twice(server: SimulatedServer) -> None:
    """They fail twice; what had been counted in the slot stays."""
    page = server.metrics_page()
    before = scraped(page)
    server.allocator.readers[0]._parsed = 3
    for failing in (["requests", "exporter"], ["requests", "exporter"], []):
        found = scraped(page)
        failed = [n for n in COLLECTORS if not one(found, "gunicorn_exporter_collector_success", collector=n)]
        assert failed == failing
        assert one(found, "gunicorn_workers_target") == 2.0
    total = "gunicorn_requests_total"
    assert [key for key in found if key[0] == total] == [key for key in before if key[0] == total] != []


def test_server_without_workers_has_a_page_with_zeros() -> None:
    """Before the first worker there is a page, with zeros."""
    found = scraped(SimulatedServer().metrics_page())
    assert one(found, "gunicorn_workers", state="running") == 0.0
    assert one(found, "gunicorn_requests_in_progress") == 0.0


def test_two_pages_of_an_idle_server_have_the_same_requests(server: SimulatedServer) -> None:
    """Two renderings of an idle server have the same requests."""
    page = server.metrics_page()
    texts = [generate_latest(page).decode().splitlines() for _ in range(2)]
    requests = [[line for line in text if line.startswith("gunicorn_request")] for text in texts]
    assert requests[0] == requests[1] != []
