"""The workers as the master knows them."""

from __future__ import annotations

import os
import time

import pytest
from unit_roster import Worker, a_roster

from gunicorn_prom_hooks.master.roster import Member
from gunicorn_prom_hooks.scoreboard.layout import ABORT_AT, EXIT_MARK, QUIT_AT, RUNNING_AT


def mark(member: Member, cell: int, value: float) -> None:
    """Writes into the header of a member's slot, as its worker would."""
    member.lease.slot.header[cell] = value


@pytest.mark.parametrize(
    ("exit_mark", "aborted", "reason"),
    [
        (1.0, False, "restart"),
        (0.0, True, "timeout"),
        (1.0, True, "timeout"),
        (0.0, False, "error"),
        (2.0, False, "error"),
        (256.0, False, "error"),
    ],
)
def test_reasons(exit_mark: float, aborted: bool, reason: str) -> None:
    """An orderly exit with code 0 is a restart, gunicorn's abort a timeout, any other end an error."""
    roster = a_roster()
    worker = Worker(1, os.getpid(), aborted)
    mark(roster.arrive(worker, "age"), EXIT_MARK, exit_mark)
    roster.left(worker)
    assert sum(roster.restarts.values()) == 0
    roster.settle({1})
    assert roster.restarts == {"restart": 0, "timeout": 0, "error": 0, reason: 1}
    assert roster.members() == []


def test_an_end_told_twice_is_booked_once() -> None:
    """A worker whose end is told again, before or after it is booked, counts once."""
    roster = a_roster()
    worker = Worker(1, os.getpid())
    roster.arrive(worker, "age")
    roster.left(worker)
    roster.left(worker)
    roster.settle(set())
    roster.left(worker)
    roster.settle(set())
    assert sum(roster.restarts.values()) == 1


def test_a_worker_that_never_arrived_is_not_booked() -> None:
    """The end of a worker that had no slot, or of another one of that age, changes nothing."""
    roster = a_roster()
    kept = Worker(1, os.getpid())
    roster.arrive(kept, "age")
    roster.left(Worker(1, os.getpid()))
    roster.left(Worker(2, os.getpid()))
    roster.settle({1})
    assert [member.worker for member in roster.members()] == [kept]
    assert sum(roster.restarts.values()) == 0


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
