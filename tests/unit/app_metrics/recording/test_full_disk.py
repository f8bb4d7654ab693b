"""Metrics without room for their files: counted in memory, and no process is killed."""

from __future__ import annotations

import errno
import multiprocessing
import os
import resource
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from gunicorn_prom_hooks.app_metrics.reading.layouts import FIRST_BYTES
from gunicorn_prom_hooks.app_metrics.recording import blocks
from tests.helpers.forks import in_fork
from tests.helpers.recorded_metrics import DEADLINE_SECONDS, App, Disk, counter, histogram, read

pytestmark = pytest.mark.usefixtures("_value_class")


SPAWN = multiprocessing.get_context("spawn")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO])
def test_metric_without_room_for_its_file_is_kept_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """The metric is kept in memory and is on no page; no empty file is left, and the next metric is tried anew."""
    disk = Disk(monkeypatch, 0, number)
    app = App(tmp_path)
    orders, seconds = counter(), histogram()
    for _ in range(3):
        orders.inc()
        seconds.observe(1.5)
    assert (read(orders), read(seconds)["seconds_count"]) == ({"orders_total": 3}, 3)
    assert list(tmp_path.iterdir()) == []
    assert app.failures == 2
    disk.room = 1 << 20
    orders.inc()
    counter("later").inc()
    assert app.page() == {"later_total": 1}


def test_metric_that_does_not_fit_into_a_file_is_on_no_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in the file goes on; what does not fit in is on no page, also where only a part of it would."""
    Disk(monkeypatch, 2 * FIRST_BYTES)
    app = App(tmp_path)
    made = [histogram(f"seconds_{number}", tuple(float(bound) for bound in range(1, 100))) for number in range(20)]
    for one in made:
        one.observe(0.5)
    page = app.page()
    complete = [f"seconds_{number}" for number in range(20) if f"seconds_{number}_sum" in page]
    assert 0 < len(complete) < 20
    for name in complete:
        assert (page[f"{name}_count"], page[f"{name}_sum"]) == (1, 0.5)
    assert {name.rsplit("_", 1)[0] for name in page} == set(complete)
    assert {read(one)[f"seconds_{number}_count"] for number, one in enumerate(made)} == {1}
    assert (tmp_path / "histogram_s0.db").stat().st_size == 2 * FIRST_BYTES
    assert app.failures == 20 - len(complete)


@pytest.mark.parametrize("worker", [False, True])
def test_new_process_without_room_keeps_metrics_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, worker: bool
) -> None:
    """A worker of a preloaded application, and a forked child, keep in memory what has no room: nothing is 0."""
    disk = Disk(monkeypatch, 1 << 20)
    app = App(tmp_path, "m", worker=False)
    orders = [counter(f"orders_{number}") for number in range(50)]
    seconds = histogram()
    disk.room = 0

    def child() -> list[Any]:
        app.identity = "x"
        if worker:
            app.store.become_worker()
        for one in orders:
            one.inc()
        seconds.observe(1)
        return [read(orders[-1]), read(seconds)["seconds_count"], app.failures]

    assert in_fork(child) == [{"orders_49_total": 1}, 1, 2 if worker else 51]
    assert app.page() == {}


def test_child_of_a_process_without_room_uses_room_that_is_free_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has no room in the files of one process may have some in those of the next."""
    disk = Disk(monkeypatch, 0)
    app = App(tmp_path)
    orders = counter()
    orders.inc()
    disk.room = 1 << 20

    def child() -> None:
        app.identity = "p1"
        orders.inc(5)

    in_fork(child)
    assert (read(orders), app.page()) == ({"orders_total": 1}, {"orders_total": 5})


def test_successor_on_a_full_disk_goes_on_in_existing_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A successor goes on with the files that there are."""
    app = App(tmp_path)
    counter().inc()
    monkeypatch.setattr(blocks, "SPARE_BYTES", 1 << 62)
    app = app.successor()
    counter().inc()
    histogram().observe(1)
    assert app.page() == {"orders_total": 2}
    assert app.failures == 1


def limited(folder: str, most: int) -> list[Any]:
    """What becomes of metrics where no file may be longer than this."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    app = App(Path(folder))
    orders = counter("orders", "number")
    for number in range(1000):
        orders.labels(str(number)).inc()
    counts = [sample.value for family in orders.collect() for sample in family.samples if "total" in sample.name]
    return [counts == [1.0] * 1000, app.failures > 0, os.path.getsize(f"{folder}/counter_s0.db") if most else 0]


@pytest.mark.parametrize("most", [0, FIRST_BYTES])
def test_file_size_limit_costs_what_does_not_fit_and_no_process(tmp_path: Path, most: int) -> None:
    """RLIMIT_FSIZE costs what does not fit, and no process."""
    with ProcessPoolExecutor(1, mp_context=SPAWN) as pool:
        assert pool.submit(limited, str(tmp_path), most).result(DEADLINE_SECONDS) == [True, True, most]
