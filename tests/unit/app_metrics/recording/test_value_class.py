"""What the application's metrics are made of: what a process reads of them, and what is in its files."""

from __future__ import annotations

import contextlib
import errno
import json
import multiprocessing
import os
import resource
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary, values
from prometheus_client.mmap_dict import MmapedDict

from gunicorn_prom_hooks.app_metrics.dead_processes import hand_over
from gunicorn_prom_hooks.app_metrics.reading.layouts import FIRST_BYTES
from gunicorn_prom_hooks.app_metrics.recording import blocks
from gunicorn_prom_hooks.app_metrics.recording.mapped_file import Damaged, MappedFile
from gunicorn_prom_hooks.app_metrics.recording.store import Store
from gunicorn_prom_hooks.app_metrics.recording.value_class import value_class
from gunicorn_prom_hooks.app_metrics.shared_path import SharedPath
from tests.helpers.app_metrics import MODES, Process, Reader, key_of, theirs, write

SPAWN = multiprocessing.get_context("spawn")
DEADLINE_SECONDS = 60.0


class App:
    """A process of the application: a store, and metrics that are made of it."""

    def __init__(self, folder: Path, identity: str = "s0", *, announced: bool = False, worker: bool = True) -> None:
        self.folder = folder
        self.identity = identity
        self.failures = 0
        self.place = SharedPath(str(folder))
        self.ensure: Callable[[], object] = lambda: None
        self.store = Store(self.place, self._folder, lambda: self.identity, self._failed, announced=announced)
        values.ValueClass = value_class(self.store)  # put back by the fixture
        if worker:
            self.store.become_worker()

    def _folder(self) -> str:
        self.ensure()
        return str(self.folder)

    def _failed(self) -> None:
        self.failures += 1

    def successor(self) -> App:
        """The process goes, and another one has its files from then on."""
        self.store._close()
        return App(self.folder, self.identity)

    def page(self) -> dict[str, float]:
        """Values of samples without labels, by name, over all processes."""
        return Reader(self.folder).values()

    def total(self, name: str) -> float:
        """The sum of the samples with this name."""
        return sum(s.value for family in Reader(self.folder).collect() for s in family.samples if s.name == name)


@pytest.fixture(autouse=True)
def _value_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "ValueClass", values.ValueClass)
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "")  # so that it is put back as it was
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR")


