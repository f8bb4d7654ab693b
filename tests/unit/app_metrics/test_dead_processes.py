"""Files of exited processes: gauges, merged files of programs, and files that another process removes."""

from __future__ import annotations

import atexit
import contextlib
import itertools
import json
import multiprocessing
import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from gunicorn.config import Config
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, multiprocess

from gunicorn_prom_hooks.app_metrics import dead_processes
from gunicorn_prom_hooks.app_metrics.dead_processes import Retired, hand_over, remove_live
from gunicorn_prom_hooks.app_metrics.directories.leftovers import find
from gunicorn_prom_hooks.app_metrics.reading.rewriting import User
from gunicorn_prom_hooks.app_metrics.setup import ApplicationMetrics, begin
from gunicorn_prom_hooks.errors import ErrorReporter
from gunicorn_prom_hooks.inherited_descriptors import close_inherited
from gunicorn_prom_hooks.settings import Settings
from tests.helpers.app_metrics import MODES, Process, Reader, rows, theirs

SPAWN = multiprocessing.get_context("spawn")
ME = User(os.geteuid(), os.getegid())
WHOLE = [mode for mode in MODES if not mode.startswith("live") and mode != "all"]


def value(folder: Path, name: str = "g") -> Any:
    """What prometheus_client and we read of this gauge, which is the same; by pid if it has that."""
    ours = Reader(folder).collect()
    assert rows(ours) == theirs(folder)
    found = {s.labels.get("pid", ""): s.value for family in ours for s in family.samples if s.name == name}
    return found.get("") if set(found) <= {""} else found


def generation(folder: Path, mode: str, *amounts: float) -> Process:
    """A worker in slot 0 that sets its gauge to these."""
    process = Process(folder, "s0")
    for amount in amounts:
        process.record(mode, "g", {}, amount)
    return process


@pytest.mark.parametrize("mode", WHOLE)
def test_gauges_of_successive_workers_in_one_file_merge_as_separate_files(tmp_path: Path, mode: str) -> None:
    """In the same file, and at each moment, what they are had each worker had a file of its own."""
    kept = tmp_path / "as if"
    folder = tmp_path / "files"
    for path in (kept, folder):
        path.mkdir()
    for number, amount in enumerate((5.0, -3.0, 9.0, 2.0)):
        hand_over(str(folder), "s0", "", None, contextlib.nullcontext)
        for path, identity in ((folder, "s0"), (kept, str(number))):
            process = Process(path, identity)
            process.record(mode, "g", {}, amount)
            process.record(mode, "h", {"a": str(number)}, amount)
            process.close()
        if mode != "mostrecent":
            assert theirs(folder) == theirs(kept)
        assert value(folder) == {"sum": 5 - 3 + 9 + 2}.get(mode, value(kept)) or number < 3
        assert len(list(folder.iterdir())) == 1


def test_gauge_value_stays_over_generations_that_do_not_set_it(tmp_path: Path) -> None:
    """Generations that have no gauge change nothing, however many."""
    generation(tmp_path, "sum", 4.0).close()
    for _ in range(5):
        hand_over(str(tmp_path), "s0", "", None, contextlib.nullcontext)
        assert value(tmp_path) == 4.0


def test_gauge_of_mode_all_has_the_pid_gone_for_exited_processes(tmp_path: Path) -> None:
    """The last value of one that is gone has the pid ``gone``; the successor has its own."""
    for amount in (5.0, 7.0):
        generation(tmp_path, "all", amount).close()
        hand_over(str(tmp_path), "s0", "", None, contextlib.nullcontext)
        assert value(tmp_path) == {"gone": amount}
    generation(tmp_path, "all", 1.0).close()
    assert value(tmp_path) == {"gone": 7.0, "s0": 1.0}
    assert {path.name for path in tmp_path.iterdir()} == {"gauge_all_gone.db", "gauge_all_s0.db"}


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode.startswith("live")])
@pytest.mark.parametrize("how", ["removed", "handed over"])
def test_live_gauges_are_removed_with_their_process_only(tmp_path: Path, mode: str, how: str) -> None:
    """They go with their process; those of others, and all else, stay."""
    generation(tmp_path, mode, 5.0).close()
    Process(tmp_path, "s1").record(mode, "g", {}, 3.0)
    Process(tmp_path, "s0").record("counter", "c", {}, 1.0)
    if how == "removed":
        remove_live(str(tmp_path), "s0")
    else:
        hand_over(str(tmp_path), "s0", "", None, contextlib.nullcontext)
    assert value(tmp_path) in (3.0, {"s1": 3.0})
    assert value(tmp_path, "c_total") == 1.0


