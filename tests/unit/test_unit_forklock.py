"""The lock around forks and the master's state."""

from __future__ import annotations

import threading

import pytest

from gunicorn_prom_hooks.master.forklock import ForkLock


@pytest.fixture(scope="module")
def lock() -> ForkLock:
    """One for all tests: its fork handlers cannot be taken back."""
    return ForkLock(lambda: None)


@pytest.mark.parametrize("seconds", [0.0, 0.01])
def test_a_lock_that_is_to_be_had(lock: ForkLock, seconds: float) -> None:
    """A free lock is held for the block, and is free again after it, also where the block fails."""
    with lock.try_hold(seconds) as held:
        assert held
        assert lock._lock.locked()
    assert not lock._lock.locked()
    with pytest.raises(KeyError), lock.try_hold(seconds):
        raise KeyError
    assert not lock._lock.locked()


@pytest.mark.parametrize("seconds", [0.0, 0.01])
def test_a_lock_that_somebody_has(lock: ForkLock, seconds: float) -> None:
    """Where the lock is not to be had in time, the block runs all the same, and leaves the other's hold alone."""
    with lock.hold():
        with lock.try_hold(seconds) as held:
            assert not held
            assert lock._lock.locked()
        assert lock._lock.locked()
    assert not lock._lock.locked()


def test_a_lock_that_comes_free_in_time(lock: ForkLock) -> None:
    """Whoever waits gets the lock when its holder is done."""
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
