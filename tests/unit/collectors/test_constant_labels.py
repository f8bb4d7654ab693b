"""Constant labels: on every sample, and never a second label or series of one name."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from gunicorn_prom_hooks.collectors.name_conflicts import add_labels


def labeled(family: Metric, **labels: str) -> list[tuple[dict[str, str], float]]:
    """Return labels and values of a family's samples after labels are added to it."""
    add_labels(family, labels)
    return [(sample.labels, sample.value) for sample in family.samples]


def counter(*names: str) -> CounterMetricFamily:
    """Return a counter with these labels, without samples."""
    return CounterMetricFamily("orders", "Orders.", labels=names)


def test_label_that_equals_one_of_the_sample_once_escaped_is_left_out() -> None:
    """A client that takes no dots would otherwise see one label twice."""
    for name in ("zone.a", "zone a", "zone_a", "zone-a"):
        family = counter(name)
        family.add_metric(("1",), 2.0)
        assert labeled(family, zone_a="eu", team="x") == [({name: "1", "team": "x"}, 2.0)]


def test_page_with_escaped_labels_has_each_label_once() -> None:
    """The plain text can be parsed, and has the sample's own value."""
    family = counter("zone.a")
    family.add_metric(("1",), 2.0)
    add_labels(family, {"zone_a": "eu"})

    class Collector:
        """A collector of this family."""

        def collect(self) -> list[Metric]:
            return [family]

    registry = CollectorRegistry()
    registry.register(Collector())
    [parsed] = text_string_to_metric_families(generate_latest(registry).decode())
    assert [sample.labels for sample in parsed.samples] == [{"zone_a": "1"}]


def test_counters_that_become_equal_are_added_up() -> None:
    """A series without the label and one with the same value of it become one, and no count is lost."""
    family = CounterMetricFamily("orders", "Orders.")
    family.add_sample("orders_total", {}, 1.0)
    family.add_sample("orders_total", {"team": "checkout"}, 2.0)
    family.add_sample("orders_total", {"team": "other"}, 4.0)
    assert labeled(family, team="checkout") == [({"team": "checkout"}, 3.0), ({"team": "other"}, 4.0)]


def test_gauges_that_become_equal_are_one() -> None:
    """Two gauges have no sum: the first one stays."""
    family = GaugeMetricFamily("users", "Users.")
    family.add_sample("users", {}, 1.0)
    family.add_sample("users", {"team": "checkout"}, 2.0)
    assert labeled(family, team="checkout") == [({"team": "checkout"}, 1.0)]
