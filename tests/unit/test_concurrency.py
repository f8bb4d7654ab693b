"""The lock around forks and the master's state, and the right that one process has."""

from __future__ import annotations

import _thread
import fcntl
import mmap
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from gunicorn_prom_hooks import concurrency
from gunicorn_prom_hooks.concurrency import ForkLock, SharedOnce, start_thread


@pytest.fixture(scope="module")
def lock() -> ForkLock:
    """One for all tests: its fork handlers cannot be taken back."""
    return ForkLock(lambda: None)


@pytest.mark.parametrize("seconds", [0.0, 0.01])
def test_free_lock_is_held_for_the_block_and_free_after_it(lock: ForkLock, seconds: float) -> None:
    """A free lock is held for the block, and is free again after it, also where the block fails."""
    with lock.try_hold(seconds) as held:
        assert held
        assert lock._lock.locked()
    assert not lock._lock.locked()
    with pytest.raises(KeyError), lock.try_hold(seconds):
        raise KeyError
    assert not lock._lock.locked()


@pytest.mark.parametrize("seconds", [0.0, 0.01])
def test_lock_held_by_another_is_not_taken_or_released(lock: ForkLock, seconds: float) -> None:
    """Where the lock is not to be had in time, the block runs all the same, and leaves the other's hold alone."""
    with lock.hold():
        with lock.try_hold(seconds) as held:
            assert not held
            assert lock._lock.locked()
        assert lock._lock.locked()
    assert not lock._lock.locked()


def test_try_hold_gets_a_lock_that_is_released_in_time(lock: ForkLock) -> None:
    """A waiting thread gets the lock when the holder releases it."""
    holding, done = threading.Event(), threading.Event()

    def hold() -> None:
        with lock.hold():
            holding.set()
            done.wait(30.0)

    thread = threading.Thread(target=hold, daemon=True)
    thread.start()
    assert holding.wait(30.0)
    with lock.try_hold(0.0) as held:
        assert not held
    done.set()
    with lock.try_hold(30.0) as held:
        assert held
    thread.join()


def test_thread_that_retakes_the_lock_does_not_starve_another(lock: ForkLock) -> None:
    """A thread that lets go of the lock and takes it at once, without end, does not keep another one from it."""
    stop = threading.Event()
    rounds = 0

    def hammer() -> None:
        nonlocal rounds
        while not stop.is_set():
            with lock.hold():
                rounds += 1
                sum(range(2000))

    thread = threading.Thread(target=hammer, daemon=True)
    thread.start()
    try:
        for _ in range(20):
            begun = rounds
            with lock.try_hold(30.0) as held:
                assert held
                assert rounds - begun < 2000
    finally:
        stop.set()
        thread.join()


def test_lock_is_held_during_a_fork_and_new_in_the_child() -> None:
    """The fork handlers hold the lock during the fork, let go of it in the parent, and make a new one in the child."""
    in_child: list[int] = []
    lock = ForkLock(lambda: in_child.append(1))
    with lock.hold():
        pass
    lock._before()
    assert lock._held_for_fork
    with lock.try_hold(0.0) as held:
        assert not held
    lock._after()
    lock._before()
    lock._child()
    with lock.try_hold(0.0) as held:
        assert held
    assert in_child == [1]


class SlowMemory:
    """A byte that other processes may change between a read of it and the use of what was read."""

    def __init__(self) -> None:
        self.memory = mmap.mmap(-1, 1)

    def __getitem__(self, at: int) -> int:
        value = self.memory[at]
        time.sleep(0.005)
        return value

    def __setitem__(self, at: int, value: int) -> None:
        self.memory[at] = value


def test_shared_once_is_claimed_by_one_of_many_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of processes that claim it at the same moment, exactly one gets it, each time."""
    for _ in range(5):
        once, ready = SharedOnce(), mmap.mmap(-1, 1)
        monkeypatch.setattr(once, "_claimed", SlowMemory())
        pids = []
        for _ in range(8):
            pid = os.fork()
            if pid == 0:
                while not ready[0]:
                    pass
                os._exit(1 if once.claim() else 0)
            pids.append(pid)
        ready[0] = 1
        assert sorted(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids) == [0] * 7 + [1]
        assert not once.claim()


def test_shared_once_without_its_lock_is_claimed_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the file lock fails or another process keeps it, the claim does not wait for ever."""
    with open(concurrency.__file__, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert SharedOnce().claim()
    monkeypatch.setattr(concurrency, "__file__", "/nowhere")
    assert SharedOnce().claim()


def test_right_without_shared_memory_is_one_of_each_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without memory to share the right is made all the same, since the config file makes it."""

    def no_memory(*_: object) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(mmap, "mmap", no_memory)
    right = SharedOnce()
    assert [right.claim(), right.claim()] == [True, False]


def test_thread_has_begun_when_it_is_started() -> None:
    """The function runs in another thread, with its arguments."""
    found: list[int] = []
    done = threading.Event()

    def run(number: int) -> None:
        found.extend((number, threading.get_ident()))
        done.set()

    start_thread(run, 7)
    assert done.wait(30.0)
    assert found[0] == 7
    assert found[1] != threading.get_ident()


def test_thread_that_ends_before_its_function_is_an_error_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that has ended without a call of its function, as without memory for its frame, is not waited for."""
    monkeypatch.setattr(_thread, "start_new_thread", lambda function, args: None)
    start = time.monotonic()
    with pytest.raises(RuntimeError, match="does not run"):
        start_thread(pytest.fail)
    assert time.monotonic() - start < concurrency.THREAD_SECONDS / 2


def test_thread_that_is_late_is_an_error_and_never_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that has not begun in time is an error. Its function is not called when it begins after all."""
    calls: list[str] = []
    begin: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
    monkeypatch.setattr(concurrency, "THREAD_SECONDS", 0.01)
    monkeypatch.setattr(_thread, "start_new_thread", lambda function, args: begin.append((function, args)))
    with pytest.raises(RuntimeError, match="does not run"):
        start_thread(calls.append, "ran")
    [(function, args)] = begin
    function(*args)
    assert calls == []
