"""The registry of workers: slots, stop reasons, and exits that gunicorn reports or does not report."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from gunicorn_prom_hooks.master.workers import TrackedWorker, WorkerRegistry
from gunicorn_prom_hooks.model.exits import ExitReason
from gunicorn_prom_hooks.shm.allocator import SlotAllocator
from gunicorn_prom_hooks.shm.layout import ABORT_AT, EXIT_MARK, QUIT_AT, RUNNING_AT
from gunicorn_prom_hooks.shm.slot import Slot
from tests.helpers.tracked_workers import RecordedExits, Worker, new_registry


def set_cell(tracked: TrackedWorker, cell: int, value: float) -> None:
    """Write into the header of a worker's slot, as the worker would."""
    tracked.lease.slot.header[cell] = value


def stop_reasons(registry: WorkerRegistry) -> dict[int, ExitReason | None]:
    """Return the stop reason of each live worker by age."""
    return {tracked.worker.age: tracked.stop_reason for tracked in registry.live()}


def test_exit_is_recorded_before_the_slot_is_wiped() -> None:
    """At ``record_exit`` the worker's marks are in its slot. Afterwards the slot is free and clean."""
    marks = []

    class ReadsMark:
        def record_exit(self, tracked: TrackedWorker, clock: float, *, reported: bool) -> None:
            marks.append(tracked.lease.slot.header[EXIT_MARK])

    registry = WorkerRegistry(SlotAllocator(lambda: Slot(100, 1000)), ReadsMark())
    worker = Worker(1, os.getpid())
    tracked = registry.add(worker, "age")
    set_cell(tracked, EXIT_MARK, 8.0)
    registry.queue_exit(worker)
    assert marks == []
    registry.reconcile({1})
    assert marks == [8.0]
    assert tracked.lease.slot.header[EXIT_MARK] == 0.0
    assert registry.live() == []


def test_slot_is_free_even_if_recording_the_exit_fails() -> None:
    """An exception from ``record_exit`` does not keep the slot leased."""

    class Fails:
        def record_exit(self, tracked: TrackedWorker, clock: float, *, reported: bool) -> None:
            raise ValueError

    registry = WorkerRegistry(SlotAllocator(lambda: Slot(100, 1000)), Fails())
    worker = Worker(1, os.getpid())
    registry.add(worker, "age")
    registry.queue_exit(worker)
    with pytest.raises(ValueError):  # noqa: PT011 - raised above
        registry.reconcile({1})
    assert registry.add(Worker(2), "age").lease.number == 0


def test_exit_queued_twice_is_recorded_once() -> None:
    """A worker whose exit is queued again, before or after it is recorded, is recorded once."""
    exits = RecordedExits()
    registry = new_registry(exits)
    worker = Worker(1, os.getpid())
    registry.add(worker, "age")
    registry.queue_exit(worker)
    registry.queue_exit(worker)
    registry.reconcile(set())
    registry.queue_exit(worker)
    registry.reconcile(set())
    assert [(tracked.worker, reported) for tracked, _, reported in exits.calls] == [(worker, True)]


def test_mark_stopping_marks_the_oldest_at_scale_down_and_all_at_reload() -> None:
    """A scale-down marks the oldest workers. A reload marks all, and overrides earlier reasons."""
    registry = new_registry()
    for age in (3, 1, 2):
        registry.add(Worker(age, os.getpid()), "age")
    registry.mark_stopping(ExitReason.SCALE_DOWN, 1)
    assert {tracked.worker.age: tracked.stop_reason for tracked in registry.live()} == {
        1: "scale_down",
        2: None,
        3: None,
    }
    registry.mark_stopping(ExitReason.RELOAD)
    registry.mark_stopping(ExitReason.SCALE_DOWN, 2)
    registry.add(Worker(4, os.getpid()), "age")
    assert stop_reasons(registry) == {1: "reload", 2: "reload", 3: "reload", 4: None}


