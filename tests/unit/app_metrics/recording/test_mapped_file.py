"""The files as prometheus_client writes them: format, disk blocks, and damaged ones."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import Gauge, Summary
from prometheus_client.mmap_dict import MmapedDict

from gunicorn_prom_hooks.app_metrics.reading.layouts import FIRST_BYTES
from gunicorn_prom_hooks.app_metrics.recording.mapped_file import Damaged, MappedFile
from tests.helpers.app_metrics import MODES, Process, Reader, key_of, theirs, write
from tests.helpers.forks import in_fork
from tests.helpers.recorded_metrics import App, counter, histogram, missing, read, whole

pytestmark = pytest.mark.usefixtures("_value_class")


def record(folder: Path, make_metrics: Callable[[], None]) -> None:
    """Runs this with prometheus_client's own values, which write to this directory."""
    process = Process(folder, "s0")
    with process._multiprocess():
        make_metrics()
    process.close()


def use_everything() -> None:
    """All types and modes, with labels and without."""
    for number, mode in enumerate(MODES):
        made: Any = Gauge(f"g_{mode}", "Help.", ["a"], registry=None, multiprocess_mode=mode)  # type: ignore[arg-type]
        made.labels("x").set(number)
    counter("c", "a", "b").labels("ü\n", "").inc(2.5)
    counter("plain")
    histogram().observe(1.5)
    Summary("size", "Help.", ["a"], registry=None).labels("1").observe(3)
    level = Gauge("level", "Help.", registry=None, multiprocess_mode="sum")
    level.inc(5)
    level.dec(2)


def test_files_have_the_names_keys_and_values_that_prometheus_client_writes(tmp_path: Path) -> None:
    """The files have the same names, the same keys in the same order, and the same numbers as prometheus_client's."""
    for name in ("ours", "theirs"):
        (tmp_path / name).mkdir()
    App(tmp_path / "ours")
    use_everything()
    record(tmp_path / "theirs", use_everything)
    names = {path.name for path in (tmp_path / "theirs").iterdir()}
    assert {path.name for path in (tmp_path / "ours").iterdir()} == names

    def entries(folder: str, name: str) -> list[tuple[str, float]]:
        found = MmapedDict.read_all_values_from_file(str(tmp_path / folder / name))  # type: ignore[no-untyped-call]
        return [(key, value) for key, value, _, _ in found]

    for name in names:
        assert entries("ours", name) == entries("theirs", name)
    assert theirs(tmp_path / "ours") == theirs(tmp_path / "theirs")


def test_file_of_prometheus_client_is_continued_and_has_no_holes(tmp_path: Path) -> None:
    """A file that prometheus_client has written, holes and all, is gone on with, and has no hole after that."""
    write(tmp_path / "counter_s0.db", {key_of("orders_total", family="orders"): 4.0})
    assert whole(tmp_path) != {"counter_s0.db"}
    app = App(tmp_path)
    counter().inc()
    assert app.page() == {"orders_total": 5}
    assert whole(tmp_path) == {"counter_s0.db"}


@pytest.mark.parametrize("fallocate", ["works", None, *missing()])
def test_every_byte_of_a_file_has_a_disk_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fallocate: Any) -> None:
    """On every path there is: first made, grown, forked, become a worker, made of a file with holes."""
    if fallocate is None:
        monkeypatch.delattr(os, "posix_fallocate")
    elif fallocate != "works":
        monkeypatch.setattr(os, "posix_fallocate", fallocate)
    app = App(tmp_path, "m", worker=False)
    orders = counter("orders", "number")
    seconds = histogram()
    for number in range(1000):
        orders.labels(str(number)).inc()
    seconds.observe(1)
    assert (tmp_path / "counter_m.db").stat().st_size > FIRST_BYTES

    def child(identity: str, *, worker: bool) -> list[str]:
        app.identity = identity
        if worker:
            app.store.become_worker()
        for number in range(2000):
            orders.labels(str(number)).inc()
        seconds.observe(1)
        return sorted(whole(tmp_path))

    in_fork(lambda: child("s0", worker=True))
    found = in_fork(lambda: child("p1", worker=False))
    assert found == sorted(f"{typ}_{identity}.db" for typ in ("counter", "histogram") for identity in ("m", "p1", "s0"))
    assert app.failures == 0
    assert sum(sample.value for family in Reader(tmp_path).collect() for sample in family.samples) > 5000


@pytest.mark.parametrize(
    "content",
    [
        b"\xff" * 100,
        (100).to_bytes(4, "little") + bytes(4) + b"\xff\xff\xff\x7f" + bytes(100),
        (100).to_bytes(4, "little") + bytes(4) + b"\xff\xff\xff\xff" + bytes(100),
        (10).to_bytes(4, "little") + bytes(100),
        (1 << 20).to_bytes(4, "little") + bytes(100),
        (4).to_bytes(4, "little"),
    ],
)
def test_damaged_file_is_renamed_and_replaced(tmp_path: Path, content: bytes) -> None:
    """It is kept under another name, and the process has a new one."""
    path = tmp_path / "counter_s0.db"
    path.write_bytes(content)
    with pytest.raises(Damaged):
        MappedFile(str(path))
    app = App(tmp_path)
    counter().inc()
    assert app.page() == {"orders_total": 1}
    assert path.with_suffix(".damaged").read_bytes().startswith(content)
    assert app.failures == 1


def test_pipe_link_or_directory_in_place_of_a_file_is_not_written_to(tmp_path: Path) -> None:
    """A pipe is put aside; a link or a directory in the place of a file is not followed, and costs no process."""
    os.mkfifo(tmp_path / "counter_s0.db")
    (tmp_path / "elsewhere").write_text("mine")
    (tmp_path / "histogram_s0.db").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "summary_s0.db").mkdir()
    app = App(tmp_path)
    counter().inc()
    seconds, size = histogram(), Summary("size", "Help.", registry=None)
    seconds.observe(1)
    size.observe(1)
    assert (read(seconds)["seconds_count"], read(size)["size_count"]) == (1, 1)
    assert app.page()["orders_total"] == 1
    assert (tmp_path / "elsewhere").read_text() == "mine"


def test_file_whose_descriptor_a_daemon_has_closed_is_extended_and_no_other(tmp_path: Path) -> None:
    """A process that has closed all descriptors has other files under their numbers: these stay as they are."""
    app = App(tmp_path)
    orders = counter("orders", "number")
    orders.labels("1").inc()
    mapped = app.store._files["counter"]
    number = mapped._descriptor
    other = tmp_path / "other"
    other.write_text("mine")
    with other.open("r+b") as file:
        os.dup2(file.fileno(), number)
        for each in range(FIRST_BYTES // 100):
            orders.labels(str(each) * 20).inc()
        assert app.failures == 0
        assert mapped._descriptor != number
        assert app.total("orders_total") == 1 + FIRST_BYTES // 100
        mapped._descriptor = number
        app.store._close()
        assert os.path.samestat(os.fstat(number), other.stat()), "it is not closed"
        os.close(number)
    assert other.read_text() == "mine"
