"""The plan of a soak: made of the seed alone, and possible."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.helpers.places import TOP
from tests.soak.plan import FEWEST, MOST, WORKER_CLASSES, WORKERS, Fault, make_plan


def test_same_seed_makes_the_same_plan_in_another_process() -> None:
    """A seed is enough to replay a run."""
    command = [sys.executable, "-m", "tests.soak", "--seed", "7", "--seconds", "60", "--worker-class", "asgi", "--plan"]
    printed = subprocess.run(command, cwd=TOP, check=True, capture_output=True, text=True).stdout
    assert printed.endswith(f"{make_plan(7, 'asgi', 60.0)}\n")


@pytest.mark.parametrize("worker", WORKER_CLASSES)
def test_seeds_and_kinds_of_workers_have_plans_of_their_own(worker: str) -> None:
    """No two plans are the same, and a longer one begins like the shorter one."""
    assert make_plan(1, worker, 30.0).lanes != make_plan(2, worker, 30.0).lanes
    assert len({make_plan(1, other, 30.0).lanes for other in WORKER_CLASSES}) == len(WORKER_CLASSES)
    short, long = make_plan(1, worker, 30.0), make_plan(1, worker, 90.0)
    assert long.lanes[1][: len(short.lanes[1])] == short.lanes[1]


@pytest.mark.parametrize("seed", range(20))
def test_minute_and_a_half_has_every_fault_and_nothing_impossible(seed: int) -> None:
    """Every fault is in the plan, the number of workers stays in bounds, and no new master starts with few files."""
    plan = make_plan(seed, "sync", 90.0)
    assert {event.fault for event in plan.events} == set(Fault)
    target = WORKERS
    for event in plan.lanes[1]:
        if event.fault in (Fault.HUP, Fault.USR2, Fault.PORT):
            target = WORKERS
        target += {Fault.TTIN: 1, Fault.TTOU: -1}.get(event.fault, 0)
        assert FEWEST <= target <= MOST
    few = [event for event in plan.events if event.fault is Fault.DESCRIPTORS]
    starts = [event for event in plan.events if event.fault in (Fault.USR2, Fault.PORT)]
    assert not [(a, b) for a in few for b in starts if a.at < b.end and b.at < a.end]