def test_reader_sees_each_value_once_during_a_hand_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader between any two of its system calls reads the same."""
    for identity in ("s0", "s1"):
        process = Process(tmp_path, identity)
        for mode in WHOLE:
            process.record(mode, f"g_{mode}", {}, 5.0)
        process.close()
    expected = theirs(tmp_path)
    seen = []
    for module, name in ((os, "open"), (os, "pwrite"), (Path, "replace"), (Path, "unlink")):
        unpatched: Callable[..., Any] = getattr(module, name)

        def look_first(*args: Any, unpatched: Callable[..., Any] = unpatched, **more: Any) -> Any:
            with monkeypatch.context() as plain:
                plain.undo()
                seen.append(theirs(tmp_path))
            return unpatched(*args, **more)

        monkeypatch.setattr(module, name, look_first)
    hand_over(str(tmp_path), "s0", "", None, contextlib.nullcontext)
    monkeypatch.undo()
    assert len(seen) > 4
    assert all(rows == expected for rows in [*seen, theirs(tmp_path)])


def test_damaged_file_is_left_in_place_at_a_hand_over(tmp_path: Path) -> None:
    """It costs itself only."""
    (tmp_path / "gauge_sum_s0.db").write_bytes(b"x" * 100)
    generation(tmp_path, "max", 5.0).close()
    hand_over(str(tmp_path), "s0", "", None, contextlib.nullcontext)
    assert (tmp_path / "gauge_sum_s0.db").read_bytes() == b"x" * 100
    assert (tmp_path / "gauge_max_s0.db").exists()


# Programs that are gone


KINDS = ["counter", "histogram", "summary", "sum", "min", "max"]


def test_many_files_of_exited_programs_are_merged_and_removed_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many files are merged into one of each kind; a name that a reader has seen can still be opened for a while."""
    monkeypatch.setattr(dead_processes, "MOST_FILES", 20)
    clock = itertools.count()
    monkeypatch.setattr(time, "monotonic", lambda: 0.0)
    bounded = Retired("-7", ME, contextlib.nullcontext)
    kept = tmp_path / "as if"
    folder = tmp_path / "files"
    for path in (kept, folder):
        path.mkdir()
    living = Process(folder, "99999"), Process(kept, "99999")
    for number in range(1, 41):
        for path in (kept, folder):
            process = Process(path, str(number))
            for kind in KINDS:
                process.record(kind, f"m_{kind}", {"a": str(number % 3)}, float(number))
            process.close()
        for process in living:
            process.record("counter", "m_counter", {"a": "1"}, 1.0)
        names = os.listdir(folder)
        monkeypatch.setattr(time, "monotonic", lambda: 30.0 * next(clock))
        bounded.sweep(found for found in find(str(folder)) if found.owner.kind == "")
        assert theirs(folder) == theirs(kept)
        for name in names:
            assert name in os.listdir(folder) or (folder / name).with_suffix("").name.startswith(tuple("cghs"))
    assert len(os.listdir(folder)) <= 20 + 1 + 6 + 3 * 6 * 5
    assert (folder / "counter_99999.db").exists()
    for process in living:
        process.close()


def test_few_files_of_exited_programs_are_left_unchanged(tmp_path: Path) -> None:
    """Nothing is moved that need not be."""
    for number in range(1, 11):
        Process(tmp_path, str(number)).record("counter", "c", {}, 1.0)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    Retired("", ME, contextlib.nullcontext).sweep(find(str(tmp_path)))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


# Files that another process removes


class Log:
    """gunicorn's logger."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def error(self, msg: str, *args: object, **_: object) -> None:
        """Keeps the line."""
        self.lines.append(msg % args)

    warning = info = error


def in_new_process(function: Callable[..., Any], *args: object) -> Any:
    """What the function returns in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=SPAWN) as pool:
        return pool.submit(function, *args).result(60)


class Worker:
    """A forked worker that does what it is told."""

    def __init__(self, become: Callable[[], None], actions: dict[str, Callable[[], Any]]) -> None:
        self._orders, self._answers = os.pipe(), os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self._orders[1])
                become()
                with open(self._orders[0]) as orders:
                    for order in iter(orders.readline, "end\n"):
                        os.write(self._answers[1], json.dumps(actions[order.strip()]()).encode() + b"\n")
                atexit._run_exitfuncs()
            finally:
                os._exit(0)
        os.close(self._orders[0])
        os.close(self._answers[1])
        self._reader = os.fdopen(self._answers[0])

    def do(self, order: str) -> Any:
        """What came of it."""
        os.write(self._orders[1], order.encode() + b"\n")
        return json.loads(self._reader.readline())

    def end(self) -> None:
        """It ends."""
        os.write(self._orders[1], b"end\n")
        os.close(self._orders[1])
        os.waitpid(self.pid, 0)
        self._reader.close()


