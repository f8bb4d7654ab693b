"""Series that are there from the start, so that a sum over their family begins at zero."""

from __future__ import annotations

import dataclasses

from prometheus_client.metrics_core import Metric

from gunicorn_prom_hooks.model.exits import ExitReason
from gunicorn_prom_hooks.settings.checks import LABEL_NAMES
from gunicorn_prom_hooks.shm.schema import FAILED, WEBSOCKETS
from tests.helpers.snapshots import Samples, SimulatedServer, one, request, samples

OVERFLOWED_FAMILY = "gunicorn_exporter_overflowed_labels"
"""Of a simulated server, which has replaced four values."""
DESCRIPTIVE = ("gunicorn_build_info", "gunicorn_worker_info", "python_info")


def families(server: SimulatedServer) -> list[Metric]:
    """Return the families of the server's page."""
    return list(server.metrics_page().collect())


def created(found: Samples) -> dict[str, set[float]]:
    """Return the values of the ``_created`` samples by name."""
    values: dict[str, set[float]] = {}
    for (name, _), value in found.items():
        if name.endswith("_created"):
            values.setdefault(name, set()).add(value)
    return values


def test_every_counter_family_of_an_idle_server_has_a_series_at_zero() -> None:
    """Also before the first request, failure or exit: a sum over the family then sees the first one."""
    server = SimulatedServer()
    server.add_worker(1)
    counters = [family for family in families(server) if family.type == "counter"]
    assert len(counters) >= 12
    nonzero = ("gunicorn_log_messages", "gunicorn_master_worker_restart", "gunicorn_reloads", OVERFLOWED_FAMILY)
    for family in counters:
        values = [sample.value for sample in family.samples if sample.name.endswith("_total")]
        is_event = family.name.startswith("gunicorn_") and "seconds" not in family.name and family.name not in nonzero
        assert values, family.name
        assert not is_event or set(values) == {0.0}, family.name


def test_killed_requests_have_a_series_at_zero_for_each_reason() -> None:
    """A sum by reason begins at zero for every reason."""
    found = samples(families(SimulatedServer()))
    for reason in ExitReason:
        labels = {"method": "<other>", "endpoint": "<other>", "reason": str(reason)}
        assert one(found, "gunicorn_killed_requests_total", **labels) == 0.0


def test_series_for_values_beyond_the_limit_takes_the_place_of_its_zero() -> None:
    """The labels of the zero series are those of what finds no room: there is one series of both."""
    server = SimulatedServer()
    lease, recorder = server.add_worker(1)
    recorder.count(FAILED, "<other>", "<other>", "<other>")
    at = recorder.place(WEBSOCKETS, "<other>")
    lease.slot.cells[at] = 3.0
    found = samples(families(server))
    labels = {"method": "<other>", "endpoint": "<other>", "error_type": "<other>"}
    assert one(found, "gunicorn_failed_requests_total", **labels) == 1.0
    assert one(found, "gunicorn_worker_failed_requests_total", worker_id="worker_1", **labels) == 1.0
    assert one(found, "gunicorn_websockets_total", endpoint="<other>") == 3.0


def test_no_created_samples_by_default() -> None:
    """Prometheus would store them as further series."""
    server = SimulatedServer()
    lease, recorder = server.add_worker(1)
    request(lease, recorder)
    assert created(samples(families(server))) == {}


def test_created_samples_are_the_times_at_which_series_began() -> None:
    """A series of an event began with it, one that is there from the start with the server, a worker's with it."""
    server = SimulatedServer()
    server.options = server.options._replace(created_timestamps=True)
    lease, recorder = server.add_worker(1)
    recorder._writer._now = lambda: 55.0
    request(lease, recorder)
    recorder._writer._now = lambda: 57.0
    request(lease, recorder, labels=("GET", "/x", 500))
    recorder.count(FAILED, "GET", "/x", "ValueError")
    found = samples(families(server))
    requests = {"method": "GET", "endpoint": "/x"}
    assert one(found, "gunicorn_requests_created", status="200", **requests) == 55.0
    assert one(found, "gunicorn_requests_created", status="500", **requests) == 57.0
    assert one(found, "gunicorn_request_duration_seconds_created", **requests) == 55.0
    assert one(found, "gunicorn_response_size_bytes_created", **requests) == 55.0
    assert one(found, "gunicorn_failed_requests_created", error_type="ValueError", **requests) == 57.0
    own = {"worker_id": "worker_1", "error_type": "ValueError", **requests}
    assert one(found, "gunicorn_worker_failed_requests_created", **own) == 57.0
    assert one(found, "gunicorn_worker_requests_created", worker_id="worker_1") == 50.0
    other = {"method": "<other>", "endpoint": "<other>"}
    assert one(found, "gunicorn_requests_created", status="<other>", **other) == 40.0
    assert one(found, "gunicorn_reloads_created") == 40.0