def test_unmark_scaled_down_forgets_old_marks_of_a_scale_down_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mark stays as long as the worker may need to exit, and that of a reload for good."""
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    registry = new_registry()
    for age in (1, 2):
        registry.add(Worker(age, os.getpid()), "age")
    registry.mark_stopping(ExitReason.SCALE_DOWN, 1)
    now[0] = 134.0
    registry.unmark_scaled_down(35.0)
    assert stop_reasons(registry) == {1: "scale_down", 2: None}
    now[0] = 135.1
    registry.unmark_scaled_down(35.0)
    assert stop_reasons(registry) == {1: None, 2: None}
    registry.mark_stopping(ExitReason.RELOAD)
    now[0] = 1000.0
    registry.unmark_scaled_down(35.0)
    assert stop_reasons(registry) == {1: "reload", 2: "reload"}


def test_exit_of_an_unknown_worker_is_ignored() -> None:
    """The exit of a worker without a slot, or of another object with that age, has no effect."""
    exits = RecordedExits()
    registry = new_registry(exits)
    kept = Worker(1, os.getpid())
    registry.add(kept, "age")
    registry.queue_exit(Worker(1, os.getpid()))
    registry.queue_exit(Worker(2, os.getpid()))
    registry.reconcile({1})
    assert [tracked.worker for tracked in registry.live()] == [kept]
    assert exits.calls == []


@pytest.mark.parametrize(
    ("cells", "aborted", "row"),
    [
        ({QUIT_AT: 50.0}, False, ("quit", 50.0)),
        ({QUIT_AT: 50.0, ABORT_AT: 60.0}, False, ("abort", 60.0)),
        ({ABORT_AT: 60.0}, True, ("abort", 60.0)),
    ],
)
def test_departed_row_has_the_final_state(cells: dict[int, float], aborted: bool, row: tuple[str, float]) -> None:
    """The row of an exited worker has its id, its final state, and the time at which it entered that state."""
    registry = new_registry()
    worker = Worker(1, os.getpid(), aborted)
    tracked = registry.add(worker, "age")
    for cell, value in {RUNNING_AT: 40.0, **cells}.items():
        set_cell(tracked, cell, value)
    registry.queue_exit(worker)
    registry.reconcile(set())
    assert registry.departed == {0: (tracked.worker_id, *row)}


@pytest.mark.parametrize(("aborted", "state"), [(False, "quit"), (True, "abort")])
def test_killed_worker_gets_its_final_state_from_the_master(aborted: bool, state: str) -> None:
    """A killed worker wrote no final state. Its time is the one at which the exit was queued."""
    registry = new_registry()
    worker = Worker(1, os.getpid(), aborted)
    registry.add(worker, "age")
    before = time.time()
    registry.queue_exit(worker)
    after = time.time()
    registry.reconcile(set())
    _, final, when = registry.departed[0]
    assert final == state
    assert before - 0.001 <= when <= after + 0.001  # both clocks are floats, and read one after the other


def test_departed_row_of_a_slot_is_that_of_its_last_worker() -> None:
    """The row of a slot is that of the last worker that exited from it."""
    registry = new_registry()
    workers = [Worker(age, os.getpid()) for age in (1, 2, 3)]
    for worker in workers[:2]:
        registry.add(worker, "age")
    registry.queue_exit(workers[0])
    registry.reconcile({2})
    third = registry.add(workers[2], "age")
    assert third.lease.number == 0
    registry.queue_exit(workers[2])
    registry.reconcile({2})
    assert list(registry.departed) == [0]
    assert registry.departed[0][0] == third.worker_id


def test_worker_id_has_age_and_time_or_only_the_slot() -> None:
    """worker_id has age and time, or with worker_label slot only the slot."""
    registry = new_registry()
    before = int(time.time())
    by_age = registry.add(Worker(7), "age").worker_id
    prefix, age, when = by_age.split("_")
    assert (prefix, age) == ("worker", "7")
    assert before <= int(when) <= time.time()
    assert registry.add(Worker(8), "slot").worker_id == "worker_1"


def test_live_is_ordered_by_slot_and_get_finds_the_worker_object() -> None:
    """``live`` is ordered by slot number, and ``get`` finds a worker by its object."""
    registry = new_registry()
    workers = [Worker(age, os.getpid()) for age in (1, 2, 3)]
    for worker in workers[:2]:
        registry.add(worker, "age")
    registry.queue_exit(workers[0])
    registry.reconcile({2})
    registry.add(workers[2], "age")
    assert [tracked.worker.age for tracked in registry.live()] == [3, 2]
    assert registry.get(workers[1]) is registry.live()[1]
    assert registry.get(workers[0]) is None


def test_states_are_those_with_a_time_in_the_slot() -> None:
    """The states are those for which the slot has a time."""
    registry = new_registry()
    tracked = registry.add(Worker(1), "age")
    assert list(tracked.states) == ["booting"]
    set_cell(tracked, RUNNING_AT, 40.0)
    assert tracked.states["running"] == 40.0
    assert list(tracked.states) == ["booting", "running"]


@pytest.fixture(scope="module")
def dead_pid() -> int:
    """The pid of a process that has exited and been reaped."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def test_unreported_exit_is_recorded_once_the_process_is_gone(dead_pid: int) -> None:
    """A worker that gunicorn no longer has is recorded once its process is gone; a failed fork at the next fork."""
    exits = RecordedExits()
    registry = new_registry(exits)
    gone, never_forked = Worker(1, dead_pid), Worker(2)
    for worker in (gone, never_forked):
        registry.add(worker, "age")
    registry.reconcile({1, 2})
    assert len(registry.live()) == 2
    registry.reconcile(set())
    assert [tracked.worker for tracked in registry.live()] == [never_forked]
    registry.record_queued_exits(forking=True)
    assert registry.live() == []
    assert [(tracked.worker, reported) for tracked, _, reported in exits.calls] == [
        (gone, False),
        (never_forked, False),
    ]
    assert registry.add(Worker(3), "age").lease.number == 0