def tidied_away(temporary: str, what: str, shared: str) -> dict[str, Any]:
    """Counts of a master, workers alive and gone, and a child that is gone, before and after files are removed."""
    os.environ["TMPDIR"] = temporary
    server = SimpleNamespace(cfg=Config(), log=Log())
    errors = ErrorReporter()
    metrics = begin(server, Settings(multiproc_dir=shared), errors)
    assert isinstance(metrics, ApplicationMetrics)
    counter, busy = Counter("orders", "Help."), Gauge("busy", "Help.", multiprocess_mode="livesum")
    waited = Histogram("waited", "Help.", buckets=[1.0])

    def count() -> None:
        counter.inc()
        busy.set(1)
        waited.observe(0.5)

    def own() -> dict[str, float]:
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry, metrics._place.refresh())  # type: ignore[no-untyped-call]
        return {s.name: s.value for family in registry.collect() for s in family.samples}

    def fork() -> None:
        pid = os.fork()
        if pid == 0:
            counter.inc(10)
            os._exit(0)
        os.waitpid(pid, 0)

    def new_kind() -> None:
        Gauge("late", "Help.", multiprocess_mode="max").set(4)

    def page() -> float:
        found = {s.name: s.value for family in metrics.collect() for s in family.samples}
        return found.get("orders_total", 0.0)

    actions = {"count": count, "fork": fork, "own": own, "late": new_kind}
    count()
    metrics.before_fork(check_all=True)
    dead_processes = Worker(lambda: metrics.become_worker(1), actions)
    dead_processes.do("count")
    dead_processes.do("fork")
    dead_processes.end()
    metrics.worker_exited(1)
    metrics.before_fork(check_all=True)
    worker = Worker(lambda: metrics.become_worker(0), actions)
    worker.do("count")
    seen: dict[str, Any] = {"before": page()}
    path = Path(metrics._place.path)
    if what == "all":
        shutil.rmtree(path)
    elif what == "another's":
        shutil.rmtree(path)
        path.symlink_to(temporary)
    else:
        for file in path.glob(what):
            file.unlink()
    if what == "unseen":
        shutil.rmtree(path)
        worker.do("late")
    worker.do("count")
    seen["after"] = page()
    worker.do("count")
    seen["and then"] = page()
    seen["own"] = worker.do("own")
    metrics.before_fork(check_all=True)
    successor = Worker(lambda: metrics.become_worker(1), actions)
    successor.do("count")
    worker.do("fork")
    seen["successor"] = page()
    for each in (worker, successor):
        each.end()
    seen["end"] = page()
    metrics.close()
    seen["failures"] = dict(errors.counts)
    seen["said"] = sum("files were removed from" in line for line in server.log.lines)
    return seen


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("what", ["all", "*.db", "counter_*", "*.lock", "unseen", "another's"])
def test_files_removed_by_another_process_lose_no_counts(tmp_path: Path, what: str, shared: bool) -> None:
    """Whatever of it is removed: at once all is there that was seen before, and soon all that was counted."""
    if shared and what == "another's":
        pytest.skip("a link to a directory is the user's own decision there")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    found = in_new_process(tidied_away, str(temporary), what, str(tmp_path / "shared") if shared else "")
    own = found.pop("own")
    assert found.pop("after") in (13.0, 14.0)  # the worker has counted one since, and may not know yet
    assert found == {"before": 13.0, "and then": 15.0, "successor": 26.0, "end": 26.0, "failures": {}, "said": 1}
    assert own["orders_total"] == 15.0
    assert (own["waited_count"], own["busy"]) == (5.0, 2.0)
    assert [path.name for path in temporary.iterdir() if path.is_file()] == []


def scrape_and_fork(temporary: str) -> list[Any]:
    """What a process has inherited that is forked in the midst of a scrape which has found the directory gone."""
    os.environ["TMPDIR"] = temporary
    metrics = begin(SimpleNamespace(cfg=Config(), log=Log()), Settings(), ErrorReporter())
    assert isinstance(metrics, ApplicationMetrics)
    counter = Counter("orders", "Help.")
    counter.inc()
    path = Path(metrics._place.path)
    shutil.rmtree(path)
    path.symlink_to(temporary)
    inherited: list[Any] = []
    pread = os.pread

    def fork_first(*args: Any) -> bytes:
        os.pread = pread
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                close_inherited()
                links = [os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")]
                counter.inc(5)
                os.write(writing, json.dumps([link for link in links if link.startswith(temporary)]).encode())
            finally:
                os._exit(0)
        os.close(writing)
        with open(reading, "rb") as pipe:
            inherited.append(json.loads(pipe.read()))
        os.waitpid(pid, 0)
        return pread(*args)

    os.pread = fork_first
    metrics.collect()
    [orders] = [s.value for family in metrics.collect() for s in family.samples if s.name == "orders_total"]
    moved = metrics._place.path != str(path)
    metrics.close()
    return [moved, inherited, orders]


def test_child_forked_while_lost_files_are_replaced_has_no_parent_files_open(tmp_path: Path) -> None:
    """The child has nothing of the new directory open that is its parent's, and counts there all the same."""
    assert in_new_process(scrape_and_fork, str(tmp_path)) == [True, [[]], 6.0]
