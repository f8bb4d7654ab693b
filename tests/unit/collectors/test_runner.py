"""Tasks that hang are left behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gunicorn_prom_hooks.collectors import runner
from gunicorn_prom_hooks.collectors.runner import Task, TaskRunner, TaskTimeout


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quarter of a second is a hang."""
    monkeypatch.setattr(runner, "HANG_SECONDS", 0.25)
    monkeypatch.setattr(runner, "LONGEST_SECONDS", 1.0)


@pytest.fixture
def door() -> Iterator[threading.Event]:
    """What hanging tasks wait for; opened at the end."""
    door = threading.Event()
    yield door
    door.set()


def gone(patient: TaskRunner) -> None:
    """Waits until nothing hangs."""
    deadline = time.monotonic() + 30.0
    while patient.hanging:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def raises(error: BaseException) -> Callable[[], None]:
    """A function that raises this."""

    def fails() -> None:
        raise error

    return fails


def test_what_returns_and_what_raises() -> None:
    """Each task has its own result, also where one before it raises, be it SystemExit."""
    patient = TaskRunner()
    tasks: list[Task[Any]] = [
        Task("a", lambda: 1),
        Task("b", raises(ValueError("b"))),
        Task("c", raises(SystemExit(3))),
        Task("d", list),
    ]
    patient.run(tasks)
    assert tasks[0].result() == 1
    with pytest.raises(ValueError, match="b"):
        tasks[1].result()
    with pytest.raises(SystemExit):
        tasks[2].result()
    assert tasks[3].result() == []
    assert not patient.hanging


def test_one_that_hangs_costs_itself_only(door: threading.Event) -> None:
    """The others have their results, the next round does not wait for it, and when it has returned it is run again."""
    patient = TaskRunner()
    runs: list[str] = []
    lasts: list[int] = []

    def hang() -> str:
        runs.append("hang")
        door.wait(30.0)
        return "late"

    def last() -> str:
        lasts.append(1)
        return "2"

    def round_() -> list[Task[str]]:
        tasks = [Task("first", lambda: "1"), Task("stuck", hang), Task("last", last)]
        patient.run(tasks)
        assert (tasks[0].result(), tasks[2].result()) == ("1", "2")
        return tasks

    with pytest.raises(TaskTimeout, match=r"stuck has not returned within 0\.\d s"):
        round_()[1].result()
    assert patient.hanging == {"stuck"}
    start = time.monotonic()
    for _ in range(20):
        with pytest.raises(TaskTimeout, match="since an earlier scrape"):
            round_()[1].result()
    assert time.monotonic() - start < 20 * 0.25
    assert runs == ["hang"]
    before = len(lasts)
    door.set()
    gone(patient)
    assert len(lasts) == before, "what was given up goes on with nothing else"
    assert round_()[1].result() == "late"
    assert runs == ["hang", "hang"]


def test_several_that_hang_have_a_thread_each(door: threading.Event) -> None:
    """Each that hangs is left behind on its own, and what is between them is run."""
    patient = TaskRunner()
    tasks = [Task[object](name, door.wait if name in "bd" else list) for name in "abcde"]
    patient.run(tasks)
    assert patient.hanging == {"b", "d"}
    assert [tasks[number].result() for number in (0, 2, 4)] == [[], [], []]


def test_one_that_computes_is_given_more_time_but_not_for_ever() -> None:
    """CPU time is progress: a slow task is waited for; an endless one is left behind after the longest time."""

    def compute(seconds: float) -> Callable[[], str]:
        def run() -> str:
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                pass
            return "done"

        return run

    patient = TaskRunner()
    slow, endless = Task("slow", compute(0.6)), Task("endless", compute(2.0))
    patient.run([slow, endless])
    assert slow.result() == "done"
    assert slow.seconds >= 0.6
    with pytest.raises(TaskTimeout):
        endless.result()
    gone(patient)


def test_without_another_thread_it_is_done_in_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system has no thread to give, tasks are run all the same."""

    def none_left(module: str, name: str) -> object:
        return raises(RuntimeError("can't start new thread")) if name == "start_new_thread" else threading.get_ident

    monkeypatch.setattr(runner, "unpatched", lambda module, name: lambda *_: none_left(module, name)())  # type: ignore[operator]
    task = Task("a", threading.get_ident)
    told: list[str] = []
    TaskRunner(lambda: told.append("no thread")).run([task])
    assert task.result() == threading.get_ident()
    assert told == ["no thread"]
