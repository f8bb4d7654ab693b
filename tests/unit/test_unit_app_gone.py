"""What processes that are gone have counted: kept in memory once, and their files removed."""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
import tracemalloc
from collections.abc import Iterable
from pathlib import Path
from random import Random

import pytest
from gunicorn_prom_hooks.app_metrics.gone import IDENTITY
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.metrics_core import Metric
from unit_app_metrics import MODES, Process, content, key_of, rows, theirs, write

from gunicorn_prom_hooks.app_metrics.merge import Fate, MultiprocessFiles

KINDS = ["counter", "histogram", "summary", *MODES]
LABELS: list[dict[str, str]] = [{}, {"a": "1"}, {"a": "2"}]
ALL = "all_g"
"""The gauge that has a sample per process."""


class Server:
    """Processes with an application's metrics, some of them dead, a reader, and copies of what the dead have left."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "files"
        self._copies = folder / "copies"
        for path in (self.folder, self._copies):
            path.mkdir()
        self.processes: dict[str, Process] = {}
        self.fates: dict[str, Fate] = {}
        self.bad: list[tuple[str, str]] = []
        self.started = 0
        self.files = MultiprocessFiles(str(self.folder), lambda *told: self.bad.append(told), self.fate)

    def fate(self, identity: str) -> Fate:
        """What is done with this process's files."""
        return self.fates.get(identity, Fate.READ)

    def start(self) -> str:
        """A new process; pids do not come again here."""
        self.started += 1
        identity = f"p{self.started}"
        self.processes[identity] = Process(self.folder, identity)
        return identity

    def kill(self, identity: str) -> None:
        """This process is gone, and its files are there."""
        self.processes.pop(identity).close()
        for path in self.folder.glob(f"*_{identity}.db"):
            if not path.name.startswith("gauge_live"):
                shutil.copy(path, self._copies)
        self.fates[identity] = Fate.KEEP

    def collect(self) -> list[Metric]:
        """The families."""
        return self.files.collect()

    def close(self) -> None:
        """Ends all processes."""
        for process in self.processes.values():
            process.close()

    def check(self) -> None:
        """We say what prometheus_client would say had all files been kept, and only the files of the living are there.

        Raises:
            AssertionError: if not.
        """
        found = self.collect()
        with tempfile.TemporaryDirectory() as name:
            for source in (self._copies, self.folder):
                shutil.copytree(source, name, dirs_exist_ok=True)
            expected = theirs(Path(name))
        assert rows(without(found, ALL)) == {row: n for row, n in expected.items() if row[0] != ALL}
        per_process: dict[frozenset[tuple[str, str]], set[str]] = {}
        for row in expected:
            if row[0] == ALL:
                labels = dict(row[4])
                labels["pid"] = IDENTITY if labels["pid"] in self.fates else labels["pid"]
                per_process.setdefault(frozenset(labels.items()), set()).add(row[5])
        samples = [sample for family in found if family.name == ALL for sample in family.samples]
        assert {frozenset(sample.labels.items()) for sample in samples} == set(per_process)
        assert len(samples) == len(per_process)
        for sample in samples:
            assert repr(sample.value) in per_process[frozenset(sample.labels.items())]
        assert {path.stem.rsplit("_", 1)[1] for path in self.folder.iterdir()} <= set(self.processes)
        assert not self.bad


def without(families: Iterable[Metric], name: str) -> list[Metric]:
    """All but this one."""
    return [family for family in families if family.name != name]


def record(process: Process, kind: str, labels: dict[str, str], amount: float) -> None:
    """Changes the metric of this kind."""
    process.record(kind, f"{kind}_g", labels, amount)


def value(families: Iterable[Metric], name: str, **labels: str) -> float | None:
    """The sample with this name and exactly these labels; None if there is none."""
    found = [s.value for family in families for s in family.samples if (s.name, s.labels) == (name, labels)]
    assert len(found) <= 1
    return found[0] if found else None


@pytest.mark.parametrize("kind", KINDS)
def test_dead_and_living_together(tmp_path: Path, kind: str) -> None:
    """With three dead and two living processes, of each kind of metric, all is as if the files had been kept."""
    server = Server(tmp_path)
    dead, living = [server.start() for _ in range(3)], [server.start() for _ in range(2)]
    name = ALL if kind == "all" else "m"
    for number, identity in enumerate([dead[1], living[0], dead[0], living[1], dead[2]]):
        for labels in LABELS[1:]:
            server.processes[identity].record(kind, name, labels, [3, -4, 7, 1, -6][number] * int(labels["a"]))
    server.check()
    for identity in dead:
        server.kill(identity)
        for _ in range(3):
            server.check()
    for identity in living:
        server.processes[identity].record(kind, name, LABELS[1], 9.0)
    server.check()
    for identity in living:
        server.kill(identity)
    server.check()
    assert list(server.folder.iterdir()) == []
    server.check()


