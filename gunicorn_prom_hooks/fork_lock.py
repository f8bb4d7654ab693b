"""Nothing of ours is in the middle of something while the master forks: a worker must not inherit a held lock."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from .concurrency import new_lock

WAIT_SECONDS = 2.0
"""A fork, and a hook, waits this long for the lock, then goes on without it."""


class ForkLock:
    """One lock around the master's shared state and around every fork of the process.

    gunicorn's own control socket guards its thread in the same way. The fork handlers stay registered for the life
    of the process; there is no way to take them back, so one ``ForkLock`` serves for all reloads.

    Whoever waits for the lock stands in a turnstile meanwhile, so that a thread which takes it again and again, as
    the exporter's does in a flood of connections, cannot keep a fork waiting for more than one turn.

    Args:
        in_child: called in every forked child, the lock being new and free there.
    """

    def __init__(self, in_child: Callable[[], None]) -> None:
        self._lock: Any = new_lock()
        self._turnstile: Any = new_lock()
        self._held_for_fork = False
        self._in_child = in_child
        os.register_at_fork(before=self._before, after_in_parent=self._after, after_in_child=self._child)

    def hold(self) -> AbstractContextManager[None]:
        """Return what holds the lock in a ``with``; after ``WAIT_SECONDS`` of waiting it goes on without it."""
        return _Held(self)

    @contextmanager
    def try_hold(self, seconds: float) -> Iterator[bool]:
        """Holds the lock if it can be had within this time; says whether it does."""
        # Without waiting it may be a signal handler, in the middle of the turnstile.
        held = self._acquire(seconds) if seconds else self._lock.acquire(False)
        try:
            yield held
        finally:
            if held:
                self._lock.release()

    def acquire(self) -> bool:
        """Take the lock; return whether it could be had in time."""
        return self._acquire(WAIT_SECONDS)

    def release(self) -> None:
        """Give back the lock."""
        self._lock.release()

    def _acquire(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        if not self._turnstile.acquire(timeout=seconds):
            return False
        try:
            return bool(self._lock.acquire(timeout=max(0.0, deadline - time.monotonic())))
        finally:
            self._turnstile.release()

    def _before(self) -> None:
        self._held_for_fork = self._acquire(WAIT_SECONDS)

    def _after(self) -> None:
        if self._held_for_fork:
            self._held_for_fork = False
            self._lock.release()

    def _child(self) -> None:
        # As a rule nobody else was at either: then they are as good as new, and nothing more is touched.
        if self._held_for_fork:
            self._held_for_fork = False
            self._lock.release()
        else:
            self._lock = new_lock()
        if self._turnstile.locked():
            self._turnstile = new_lock()
        self._in_child()


class _Held:
    """Holds the lock. A class, since a generator takes more code, and a fork more memory for it."""

    __slots__ = ("_held", "_lock")

    def __init__(self, lock: ForkLock) -> None:
        self._lock = lock
        self._held = False

    def __enter__(self) -> None:
        self._held = self._lock.acquire()

    def __exit__(self, *exc: object) -> None:
        if self._held:
            self._lock.release()