def read(metric: Any) -> dict[str, float]:
    """What this process reads of a metric."""
    return {
        f"{sample.name}{sample.labels.get('le', '')}": sample.value
        for family in metric.collect()
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def counter(name: str = "orders", *labels: str) -> Any:
    return Counter(name, "Help.", labels, registry=None)


def histogram(name: str = "seconds", buckets: tuple[float, ...] = (1.0, 2.0)) -> Any:
    return Histogram(name, "Help.", registry=None, buckets=buckets)


def in_fork(function: Callable[[], object]) -> Any:
    """What the function returns in a forked child, as JSON has it."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writing, json.dumps([function()]).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        [found] = json.loads(pipe.read())
    os.waitpid(pid, 0)
    return found


# What a process reads


def test_a_process_reads_what_it_counted_itself(tmp_path: Path) -> None:
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


def test_exemplars_and_resets(tmp_path: Path) -> None:
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


def test_made_twice(tmp_path: Path) -> None:
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
def test_a_fork(tmp_path: Path, announced: bool) -> None:
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
def test_the_master_and_its_workers(tmp_path: Path, announced: bool) -> None:
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


def test_a_fork_while_a_thread_counts(tmp_path: Path) -> None:
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


def test_a_child_lets_go_of_its_parents_files(tmp_path: Path) -> None:
    """No file of the parent stays open in a child, nor mapped."""
    App(tmp_path)
    counter().inc()

    def child() -> bool:
        links = [os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")]
        return any(str(tmp_path) in text for text in [*links, Path("/proc/self/maps").read_text()])

    assert not in_fork(child)


def test_counting_from_a_log_handler(tmp_path: Path) -> None:
    """What is told of a failure may count in its turn."""
    app = App(tmp_path / "missing")
    failures = counter("failures")
    app.store._failed = failures.inc
    counter().inc()
    assert read(failures) == {"failures_total": 1}


# What is in the files


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


def test_as_prometheus_client_writes_it(tmp_path: Path) -> None:
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


def test_goes_on_with_a_file_of_prometheus_clients(tmp_path: Path) -> None:
    """A file that prometheus_client has written, holes and all, is gone on with, and has no hole after that."""
    write(tmp_path / "counter_s0.db", {key_of("orders_total", family="orders"): 4.0})
    assert whole(tmp_path) != {"counter_s0.db"}
    app = App(tmp_path)
    counter().inc()
    assert app.page() == {"orders_total": 5}
    assert whole(tmp_path) == {"counter_s0.db"}


def whole(folder: Path) -> set[str]:
    """Files with a block behind each of their bytes."""
    return {path.name for path in folder.glob("*.db") if path.stat().st_blocks * 512 >= path.stat().st_size > 0}


def missing() -> Iterator[Callable[..., Any]]:
    """Ways in which a system or a file system does without posix_fallocate."""
    for number in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):

        def refuse(*_: object, number: int = number) -> None:
            raise OSError(number, os.strerror(number))

        yield refuse


@pytest.mark.parametrize("fallocate", ["works", None, *missing()])
def test_every_byte_has_a_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fallocate: Any) -> None:
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


# Files that are handed on, and those that are lost


def test_a_successor_and_the_gauges_of_its_predecessor(tmp_path: Path) -> None:
    """What is left of gauges has a key of its own in the file: a living value never goes on in it."""
    for number, amount in enumerate((5.0, 7.0, 1.0)):
        hand_over(str(tmp_path), "s0", "", None, contextlib.nullcontext)
        app = App(tmp_path)
        gauges = {mode: Gauge(f"g_{mode}", "Help.", multiprocess_mode=mode, registry=None) for mode in MODES}  # type: ignore[arg-type]
        assert [read(gauge) for gauge in gauges.values()] == [{name: 0.0} for name in (f"g_{mode}" for mode in MODES)]
        for mode, gauge in gauges.items():
            change = gauge.set if "mostrecent" in mode else gauge.inc
            change(amount)
        page, before = app.page(), (5.0, 7.0, 1.0)[: number + 1]
        assert page["g_sum"] == sum(before)
        assert (page["g_min"], page["g_max"]) == (min(before), max(before))
        assert [page[f"g_live{mode}"] for mode in ("sum", "min", "max")] == [amount] * 3
        assert Reader(tmp_path).rows() == theirs(tmp_path)
        app.store._close()
    assert app.failures == 0


@pytest.mark.parametrize("what", ["nothing", "removed", "seeded", "link", "folder"])
@pytest.mark.parametrize("count", [1, 2000])
def test_a_lost_file(tmp_path: Path, what: str, count: int) -> None:
    """All that the process has counted is in the new one, whatever was there; then it goes on in it."""
    folder = tmp_path / "files"
    folder.mkdir()
    app = App(folder)
    app.ensure = lambda: folder.mkdir(exist_ok=True)
    orders, waiting = counter("orders", "number"), Gauge("waiting", "Help.", multiprocess_mode="max", registry=None)
    for number in range(count):
        orders.labels(str(number)).inc(2)
    waiting.set(4)
    file = folder / "counter_s0.db"
    before = file.read_bytes()
    orders.labels("0").inc(3)
    if what == "folder":
        shutil.rmtree(folder)
    elif what != "nothing":
        file.unlink()
    if what == "seeded":
        file.write_bytes(before)
    elif what == "link":
        (tmp_path / "elsewhere").write_text("mine")
        file.symlink_to(tmp_path / "elsewhere")
    inode = file.stat().st_ino if what == "nothing" else None
    app.place.changed(str(folder))
    orders.labels("0").inc(5)
    waiting.inc()
    assert app.total("orders_total") == 2 * count + 8
    assert app.page()["waiting"] == 5
    assert whole(folder) == {"counter_s0.db", "gauge_max_s0.db"}
    assert inode in (None, file.stat().st_ino)
    for number in range(count, 2 * count):
        orders.labels(str(number)).inc(2)
    assert app.total("orders_total") == 4 * count + 8
    assert read(orders.labels("0")) == {"orders_total": 10}
    assert what != "link" or (tmp_path / "elsewhere").read_text() == "mine"
    assert Reader(folder).rows() == theirs(folder)
    assert app.failures == 0
    assert in_fork(lambda: [fd for fd in os.listdir("/proc/self/fd") if is_in(folder, fd)]) == []


def is_in(folder: Path, descriptor: str) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}").startswith(str(folder))
    except FileNotFoundError:
        return False


def test_no_room_for_a_lost_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process goes on in the one that is not there any more, and writes all of it at the next chance."""
    app = App(tmp_path)
    orders = counter()
    orders.inc(3)
    disk = Disk(monkeypatch, 0)
    counter("without").inc()
    seconds = histogram()
    seconds.observe(1)
    (tmp_path / "counter_s0.db").unlink()
    app.place.changed(str(tmp_path))
    orders.inc()
    seconds.observe(1)
    failures = app.failures
    for _ in range(5):
        orders.inc()
        seconds.observe(1)
    assert (list(tmp_path.iterdir()), app.failures) == ([], failures)
    disk.room = 1 << 20
    app.place.changed(str(tmp_path))
    seconds.observe(1.5)
    app.store.settle()
    assert app.page()["orders_total"] == 9
    assert (app.page()["seconds_count"], app.page()["seconds_sum"]) == (1, 1.5), "what had no room has another try"
    assert read(seconds)["seconds_count"] == 8
    assert whole(tmp_path) == {"counter_s0.db", "histogram_s0.db"}


def test_files_lost_before_a_fork(tmp_path: Path) -> None:
    """The child has none to make anew; its parent makes its own, before it ends at the latest."""
    app = App(tmp_path)
    orders = counter()
    orders.inc(3)
    (tmp_path / "counter_s0.db").unlink()
    app.place.changed(str(tmp_path))

    def child() -> None:
        app.identity = "p1"
        app.store.settle()
        orders.inc(5)

    in_fork(child)
    assert app.page() == {"orders_total": 5}
    app.store.settle()
    assert app.page() == {"orders_total": 8}


# Where there is no room


class Disk:
    """A disk that has room for so many bytes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, room: int, number: int = errno.ENOSPC) -> None:
        self.room = room
        self._number = number
        self._real = os.posix_fallocate
        monkeypatch.setattr(os, "posix_fallocate", self._fallocate)

    def _fallocate(self, descriptor: int, start: int, length: int) -> None:
        needed = start + length - os.fstat(descriptor).st_blocks * 512
        if needed > self.room:
            raise OSError(self._number, os.strerror(self._number))
        self.room -= max(needed, 0)
        self._real(descriptor, start, length)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO])
def test_no_room_for_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
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


def test_no_room_to_grow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_no_room_in_a_new_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, worker: bool) -> None:
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


def test_a_child_of_a_process_without_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_full_disk_is_no_matter_where_nothing_new_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_a_limit_on_the_size_of_files(tmp_path: Path, most: int) -> None:
    """RLIMIT_FSIZE costs what does not fit, and no process."""
    with ProcessPoolExecutor(1, mp_context=SPAWN) as pool:
        assert pool.submit(limited, str(tmp_path), most).result(DEADLINE_SECONDS) == [True, True, most]


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
def test_a_damaged_file_is_put_aside(tmp_path: Path, content: bytes) -> None:
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


def test_what_is_no_file(tmp_path: Path) -> None:
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


def test_nothing_is_kept_of_values_that_are_gone(tmp_path: Path) -> None:
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
