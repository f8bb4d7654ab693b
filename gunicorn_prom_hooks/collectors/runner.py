"""Runs collectors in threads, so that one that hangs costs its own families only."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, TypeVar

from ..concurrency import new_lock, start_thread

SCRAPE_SECONDS: Final = 8.0
"""Time for all collectors of a scrape. Prometheus gives up after 10 s by default, and encoding takes its time too.

Each collector may take half of what is left. So the first one, the application's metrics if there are any, has 4 s,
the next one, requests, still several times what 256 workers with 200 endpoints take, and the collectors after one that
hangs have time as well.
"""

T = TypeVar("T")


class TaskTimeout(Exception):
    """A task that has not returned in time, or has not returned since an earlier scrape."""


class Task(Generic[T]):
    """A function to be run by a ``TaskRunner``, and its outcome.

    Attributes:
        name: of the task. While a task is stuck, no other one with its name is started.
        outcome: the returned value in a tuple, or the exception; None until there is one.
        seconds: time that the task took.
    """

    def __init__(self, name: str, run: Callable[[], T]) -> None:
        self.name = name
        self.outcome: tuple[T] | BaseException | None = None
        self.seconds = 0.0
        self._run = run

    def attempt(self) -> tuple[T] | BaseException:
        """Run the function; return its value in a tuple, or the exception that it raised."""
        try:
            return (self._run(),)
        except BaseException as error:  # noqa: BLE001 - SystemExit included: it must not end the thread unseen
            return error

    def result(self) -> T:
        """Return the value and forget it.

        Raises:
            BaseException: what the function raised; ``TaskTimeout`` if it did not return.
        """
        outcome, self.outcome = self.outcome, None
        if isinstance(outcome, tuple):
            return outcome[0]
        raise outcome or TaskTimeout(f"{self.name} was not run")


class TaskRunner:
    """Runs tasks one after the other, each in a thread of the operating system. A stuck thread ends with its task.

    Where the system has no thread left, tasks run in the calling thread, without a deadline.

    Args:
        on_no_thread: called once per run, while the exception is handled, if no thread can be started.
    """

    def __init__(self, on_no_thread: Callable[[], None] = lambda: None) -> None:
        self._on_no_thread = on_no_thread
        self._threads: dict[str, Any] = {}
        """By name of a stuck task, the lock that its thread holds until the task returns."""

    @property
    def stuck(self) -> set[str]:
        """Names of the tasks that were given up and have not returned yet."""
        self._threads = {name: running for name, running in self._threads.items() if running.locked()}
        return set(self._threads)

    def run(self, tasks: Sequence[Task[Any]]) -> None:
        """Run the tasks in this order, within ``SCRAPE_SECONDS``. Stuck tasks are not started again.

        Called by one thread at a time.
        """
        deadline = time.monotonic() + SCRAPE_SECONDS
        stuck = self.stuck
        has_threads = True
        for task in tasks:
            if task.name in stuck:
                task.outcome = TaskTimeout(f"{task.name} has not returned since an earlier scrape")
                continue
            start = time.monotonic()
            has_threads = has_threads and self._run_in_thread(task, (deadline - start) / 2)
            if not has_threads:
                task.outcome = task.attempt()
            task.seconds = time.monotonic() - start

    def _run_in_thread(self, task: Task[Any], seconds: float) -> bool:
        """Run a task for at most this time. Return False if no thread can be started."""
        deadline = time.monotonic() + seconds
        running = new_lock()
        running.acquire()
        outcomes: list[tuple[Any] | BaseException] = []

        def run() -> None:
            try:
                outcomes.append(task.attempt())
            finally:
                running.release()

        try:
            start_thread(run)
        except Exception:  # noqa: BLE001 - RuntimeError as a rule, or an error of an audit hook
            self._on_no_thread()
            return False
        if running.acquire(timeout=max(0.0, deadline - time.monotonic())):
            [task.outcome] = outcomes
        else:
            self._threads[task.name] = running
            task.outcome = TaskTimeout(f"{task.name} has not returned within {seconds:.1f} s")
        return True
