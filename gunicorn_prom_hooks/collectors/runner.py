"""A collector that hangs costs its own families only: collectors run in a thread that is left behind if it hangs."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, TypeVar

from ..concurrency import new_lock, unpatched

HANG_SECONDS: Final = 1.0
"""A task that has done nothing for so long hangs."""
BUSY_SECONDS: Final = 0.02
"""CPU time in that time by which a task that computes is told: it is slow, or the machine is."""
LONGEST_SECONDS: Final = 5.0
"""How long a task may compute."""

T = TypeVar("T")


class TaskTimeout(Exception):
    """A task that is not waited for any longer, or still hangs from before."""


class Task(Generic[T]):
    """Something to be run, then what came of it.

    Attributes:
        name: of which no second one is started as long as one hangs.
        outcome: what it returned, or the exception that it raised; None as long as there is neither.
        seconds: how long it took.
    """

    def __init__(self, name: str, run: Callable[[], T]) -> None:
        self.name = name
        self.outcome: tuple[T] | BaseException | None = None
        self.seconds = 0.0
        self._run = run

    def attempt(self) -> tuple[T] | BaseException:
        """Runs it."""
        try:
            return (self._run(),)
        except BaseException as error:  # noqa: BLE001 - not even SystemExit ends the thread before the other tasks
            return error

    def result(self) -> T:
        """What it returned.

        Raises:
            BaseException: what it raised; ``TaskTimeout`` if it did not return.
        """
        outcome, self.outcome = self.outcome, None
        if isinstance(outcome, tuple):
            return outcome[0]
        raise outcome or TaskTimeout(f"{self.name} was not run")


class _Thread:
    """Runs tasks one after the other, until it is done or given up. One of the operating system's, no greenlet.

    Where the system has no thread to give they run in the calling one: without a deadline is better than not at all.
    """

    def __init__(self, tasks: Sequence[Task[Any]], failed: Callable[[], None]) -> None:
        self.done = new_lock()
        """Held until the last task has returned, or the one that it was given up at."""
        self._tasks = tasks
        self._turn = new_lock()
        self._at = 0
        self._began = time.monotonic()
        self._given_up = False
        self._cpu_clock: int | None = None
        self._cpu_began = 0.0
        self.done.acquire()
        try:
            unpatched("_thread", "start_new_thread")(self._run, ())
        except Exception:  # noqa: BLE001 - RuntimeError as a rule, or an error of an audit hook
            failed()
            self._run()

    def _run(self) -> None:
        try:
            with contextlib.suppress(AttributeError, OSError):  # not on every system
                self._cpu_clock = time.pthread_getcpuclockid(unpatched("_thread", "get_ident")())
            for task in self._tasks:
                outcome = task.attempt()
                with self._turn:
                    if self._given_up:
                        return
                    task.outcome, task.seconds = outcome, time.monotonic() - self._began
                    self._at += 1
                    self._began = time.monotonic()
                    self._cpu_began = self._cpu()
        finally:
            self.done.release()

    def wait(self) -> int | None:
        """Waits until all tasks are done; None then, else the number of one that hangs, at which it was given up."""
        at, since, cpu = 0, self._began, 0.0
        while not self.done.acquire(timeout=max(0.01, max(since, self._began) + HANG_SECONDS - time.monotonic())):
            with self._turn:
                now = time.monotonic()
                if at != self._at:
                    at, since, cpu = self._at, self._began, self._cpu_began
                if at == len(self._tasks) or now - since < HANG_SECONDS:
                    continue
                used, cpu, since = self._cpu() - cpu, self._cpu(), now
                if used < BUSY_SECONDS or now - self._began >= LONGEST_SECONDS:
                    self._given_up = True
                    self._tasks[at].seconds = now - self._began
                    return at
        self.done.release()
        return None

    def _cpu(self) -> float:
        """CPU seconds of the thread; of one that has ended the system does not know any more."""
        if self._cpu_clock is None:
            return 0.0
        try:
            return time.clock_gettime(self._cpu_clock)
        except OSError:
            return 0.0


class TaskRunner:
    """Runs tasks, and leaves behind what hangs: at most one thread per name, which ends when its task returns.

    Args:
        failed: called, while the exception is handled, where no thread can be started.
    """

    def __init__(self, failed: Callable[[], None] = lambda: None) -> None:
        self._failed = failed
        self._left: dict[str, _Thread] = {}

    @property
    def hanging(self) -> set[str]:
        """Names of the tasks that have not returned yet."""
        self._left = {name: thread for name, thread in self._left.items() if thread.done.locked()}
        return set(self._left)

    def run(self, tasks: Sequence[Task[Any]]) -> None:
        """Runs the tasks in this order. One that hangs costs the others a second, and nothing as long as it still does.

        Called by one thread at a time.
        """
        hanging = self.hanging
        for task in tasks:
            if task.name in hanging:
                task.outcome = TaskTimeout(f"{task.name} has not returned since an earlier scrape")
        rest = [task for task in tasks if task.outcome is None]
        while rest:
            thread = _Thread(rest, self._failed)
            number = thread.wait()
            if number is None:
                break
            stuck = rest[number]
            stuck.outcome = TaskTimeout(f"{stuck.name} has not returned within {stuck.seconds:.1f} s")
            self._left[stuck.name] = thread
            rest = rest[number + 1 :]