def test_every_counter_and_histogram_of_the_server_has_created_samples() -> None:
    """Each series has one sample, which is never later than the scrape."""
    server = SimulatedServer()
    server.options = server.options._replace(created_timestamps=True)
    lease, recorder = server.add_worker(1)
    recorder._writer._now = lambda: 55.0
    request(lease, recorder)
    for family in families(server):
        if family.type in ("counter", "histogram") and family.name.startswith("gunicorn_"):
            ends = "_total" if family.type == "counter" else "_count"
            series = [sample.labels for sample in family.samples if sample.name.endswith(ends)]
            times = [(sample.labels, sample.value) for sample in family.samples if sample.name.endswith("_created")]
            assert [labels for labels, _ in times] == series, family.name
            assert all(40.0 <= value <= server.now for _, value in times), family.name


def test_created_sample_of_a_successor_in_a_slot_is_not_earlier_than_the_successor() -> None:
    """The series of a worker begins with the worker, though the slot has the entry of a predecessor."""
    server = SimulatedServer()
    server.options = server.options._replace(created_timestamps=True)
    first, recorder = server.add_worker(1)
    recorder._writer._now = lambda: 45.0
    recorder.count(FAILED, "GET", "/x", "ValueError")
    server.remove_worker(first)
    _, recorder = server.add_worker(2)
    recorder.count(FAILED, "GET", "/x", "ValueError")
    found = samples(families(server))
    labels = {"method": "GET", "endpoint": "/x", "error_type": "ValueError"}
    assert one(found, "gunicorn_worker_failed_requests_created", worker_id="worker_2", **labels) == 50.0
    assert one(found, "gunicorn_failed_requests_created", **labels) == 45.0


def test_constant_labels_are_on_every_sample_and_replace_none() -> None:
    """A sample that has a label of the same name keeps its own value."""
    server = SimulatedServer()
    server.options = server.options._replace(labels={"team": "checkout", "app": "ours"})
    lease, recorder = server.add_worker(1)
    request(lease, recorder)
    for family in families(server):
        for sample in family.samples:
            assert sample.labels["team"] == "checkout"
            assert sample.labels["app"] == ("shop" if sample.name == "gunicorn_build_info" else "ours")


def test_label_names_that_a_user_may_not_add_are_those_of_the_page() -> None:
    """Every label of a series that is no mere description is refused, and no other."""
    server = SimulatedServer()
    server.dirty_arbiter_pid = 1
    lease, recorder = server.add_worker(1)
    request(lease, recorder)
    names = {
        name
        for family in families(server)
        for sample in family.samples
        if family.name not in DESCRIPTIVE
        for name in sample.labels
    }
    added_by_prometheus = {"instance", "job", "quantile"}
    assert names | added_by_prometheus | {"listener", "reason"} == set(LABEL_NAMES)


def test_size_histograms_can_be_left_out() -> None:
    """Without them no family of sizes is on the page, and all other families are."""
    server = SimulatedServer()
    lease, recorder = server.add_worker(1)
    request(lease, recorder)
    before = {family.name for family in families(server)}
    server.options = server.options._replace(size_histograms=False)
    after = {family.name for family in families(server)}
    assert before - after == {"gunicorn_request_size_bytes", "gunicorn_response_size_bytes"}


def test_durations_are_published_with_the_bounds_of_the_setting() -> None:
    """The histogram of requests has these bounds, and the one of workers its own."""
    server = SimulatedServer()
    lease, recorder = server.add_worker(1)
    request(lease, recorder, bucket=5)
    request(lease, recorder, bucket=18)
    snapshot = server.snapshot()
    buckets = snapshot.buckets._replace(published=(0.05, 60.0))
    found = samples(
        family
        for family in server.metrics_page().collect_from(dataclasses.replace(snapshot, buckets=buckets))
        if "duration" in family.name
    )
    labels = {"method": "GET", "endpoint": "/x"}
    bounds = {
        dict(key)["le"]: value
        for (name, key), value in found.items()
        if name == "gunicorn_request_duration_seconds_bucket" and labels.items() <= dict(key).items()
    }
    assert bounds == {"0.05": 1.0, "60.0": 1.0, "+Inf": 2.0}
    assert sum(name == "gunicorn_worker_request_duration_seconds_bucket" for name, _ in found) == 9
