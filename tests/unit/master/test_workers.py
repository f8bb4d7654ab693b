"""The workers as the master knows them."""

from __future__ import annotations

import os
import time

import pytest

from gunicorn_prom_hooks.master.workers import TrackedWorker, WorkerRegistry
from gunicorn_prom_hooks.model.exits import ExitReason
from gunicorn_prom_hooks.shm.allocator import SlotAllocator
from gunicorn_prom_hooks.shm.layout import ABORT_AT, EXIT_MARK, QUIT_AT, RUNNING_AT
from gunicorn_prom_hooks.shm.slot import Slot
from tests.helpers.tracked_workers import Ended, Worker, a_roster


def mark(member: TrackedWorker, cell: int, value: float) -> None:
    """Writes into the header of a member's slot, as its worker would."""
    member.lease.slot.header[cell] = value


def test_an_end_is_told_while_the_slot_is_as_the_worker_left_it() -> None:
    """Whoever books an end finds the worker's marks in its slot; afterwards the slot is free and clean."""
    marks = []
    roster = WorkerRegistry(
        SlotAllocator(lambda: Slot(100, 1000)),
        lambda member, when, _: marks.append(member.lease.slot.header[EXIT_MARK]),
    )
    worker = Worker(1, os.getpid())
    member = roster.arrive(worker, "age")
    mark(member, EXIT_MARK, 8.0)
    roster.left(worker)
    assert marks == []
    roster.settle({1})
    assert marks == [8.0]
    assert member.lease.slot.header[EXIT_MARK] == 0.0
    assert roster.members() == []


def test_a_slot_is_free_even_where_booking_fails() -> None:
    """An error on the way of an end to the books costs the entry, not the slot."""

    def fail(member: TrackedWorker, when: float, reported: bool) -> None:
        raise ValueError

    roster = WorkerRegistry(SlotAllocator(lambda: Slot(100, 1000)), fail)
    worker = Worker(1, os.getpid())
    roster.arrive(worker, "age")
    roster.left(worker)
    with pytest.raises(ValueError):  # noqa: PT011 - it is our own
        roster.settle({1})
    assert roster.arrive(Worker(2), "age").lease.number == 0


def test_an_end_told_twice_is_booked_once() -> None:
    """A worker whose end is told again, before or after it is booked, counts once."""
    ended: Ended = []
    roster = a_roster(ended)
    worker = Worker(1, os.getpid())
    roster.arrive(worker, "age")
    roster.left(worker)
    roster.left(worker)
    roster.settle(set())
    roster.left(worker)
    roster.settle(set())
    assert [(member.worker, reported) for member, _, reported in ended] == [(worker, True)]


def test_why_a_worker_is_to_leave() -> None:
    """The oldest are told to go when there are too many; a reload is for all, whatever they were told before."""
    roster = a_roster()
    for age in (3, 1, 2):
        roster.arrive(Worker(age, os.getpid()), "age")
    roster.tell(ExitReason.SCALE_DOWN, 1)
    assert {member.worker.age: member.stop_reason for member in roster.members()} == {1: "scale_down", 2: None, 3: None}
    roster.tell(ExitReason.RELOAD)
    roster.tell(ExitReason.SCALE_DOWN, 2)
    roster.arrive(Worker(4, os.getpid()), "age")
    assert {member.worker.age: member.stop_reason for member in roster.members()} == {
        **dict.fromkeys((1, 2, 3), "reload"),
        4: None,
    }


def test_a_worker_that_never_arrived_is_not_booked() -> None:
    """The end of a worker that had no slot, or of another one of that age, changes nothing."""
    ended: Ended = []
    roster = a_roster(ended)
    kept = Worker(1, os.getpid())
    roster.arrive(kept, "age")
    roster.left(Worker(1, os.getpid()))
    roster.left(Worker(2, os.getpid()))
    roster.settle({1})
    assert [member.worker for member in roster.members()] == [kept]
    assert ended == []


@pytest.mark.parametrize(
    ("cells", "aborted", "row"),
    [
        ({QUIT_AT: 50.0}, False, ("quit", 50.0)),
        ({QUIT_AT: 50.0, ABORT_AT: 60.0}, False, ("abort", 60.0)),
        ({ABORT_AT: 60.0}, True, ("abort", 60.0)),
    ],
)
def test_the_departed_keep_their_final_state(cells: dict[int, float], aborted: bool, row: tuple[str, float]) -> None:
    """The row of a departed worker has its id, the state it ended in, and when it entered that."""
    roster = a_roster()
    worker = Worker(1, os.getpid(), aborted)
    member = roster.arrive(worker, "age")
    for cell, value in {RUNNING_AT: 40.0, **cells}.items():
        mark(member, cell, value)
    roster.left(worker)
    roster.settle(set())
    assert roster.departed == {0: (member.worker_id, *row)}


@pytest.mark.parametrize(("aborted", "state"), [(False, "quit"), (True, "abort")])
def test_a_worker_that_could_not_say_is_told_for(aborted: bool, state: str) -> None:
    """A killed worker wrote no final state: it has left when the master noticed."""
    roster = a_roster()
    worker = Worker(1, os.getpid(), aborted)
    roster.arrive(worker, "age")
    before = time.time()
    roster.left(worker)
    after = time.time()
    roster.settle(set())
    _, final, when = roster.departed[0]
    assert final == state
    assert before <= when <= after


def test_the_next_to_leave_a_slot_takes_the_row() -> None:
    """There is one departed row per slot: that of the worker that had it last."""
    roster = a_roster()
    workers = [Worker(age, os.getpid()) for age in (1, 2, 3)]
    for worker in workers[:2]:
        roster.arrive(worker, "age")
    roster.left(workers[0])
    roster.settle({2})
    third = roster.arrive(workers[2], "age")
    assert third.lease.number == 0
    roster.left(workers[2])
    roster.settle({2})
    assert list(roster.departed) == [0]
    assert roster.departed[0][0] == third.worker_id


def test_worker_ids() -> None:
    """worker_id is of age and time, or under worker_label slot of the slot alone."""
    roster = a_roster()
    before = int(time.time())
    by_age = roster.arrive(Worker(7), "age").worker_id
    prefix, age, when = by_age.split("_")
    assert (prefix, age) == ("worker", "7")
    assert before <= int(when) <= time.time()
    assert roster.arrive(Worker(8), "slot").worker_id == "worker_1"


def test_members_are_known_by_slot_and_by_worker() -> None:
    """The live are listed by slot number, and each is found by its worker."""
    roster = a_roster()
    workers = [Worker(age, os.getpid()) for age in (1, 2, 3)]
    for worker in workers[:2]:
        roster.arrive(worker, "age")
    roster.left(workers[0])
    roster.settle({2})
    roster.arrive(workers[2], "age")
    assert [member.worker.age for member in roster.members()] == [3, 2]
    assert roster.member(workers[1]) is roster.members()[1]
    assert roster.member(workers[0]) is None


def test_states_are_those_entered() -> None:
    """A member's states are the ones that its slot has a time for."""
    roster = a_roster()
    member = roster.arrive(Worker(1), "age")
    assert list(member.states) == ["booting"]
    mark(member, RUNNING_AT, 40.0)
    assert member.states["running"] == 40.0
    assert list(member.states) == ["booting", "running"]