def test_exit_found_before_gunicorn_reports_it_waits_for_the_report(
    dead_pid: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within the grace period a worker that was reaped is not recorded; its report is, or after it the exit itself."""
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    exits = RecordedExits()
    registry = new_registry(exits)
    reported, unreported = Worker(1, dead_pid), Worker(2, dead_pid)
    for worker in (reported, unreported):
        registry.add(worker, "age")
    registry.reconcile(set(), grace=1.0)
    now = 100.9
    registry.reconcile(set(), grace=1.0)
    assert len(registry.live()) == 2
    registry.queue_exit(reported)
    now = 101.0
    registry.reconcile(set(), grace=1.0)
    assert [(tracked.worker, clock, told) for tracked, clock, told in exits.calls] == [
        (reported, 100.9, True),
        (unreported, 100.0, False),
    ]


def test_worker_that_has_ended_is_recorded_though_another_process_gets_its_pid(
    dead_pid: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within the grace period its pid may be given to another process, which is not taken for the worker."""
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    exits = RecordedExits()
    registry = new_registry(exits)
    worker = Worker(1, dead_pid)
    registry.add(worker, "age")
    registry.reconcile(set(), grace=1.0)
    worker.pid = os.getpid()
    now = 101.0
    registry.reconcile(set(), grace=1.0)
    assert [(tracked.worker, clock) for tracked, clock, _ in exits.calls] == [(worker, 100.0)]


def test_live_process_that_gunicorn_no_longer_has_keeps_its_slot() -> None:
    """The process may still write into its slot."""
    registry = new_registry()
    registry.add(Worker(1, os.getpid()), "age")
    registry.reconcile(set())
    assert len(registry.live()) == 1
    assert registry.add(Worker(2), "age").lease.number == 1


def test_process_of_another_user_keeps_its_slot() -> None:
    """A pid that may not be signaled exists."""
    registry = new_registry()
    registry.add(Worker(1, 1), "age")
    registry.reconcile(set())
    assert len(registry.live()) == 1