@pytest.mark.parametrize("mode", MODES)
def test_gauges_of_the_dead(tmp_path: Path, mode: str) -> None:
    """By its mode the gauge of a dead process counts as before, is labelled ``gone``, or is no more."""
    server = Server(tmp_path)
    first, second = server.start(), server.start()
    server.processes[first].record(mode, "g", {}, 5.0)
    server.kill(first)
    server.collect()
    (family,) = server.collect() or [Metric("g", "", "gauge")]
    of_the_dead = {tuple(sample.labels.items()): sample.value for sample in family.samples}
    if mode.startswith("live"):
        assert of_the_dead == {}
    else:
        assert of_the_dead == {(("pid", "gone"),) if mode == "all" else (): 5.0}
    server.processes[second].record(mode, "g", {}, 3.0)
    found = server.collect()
    expected = {"sum": 8.0, "min": 3.0, "max": 5.0, "mostrecent": 3.0, "all": 3.0}
    labels = {"pid": second} if mode.endswith("all") else {}
    assert value(found, "g", **labels) == (3.0 if mode.startswith("live") else expected[mode])
    server.close()


steps = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(KINDS), st.integers(0, 3), st.sampled_from(LABELS), st.integers(-9, 9).map(float)),
        st.tuples(st.just("kill"), st.integers(0, 3)),
        st.just(("check",)),
    ),
    min_size=1,
    max_size=30,
)


@settings(deadline=None, max_examples=150)
@given(steps)
def test_as_if_the_files_had_been_kept(some: list[tuple[object, ...]]) -> None:
    """Whatever four processes record, and whenever they are killed and replaced: as MultiProcessCollector has it."""
    with tempfile.TemporaryDirectory() as name:
        server = Server(Path(name))
        running = [server.start() for _ in range(4)]
        for step in some:
            match step:
                case ("check",):
                    server.check()
                case ("kill", int(number)):
                    server.kill(running[number])
                    running[number] = server.start()
                case (str(kind), int(number), dict(labels), float(amount)):
                    record(server.processes[running[number]], kind, labels, amount)
                case _:
                    raise AssertionError(step)
        server.check()
        server.check()
        server.close()


def test_nothing_is_counted_twice(tmp_path: Path) -> None:
    """However often it is collected, what a process counted is counted once, and the file is gone after the first."""
    server = Server(tmp_path)
    for amount in (2.0, 3.0):
        identity = server.start()
        server.processes[identity].record("counter", "c", {}, amount)
        server.kill(identity)
    for _ in range(50):
        assert value(server.collect(), "c_total") == 5.0
        assert list(server.folder.iterdir()) == []


def test_a_pid_that_comes_again(tmp_path: Path) -> None:
    """A later process with the pid of one that is gone adds to it, and when it is gone too, both count."""
    server = Server(tmp_path)
    for expected in (2.0, 4.0, 6.0):
        server.fates.clear()
        process = Process(server.folder, "p7")
        process.record("counter", "c", {}, 2.0)
        process.close()
        for fate in (Fate.READ, Fate.KEEP, Fate.KEEP):
            server.fates["p7"] = fate
            assert value(server.collect(), "c_total") == expected
        assert list(server.folder.iterdir()) == []


def test_a_file_that_cannot_be_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It counts once, is told as bad once, and is not looked at again until it is gone."""
    server = Server(tmp_path)
    living, dead = server.start(), server.start()
    for identity in (living, dead):
        server.processes[identity].record("counter", "c", {}, 2.0)
    server.kill(dead)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", refuse)
        for _ in range(20):
            assert value(server.collect(), "c_total") == 4.0
            assert server.bad == [(f"counter_{dead}.db", "cannot be removed: Operation not permitted")]
    (server.folder / f"counter_{dead}.db").unlink()
    assert value(server.collect(), "c_total") == 4.0
    server.fates.clear()
    again = Process(server.folder, dead)
    again.record("counter", "c", {}, 1.0)
    again.close()
    assert value(server.collect(), "c_total") == 5.0
    server.close()


def test_a_file_that_somebody_else_removes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That it is gone already is no failure."""
    server = Server(tmp_path)
    identity = server.start()
    server.processes[identity].record("counter", "c", {}, 2.0)
    server.kill(identity)
    unlink = Path.unlink

    def twice(path: Path, missing_ok: bool = False) -> None:
        unlink(path)
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", twice)
    for _ in range(2):
        assert value(server.collect(), "c_total") == 2.0
    assert server.bad == []


def test_a_damaged_file_of_the_dead_costs_itself_only(tmp_path: Path) -> None:
    """It is told, nothing of it is kept, and the others of that process are."""
    server = Server(tmp_path)
    write(server.folder / "counter_p1.db", {key_of("c_total", family="c"): 2.0})
    (server.folder / "summary_p1.db").write_bytes(b"x" * 100)
    server.fates["p1"] = Fate.KEEP
    for _ in range(2):
        assert value(server.collect(), "c_total") == 2.0
    assert {name for name, _ in server.bad} == {"summary_p1.db"}
    assert not (server.folder / "counter_p1.db").exists()


