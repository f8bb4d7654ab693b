"""The value class: what a process reads of its own metrics, across forks, threads and generations."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary

from gunicorn_prom_hooks.app_metrics.reading.layouts import FIRST_BYTES
from tests.helpers.forks import in_fork
from tests.helpers.recorded_metrics import DEADLINE_SECONDS, App, counter, histogram, read

pytestmark = pytest.mark.usefixtures("_value_class")


def test_metric_of_a_new_worker_starts_at_0_and_files_keep_earlier_counts(tmp_path: Path) -> None:
    """A worker's own registry begins at 0 for every type, while its predecessor's counts stay in the files."""
    app = App(tmp_path)
    for generation in range(1, 4):
        registry = CollectorRegistry()
        orders = Counter("orders", "Help.", ["kind"], registry=registry)
        seconds = Histogram("seconds", "Help.", registry=registry, buckets=(1.0, 2.0))
        size = Summary("size", "Help.", registry=registry)
        assert not any(read(seconds).values())
        for _ in range(generation):
            orders.labels("a").inc()
            seconds.observe(1.5)
            size.observe(0.1)
        total = sum(range(generation + 1))
        assert read(orders) == {"orders_total": generation}
        assert read(seconds) == {
            "seconds_bucket1.0": 0,
            "seconds_bucket2.0": generation,
            "seconds_bucket+Inf": generation,
            "seconds_count": generation,
            "seconds_sum": 1.5 * generation,
        }
        assert read(size) == {"size_count": generation, "size_sum": pytest.approx(0.1 * generation)}
        page = app.page()
        assert (page["orders_total"], page["seconds_count"], page["size_count"]) == (total, total, total)
        assert page["seconds_sum"] == 1.5 * total
        app = app.successor()
    assert app.failures == 0


def test_reset_counter_takes_back_only_its_own_counts_and_exemplars_are_kept(tmp_path: Path) -> None:
    """An exemplar is there for the process's own page; a counter that is reset takes its own counts back, no others."""
    app = App(tmp_path)
    counter().inc(5)
    app = app.successor()
    orders = counter()
    orders.inc(2, exemplar={"trace": "1"})
    assert next(iter(orders.collect())).samples[0].exemplar.labels == {"trace": "1"}
    orders.reset()
    orders.inc()
    assert (read(orders), app.page()) == ({"orders_total": 1}, {"orders_total": 6})


def test_metric_objects_of_one_name_count_together_and_a_new_one_starts_at_0(tmp_path: Path) -> None:
    """Two objects of one name count together; one that was removed and is made again begins at 0 and loses nothing."""
    app = App(tmp_path)
    one, two = counter(), counter()
    for orders in (one, two, one):
        orders.inc()
    assert (read(one), read(two), app.page()) == ({"orders_total": 2}, {"orders_total": 1}, {"orders_total": 3})
    kinds = counter("kinds", "kind")
    kept = kinds.labels("a")
    kept.inc(3)
    kinds.remove("a")
    kinds.labels("a").inc()
    kept.inc()
    assert (read(kinds), app.page()["kinds_total"]) == ({"kinds_total": 1}, 5)


@pytest.mark.parametrize("announced", [False, True])
def test_child_file_has_only_the_counts_of_the_child(tmp_path: Path, announced: bool) -> None:
    """A child's file has what the child counts. It reads that, on top of its parent's counts as any memory, or not."""
    app = App(tmp_path, announced=announced)
    orders, seconds = counter(), histogram()
    level = Gauge("level", "Help.", registry=None)
    orders.inc(3)
    seconds.observe(1.5)
    level.set(7)

    def child() -> list[Any]:
        app.identity = "p1"
        before = read(orders), read(level)
        orders.inc(10)
        seconds.observe(0.5)
        return [before, read(orders), read(seconds)["seconds_count"]]

    expected = [[{"orders_total": 3}, {"level": 7}], {"orders_total": 13}, 2]
    if announced:
        expected = [[{"orders_total": 0}, {"level": 0}], {"orders_total": 10}, 1]
    assert in_fork(child) == expected
    orders.inc()
    assert read(orders) == {"orders_total": 4}
    page = app.page()
    assert (page["orders_total"], page["seconds_count"]) == (14, 2)
    assert not list(tmp_path.glob("gauge_all_p1.db")), "the child has not changed it"


@pytest.mark.parametrize("announced", [False, True])
def test_preloaded_metrics_are_in_the_files_of_the_master_and_each_worker(tmp_path: Path, announced: bool) -> None:
    """Preloaded metrics are in the master's files if it changes them, and in each worker's from its beginning."""
    app = App(tmp_path, "m", announced=announced, worker=False)
    orders, seconds, other = counter(), histogram(), counter("other")
    Gauge("least", "Help.", registry=None, multiprocess_mode="min")
    assert list(tmp_path.iterdir()) == []
    other.inc(2)
    assert [path.name for path in tmp_path.iterdir()] == ["counter_m.db"]
    assert app.page() == {"other_total": 2}

    def worker() -> list[Any]:
        app.identity = "s0"
        app.store.become_worker()
        before = app.page()
        for metric in (orders, other):
            metric.inc()
        return [before["orders_total"], before["seconds_count"], before["other_total"], read(orders), read(other)]

    for generation in range(1, 3):
        counted = generation - 1
        own = {"other_total": 1 if announced else 3}
        assert in_fork(worker) == [counted, 0, 2 + counted, {"orders_total": 1}, own]
        assert app.page()["other_total"] == 2 + generation
    assert read(seconds)["seconds_count"] == 0


def test_child_counts_after_a_fork_while_a_thread_holds_the_lock(tmp_path: Path) -> None:
    """A child counts although a thread of its parent was in the middle of counting at the fork."""
    app = App(tmp_path)
    orders = counter()
    holds, done = threading.Event(), threading.Event()

    def hold() -> None:
        with app.store.lock:
            holds.set()
            done.wait(DEADLINE_SECONDS)

    thread = threading.Thread(target=hold)
    thread.start()
    holds.wait(DEADLINE_SECONDS)

    def child() -> Any:
        signal.alarm(10)
        app.identity = "p1"
        orders.inc()
        return read(orders)

    found = in_fork(child)
    done.set()
    thread.join()
    assert found == {"orders_total": 1}


def test_child_has_no_file_of_its_parent_open_or_mapped(tmp_path: Path) -> None:
    """No file of the parent stays open in a child, nor mapped."""
    App(tmp_path)
    counter().inc()

    def child() -> bool:
        links = [os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")]
        return any(str(tmp_path) in text for text in [*links, Path("/proc/self/maps").read_text()])

    assert not in_fork(child)


def test_metric_counted_in_the_failure_handler_does_not_block(tmp_path: Path) -> None:
    """What is told of a failure may count in its turn."""
    app = App(tmp_path / "missing")
    failures = counter("failures")
    app.store._failed = failures.inc
    counter().inc()
    assert read(failures) == {"failures_total": 1}


def test_removed_label_sets_leave_nothing_in_memory_or_file(tmp_path: Path) -> None:
    """Label sets that are removed and made again and again leave nothing behind in memory, nor in the file."""
    app = App(tmp_path)
    orders = counter("orders", "number")
    for _ in range(200):
        orders.labels("1").inc()
        orders.clear()
    assert len(app.store._groups) == 0
    kept = [orders.labels("1")]
    for _ in range(200):
        orders.clear()
        orders.labels("1").inc()
    assert len(kept[0]._value.group.values) <= 3
    assert len(app.store._files["counter"]._cells) == 1
    assert (tmp_path / "counter_s0.db").stat().st_size == FIRST_BYTES
