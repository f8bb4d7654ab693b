"""The application's families on the page: those that fail, and those with names that are taken."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from gunicorn_prom_hooks.collectors import MetricsPage, name_conflicts
from gunicorn_prom_hooks.collectors.name_conflicts import MAX_REPORTED, NameConflicts
from gunicorn_prom_hooks.errors import ErrorReporter
from gunicorn_prom_hooks.exporter.http import ENCODERS
from tests.helpers.snapshots import SimulatedServer, names, one, scraped

TAKEN = "gunicorn_prom_hooks: the application's metric %s is left out: the name is taken"


class Log:
    """A log that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[tuple[object, ...]] = []

    def error(self, msg: str, *args: object, **kwargs: object) -> None:
        """Keep the line."""
        self.lines.append((msg, *args))


@pytest.fixture
def log() -> Log:
    """A log of the test."""
    return Log()


@pytest.fixture
def errors(log: Log) -> ErrorReporter:
    """A reporter of failures that logs there."""
    errors = ErrorReporter()
    errors.log = log
    return errors


def counter(name: str) -> Metric:
    return CounterMetricFamily(name, "Help.", value=1.0)


def gauge(name: str) -> Metric:
    return GaugeMetricFamily(name, "Help.", value=1.0)


def histogram(name: str) -> Metric:
    return HistogramMetricFamily(name, "Help.", buckets=[("1.0", 1.0), ("+Inf", 2.0)], sum_value=3.0)


@pytest.mark.parametrize(
    ("app", "package", "stays"),
    [
        (gauge("a"), gauge("b"), True),
        (gauge("a"), gauge("a"), False),
        (counter("a"), counter("a"), False),
        (gauge("a"), counter("a"), False),
        (gauge("a_total"), counter("a"), False),
        (counter("a"), gauge("a_total"), False),
        (gauge("a_bucket"), histogram("a"), False),
        (gauge("a_count"), histogram("a"), False),
        (gauge("a_sum"), histogram("a"), False),
        (histogram("a"), gauge("a_sum"), False),
        (histogram("a"), gauge("a"), False),
        (gauge("a_created"), histogram("a"), False),
        (gauge("a_"), gauge("a"), True),
        (Metric("a", "Help.", "gauge"), gauge("a"), False),
        (gauge("a"), Metric("a", "Help.", "gauge"), False),
    ],
)
def test_family_with_a_taken_name_is_left_out(errors: ErrorReporter, app: Metric, package: Metric, stays: bool) -> None:
    """A family is left out if it, or a sample of it, has a name of a family or a sample of this package."""
    other = gauge("other")
    assert list(NameConflicts(errors).without_conflicts([app, other], [gauge("x"), package])) == (
        [app] if stays else []
    ) + [other]
    assert errors.counts == ({} if stays else {"app_metrics_name": 1})


@pytest.mark.parametrize(
    ("app", "package", "stays"),
    [
        (gauge("a.b"), gauge("a_b"), False),
        (gauge("a b"), gauge("a_b"), False),
        (gauge("a\u00fcb"), gauge("a_b"), False),
        (counter("gunicorn.requests"), counter("gunicorn_requests"), False),
        (gauge("gunicorn.requests.total"), counter("gunicorn_requests"), False),
        (gauge("a.bucket"), histogram("a"), False),
        (gauge("a.sum"), histogram("a"), False),
        (histogram("a.b"), gauge("a_b_count"), False),
        (histogram("process.cpu.seconds"), counter("process_cpu_seconds"), False),
        (gauge("1a"), gauge("_a"), False),
        (gauge("a_dot_b"), gauge("a.b"), True),
        (gauge("a.b"), gauge("a-b"), False),
        (gauge("U__a_2e_b"), gauge("a.b"), False),
        (gauge("a..b"), gauge("a_b"), True),
        (gauge("a:b"), gauge("a_b"), True),
        (gauge("a.b"), gauge("a_c"), True),
    ],
)
@pytest.mark.skipif(not name_conflicts._ESCAPINGS, reason="this prometheus_client escapes no names")
@pytest.mark.parametrize("both_app", [False, True])
def test_family_with_a_name_taken_once_escaped_is_left_out(
    errors: ErrorReporter, app: Metric, package: Metric, stays: bool, both_app: bool
) -> None:
    """A name that is taken under one of the escaping schemes is taken, by this package or by the application."""
    families = [package, app] if both_app else [app]
    found = list(NameConflicts(errors).without_conflicts(families, [] if both_app else [package]))
    assert found == families[: len(families) - (not stays)]
    assert errors.counts == ({} if stays else {"app_metrics_name": 1})