def test_a_process_killed_while_it_made_a_file(tmp_path: Path) -> None:
    """The empty file of a process that is gone is removed, and is not told as bad at each scrape for ever."""
    server = Server(tmp_path)
    path = server.folder / "counter_p1.db"
    path.touch()
    os.utime(path, (1, 1))
    server.fates["p1"] = Fate.KEEP
    server.collect()
    server.bad.clear()
    server.collect()
    assert server.bad == []


@settings(deadline=None, max_examples=150)
@given(
    st.lists(st.sampled_from(["count", "start", "kill", "collect", "collect"]), min_size=5, max_size=40),
    st.randoms(use_true_random=False),
)
def test_a_counter_never_goes_backwards(some: list[str], random: Random) -> None:
    """Processes count and die at any moment, also in the midst of a collect: no total is lower than the one before."""
    with tempfile.TemporaryDirectory() as name:
        server = Server(Path(name))
        counted = 0

        def count() -> None:
            nonlocal counted
            if server.processes:
                counted += 1
                process = server.processes[random.choice(sorted(server.processes))]
                process.record("counter", "c", {"a": random.choice("12")}, 1.0)

        def kill() -> None:
            if server.processes:
                server.kill(random.choice(sorted(server.processes)))

        def fate(identity: str) -> Fate:
            for action in random.sample([count, kill, count, server.start], random.randint(0, 3)):
                action()
            return server.fate(identity)

        server.files = MultiprocessFiles(str(server.folder), lambda *told: server.bad.append(told), fate)
        seen: dict[str, float] = {}
        for step in some:
            before = counted
            if step == "collect":
                now = totals(server.collect())
                assert before <= sum(now.values()) <= counted
                for label, total in seen.items():
                    assert now.get(label, 0.0) >= total
                seen = now
            else:
                {"count": count, "start": server.start, "kill": kill}[step]()
        while server.processes:
            kill()
        server.files._fate = server.fate
        for _ in range(2):
            assert sum(totals(server.collect()).values()) == counted
        assert server.bad == []
        assert list(server.folder.iterdir()) == []


def totals(families: Iterable[Metric]) -> dict[str, float]:
    """The counter's values by label."""
    return {sample.labels["a"]: sample.value for family in families for sample in family.samples}


def test_files_of_another_server_are_left(tmp_path: Path) -> None:
    """They are not read, not removed, and nobody is told if they are damaged."""
    server = Server(tmp_path)
    server.fates |= {"s0-9": Fate.LEAVE, "s1-9": Fate.LEAVE}
    write(server.folder / "counter_s0-9.db", {key_of("c_total", family="c"): 2.0})
    (server.folder / "counter_s1-9.db").write_bytes(b"x" * 100)
    write(server.folder / "counter_s0-8.db", {key_of("c_total", family="c"): 1.0})
    for _ in range(2):
        assert value(server.collect(), "c_total") == 1.0
    assert {path.name for path in server.folder.iterdir()} == {f"counter_{i}.db" for i in ("s0-9", "s1-9", "s0-8")}
    assert server.bad == []


def test_a_file_that_is_left_may_become_ours(tmp_path: Path) -> None:
    """It is asked at each collect."""
    server = Server(tmp_path)
    write(server.folder / "counter_1.db", {key_of("c_total", family="c"): 2.0})
    seen = []
    for fate in (Fate.READ, Fate.LEAVE, Fate.READ):
        server.fates["1"] = fate
        seen.append(value(server.collect(), "c_total"))
    assert seen == [2.0, None, 2.0]


def test_memory_is_that_of_the_label_sets(tmp_path: Path) -> None:
    """A thousand dead processes with the same label sets take no more room than the first hundred of them."""
    server = Server(tmp_path)
    data = content(tmp_path, {key_of("c_total", {"a": str(number)}, "c"): 1.0 for number in range(10)})

    def die(first: int, last: int) -> list[Metric]:
        found: list[Metric] = []
        for number in range(first, last):
            identity = f"p{number}"
            for typ in ("counter", "gauge_sum", "gauge_all", "gauge_livesum"):
                (server.folder / f"{typ}_{identity}.db").write_bytes(data.replace(b'"c', f'"{typ[-1]}'.encode()))
            if number % 10 == 9:
                found = server.collect()
        return found

    def ours() -> int:
        """Bytes that this package has made; other tests may have left threads that are still at work."""
        found = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, "*/app_metrics/*")])
        return sum(trace.size for trace in found.traces)

    server.files._fate = lambda identity: Fate.KEEP
    tracemalloc.start()
    try:
        die(0, 100)
        gc.collect()
        before = ours()
        found = die(100, 1000)
        gc.collect()
        grown = ours() - before
    finally:
        tracemalloc.stop()
    assert grown < 20_000
    counters = [sample for family in found if family.type == "counter" for sample in family.samples]
    assert [sample.value for sample in counters] == [1000.0] * 10
    assert sum(len(family.samples) for family in found) == 30
    assert list(server.folder.iterdir()) == []
