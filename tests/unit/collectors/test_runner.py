"""Tasks that hang do not hold up the others."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gunicorn_prom_hooks.collectors import runner
from gunicorn_prom_hooks.collectors.runner import Task, TaskRunner, TaskTimeout


@pytest.fixture(autouse=True)
def _short_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run has one second, so its first task has half a second."""
    monkeypatch.setattr(runner, "SCRAPE_SECONDS", 1.0)


@pytest.fixture
def door() -> Iterator[threading.Event]:
    """An event that hanging tasks wait for; set at the end."""
    door = threading.Event()
    yield door
    door.set()


def wait_until_none_is_stuck(task_runner: TaskRunner) -> None:
    """Wait until all stuck tasks have returned."""
    deadline = time.monotonic() + 30.0
    while task_runner.stuck:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def raises(error: BaseException) -> Callable[[], None]:
    """Return a function that raises this."""

    def fails() -> None:
        raise error

    return fails


def test_each_task_has_its_own_result_or_exception() -> None:
    """A task after one that raises, be it SystemExit, has its result."""
    task_runner = TaskRunner()
    tasks: list[Task[Any]] = [
        Task("a", lambda: 1),
        Task("b", raises(ValueError("b"))),
        Task("c", raises(SystemExit(3))),
        Task("d", list),
    ]
    task_runner.run(tasks)
    assert tasks[0].result() == 1
    with pytest.raises(ValueError, match="b"):
        tasks[1].result()
    with pytest.raises(SystemExit):
        tasks[2].result()
    assert tasks[3].result() == []
    assert not task_runner.stuck


def test_hanging_task_costs_only_its_own_result_and_is_not_started_again(door: threading.Event) -> None:
    """The others have their results, the next runs do not wait for it, and after it has returned it is run again."""
    task_runner = TaskRunner()
    runs: list[str] = []

    def hang() -> str:
        runs.append("hang")
        door.wait(30.0)
        return "late"

    def run() -> list[Task[str]]:
        tasks = [Task("first", lambda: "1"), Task("stuck", hang), Task("last", lambda: "2")]
        task_runner.run(tasks)
        assert (tasks[0].result(), tasks[2].result()) == ("1", "2")
        return tasks

    with pytest.raises(TaskTimeout, match=r"stuck has not returned within 0\.5 s"):
        run()[1].result()
    assert task_runner.stuck == {"stuck"}
    threads = threading.active_count()
    start = time.monotonic()
    for _ in range(20):
        with pytest.raises(TaskTimeout, match="since an earlier scrape"):
            run()[1].result()
    assert time.monotonic() - start < 20 * 0.25
    assert runs == ["hang"]
    assert threading.active_count() <= threads
    door.set()
    wait_until_none_is_stuck(task_runner)
    assert run()[1].result() == "late"
    assert runs == ["hang", "hang"]


def test_hanging_tasks_share_the_deadline_and_the_others_have_results(door: threading.Event) -> None:
    """Each stuck task takes half of the time that is left, so the run ends in time and the tasks between are run."""
    task_runner = TaskRunner()
    tasks = [Task[object](name, door.wait if name in "bdfh" else list) for name in "abcdefghi"]
    start = time.monotonic()
    task_runner.run(tasks)
    assert 0.8 < time.monotonic() - start < 2.0
    assert task_runner.stuck == {"b", "d", "f", "h"}
    assert [task.result() for task in tasks[::2]] == [[]] * 5


def test_late_result_of_a_stuck_task_is_discarded(door: threading.Event) -> None:
    """A task that returns after its deadline stays failed."""
    task_runner = TaskRunner()
    task = Task("stuck", door.wait)
    task_runner.run([task])
    door.set()
    wait_until_none_is_stuck(task_runner)
    with pytest.raises(TaskTimeout):
        task.result()


def test_computing_task_has_its_result_before_the_deadline_and_not_after() -> None:
    """A slow task is waited for; an endless one is given up."""

    def compute(seconds: float) -> Callable[[], str]:
        def run() -> str:
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                pass
            return "done"

        return run

    task_runner = TaskRunner()
    slow, endless = Task("slow", compute(0.3)), Task("endless", compute(2.0))
    task_runner.run([slow, endless])
    assert slow.result() == "done"
    assert slow.seconds >= 0.3
    with pytest.raises(TaskTimeout):
        endless.result()
    wait_until_none_is_stuck(task_runner)


def test_tasks_run_in_the_calling_thread_if_none_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a thread of the system all tasks are run, and the failure is reported once per run."""

    def no_thread(*args: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(runner, "start_thread", no_thread)
    tasks = [Task(name, threading.get_ident) for name in "ab"]
    reports: list[str] = []
    TaskRunner(lambda: reports.append("no thread")).run(tasks)
    assert [task.result() for task in tasks] == [threading.get_ident()] * 2
    assert reports == ["no thread"]
