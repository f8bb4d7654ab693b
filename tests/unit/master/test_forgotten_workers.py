"""Workers whose end gunicorn does not tell."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.helpers.tracked_workers import Ended, Worker, a_roster


@pytest.fixture(scope="module")
def dead_pid() -> int:
    """The pid of a process that has ended and been waited for."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def test_a_worker_that_gunicorn_forgot_is_booked_when_it_is_dead(dead_pid: int) -> None:
    """A worker that gunicorn no longer has is booked, without being told, once its process is gone."""
    ended: Ended = []
    roster = a_roster(ended)
    gone, never_forked = Worker(1, dead_pid), Worker(2)
    for worker in (gone, never_forked):
        roster.arrive(worker, "age")
    roster.settle({1, 2})
    assert len(roster.members()) == 2
    roster.settle(set())
    assert [member.worker for member in roster.members()] == [never_forked]
    roster.settle(set(), forking=True)
    assert roster.members() == []
    assert [(member.worker, reported) for member, _, reported in ended] == [(gone, False), (never_forked, False)]
    assert roster.arrive(Worker(3), "age").lease.number == 0


def test_a_worker_still_alive_is_kept() -> None:
    """A worker that gunicorn no longer has, but whose process lives, keeps its slot: it may still write there."""
    roster = a_roster()
    roster.arrive(Worker(1, os.getpid()), "age")
    roster.settle(set())
    assert len(roster.members()) == 1
    assert roster.arrive(Worker(2), "age").lease.number == 1


def test_a_process_of_another_user_is_alive() -> None:
    """A pid that may not be signalled is one that exists."""
    roster = a_roster()
    roster.arrive(Worker(1, 1), "age")
    roster.settle(set())
    assert len(roster.members()) == 1