@pytest.mark.parametrize("accept", sorted(ENCODERS))
def test_page_in_each_format_has_each_name_once(errors: ErrorReporter, accept: str) -> None:
    """In each format that a client may ask for, no family is there twice."""
    package = [counter("gunicorn_requests"), gauge("gunicorn_workers"), histogram("gunicorn_request_duration_seconds")]
    names = ("gunicorn.requests", "gunicorn.workers", "gunicorn-workers", "gunicorn.request_duration_seconds.sum")
    app = [make(name) for name in names for make in (counter, gauge, histogram)]
    families = [*package, *NameConflicts(errors).without_conflicts([*app, gauge("a.b"), gauge("a_b")], package)]
    assert len(families) > len(package)
    text = ENCODERS[accept](SimpleNamespace(collect=lambda: families)).decode()
    types = [line.split(" ")[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(types) == len(set(types)) == len(families)


@pytest.mark.parametrize(
    ("labels", "stays"), [(["a.b", "a_b"], False), (["a-b", "a.b"], False), (["a.b", "a_c"], True), (["a", "b"], True)]
)
@pytest.mark.skipif(not name_conflicts._ESCAPINGS, reason="this prometheus_client escapes no names")
def test_family_with_labels_that_are_one_once_escaped_is_left_out(
    errors: ErrorReporter, log: Log, labels: list[str], stays: bool
) -> None:
    """A sample with two labels of one name would cost the whole page: the family is left out and logged."""
    family = GaugeMetricFamily("shop_orders", "Help.", labels=labels)
    family.add_metric(["1", "2"], 1.0)
    assert list(NameConflicts(errors).without_conflicts([family, gauge("b")], [gauge("x")])) == [
        *([family] if stays else []),
        gauge("b"),
    ]
    assert [line[1] for line in log.lines] == ([] if stays else ["shop_orders"])


def test_name_stays_taken_while_its_collector_fails(errors: ErrorReporter) -> None:
    """A name stays taken while the collector that has it fails."""
    found = NameConflicts(errors)
    assert list(found.without_conflicts([gauge("a")], [gauge("a")])) == []
    assert list(found.without_conflicts([gauge("a")], [])) == []


def test_name_of_a_counter_without_samples_is_taken(errors: ErrorReporter) -> None:
    """The name of a family in the text is taken also while the family has no samples."""
    package = CounterMetricFamily("a", "Help.", labels=("x",))
    assert list(NameConflicts(errors).without_conflicts([gauge("a_total")], [package])) == []


def test_each_name_is_logged_and_counted_once(errors: ErrorReporter, log: Log) -> None:
    """However often the page is made, there is one line and one count for each name."""
    found = NameConflicts(errors)
    for _ in range(5):
        assert list(found.without_conflicts([gauge("a"), gauge("b")], [gauge("a"), gauge("b")])) == []
    assert log.lines == [(TAKEN, "a"), (TAKEN, "b")]
    assert errors.counts == {"app_metrics_name": 2}


def test_conflict_is_counted_without_a_log(errors: ErrorReporter) -> None:
    """Before there is a log the conflict is counted all the same."""
    errors.log = None
    assert list(NameConflicts(errors).without_conflicts([gauge("a")], [gauge("a")])) == []
    assert errors.counts == {"app_metrics_name": 1}


@pytest.mark.parametrize("most", [3, MAX_REPORTED])
def test_names_beyond_the_limit_are_left_out_and_not_kept(
    errors: ErrorReporter, log: Log, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """Beyond the limit no name is logged or kept; the families are left out nevertheless."""
    monkeypatch.setattr(name_conflicts, "MAX_REPORTED", most)
    found = NameConflicts(errors)
    families = [gauge(f"a{number}") for number in range(most + 20)]
    for _ in range(2):
        assert list(found.without_conflicts(families, families)) == []
    assert log.lines == [(TAKEN, f"a{number}") for number in range(most)]
    assert len(found._reported) == most
    assert list(found.without_conflicts([gauge("b")], families))


def test_application_families_are_last_and_timed(errors: ErrorReporter, log: Log) -> None:
    """They come last, unchanged, and their collector is timed like all others."""
    families = [counter("shop_orders"), histogram("shop_search_seconds")]
    page = MetricsPage(SimulatedServer().snapshot, errors, lambda: families)
    assert list(page.collect())[-2:] == families
    found = scraped(page)
    assert one(found, "shop_orders_total") == 1.0
    assert one(found, "gunicorn_exporter_collector_success", collector="app_metrics") == 1.0
    assert one(found, "gunicorn_exporter_collector_duration_seconds", collector="app_metrics") >= 0.0
    assert (errors.counts, log.lines) == ({}, [])


def test_page_without_an_application_has_no_app_metrics(errors: ErrorReporter) -> None:
    """Without application metrics, the page has nothing about them."""
    assert b"app_metrics" not in generate_latest(MetricsPage(SimulatedServer().snapshot, errors))


def raises() -> Iterator[Metric]:
    """An application collector that fails half-way."""
    yield gauge("half_of_it")
    raise RuntimeError("a bug")


def test_application_that_raises_costs_its_families_only(errors: ErrorReporter, log: Log) -> None:
    """None of its families shows, success is 0, and the others are there; it is counted, and logged once."""
    server = SimulatedServer()
    alone = set(names(scraped(server.metrics_page())))
    page = MetricsPage(server.snapshot, errors, raises)
    for times in (1, 2):
        found = scraped(page)
        assert set(names(found)) == alone
        assert one(found, "gunicorn_exporter_collector_success", collector="app_metrics") == 0.0
        assert one(found, "gunicorn_exporter_collector_success", collector="master") == 1.0
        assert errors.counts == {"collector_app_metrics": times}
    assert len(log.lines) == 1


@pytest.mark.parametrize(
    "family",
    [
        gauge("gunicorn_workers"),
        gauge("gunicorn_master_worker_restart_total"),
        counter("gunicorn_master_worker_restart"),
        gauge("gunicorn_exporter_collector_success"),
        gauge("gunicorn_exporter_collector_duration_seconds"),
        histogram("gunicorn_workers"),
    ],
)
def test_application_families_with_names_of_this_package_are_not_on_the_page(
    errors: ErrorReporter, log: Log, family: Metric
) -> None:
    """The page keeps every family of this package, also those about collectors, and other ones of the application."""
    server = SimulatedServer()
    page = MetricsPage(server.snapshot, errors, lambda: [family, gauge("shop_orders")])
    package = set(scraped(server.metrics_page()))
    for _ in range(3):
        families = list(page.collect())
        assert family not in families
        keys = set(scraped(page))
        assert len({f.name for f in families}) == len(families)
        assert {name for name, _ in keys - package} == {
            "shop_orders",
            "gunicorn_exporter_collector_success",
            "gunicorn_exporter_collector_duration_seconds",
        }
    assert log.lines == [(TAKEN, family.name)]
    assert errors.counts == {"app_metrics_name": 1}


def test_samples_of_another_type_are_left_out_and_logged(errors: ErrorReporter, log: Log) -> None:
    """A family with samples of two types has those of its own, and a line says so."""
    family = gauge("orders")
    family.add_sample("orders_total", {}, 7.0)
    [left] = NameConflicts(errors).without_conflicts([family], [])
    assert [sample.name for sample in left.samples] == ["orders"]
    assert [line[1:] for line in log.lines] == [("orders",)]
    assert "several types" in str(log.lines[0][0])
