"""Unpatched primitives of threads, the lock around forks, and small means between processes.

A config file may call ``gevent.monkey.patch_all()``. A "thread" started in the master after that is a greenlet. It
runs only when the master waits, and every worker inherits a copy that answers scrapes from the worker's own
memory (seen with gunicorn 27 and gevent 26). The master's exporter therefore uses the unpatched primitives.
The same holds for ``eventlet.monkey_patch()``, which gunicorn 24 and 25 call themselves, in the master, for
their eventlet worker.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import mmap
import os
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final

WAIT_SECONDS = 2.0
"""How long a fork or a hook waits for the lock before it goes on without it."""
THREAD_SECONDS = 4.0
"""How long a new thread may take to begin, on a machine that is busy with others."""
THREAD_CHECK_SECONDS = 0.05
"""How often a new thread that has not begun is looked at: it may have ended."""
_LOCK_ATTEMPTS = 100
_LOCK_PAUSE_SECONDS = 0.005
"""How often a claim tries for the file lock. It is held for microseconds."""


def unpatched(module: str, name: str) -> Any:
    """Return ``module.name`` as it was before gevent or eventlet patched it. Never imports either."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None:
        return monkey.get_original(module, name)
    patcher = sys.modules.get("eventlet.patcher")
    if patcher is not None and patcher.already_patched:
        return getattr(patcher.original(module), name)
    return getattr(sys.modules.get(module) or importlib.import_module(module), name)


new_lock: Final[Callable[[], Any]] = unpatched("_thread", "allocate_lock")
"""Returns a lock of the operating system's threads."""
new_reentrant_lock: Final[Callable[[], Any]] = unpatched("_thread", "RLock")
"""Returns a lock that the thread holding it may take again."""


def start_thread(run: Callable[..., object], *args: object) -> None:
    """Start a thread of the operating system, and wait until it has begun.

    Raises:
        RuntimeError: there is no thread to be had; or it has ended at once, or not begun within ``THREAD_SECONDS``.
            Without memory for its first frame a thread starts and never calls its function.
    """
    call = _Call(run, args)
    waiting, begun, of_thread = call.waiting, call.begun, weakref.ref(call)
    unpatched("_thread", "start_new_thread")(_begin, (call,))
    del call  # from now on only the thread has it, until it ends
    deadline = time.monotonic() + THREAD_SECONDS
    while not begun.acquire(timeout=THREAD_CHECK_SECONDS):
        if (of_thread() is None or time.monotonic() > deadline) and _withdraw(waiting):
            raise RuntimeError("the new thread does not run")


class _Call:
    """The call that a new thread is to make."""

    __slots__ = ("__weakref__", "args", "begun", "run", "waiting")

    def __init__(self, run: Callable[..., object], args: tuple[object, ...]) -> None:
        self.run = run
        self.args = args
        self.waiting = [True]
        self.begun = new_lock()
        self.begun.acquire()


def _begin(call: _Call) -> None:
    """Run the function in the new thread, unless it is not waited for any more."""
    if _withdraw(call.waiting):
        call.begun.release()
        call.run(*call.args)


def _withdraw(waiting: list[bool]) -> bool:
    """Return whether this is the first of the two calls."""
    try:
        return waiting.pop()
    except IndexError:
        return False


def process_exists(pid: int) -> bool:
    """Return whether a process has this pid, be it another user's or a zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


class ForkLock:
    """One lock around the master's shared state and around every fork, so that no worker inherits a held lock.

    gunicorn's own control socket guards its thread in the same way. Fork handlers cannot be unregistered. They stay
    for the life of the process, so one ``ForkLock`` serves for all reloads.

    A thread that waits for the lock holds a second lock meanwhile, the queue lock. So a thread that takes the lock
    again and again, as the exporter's does in a flood of connections, delays a fork by at most one turn.

    Args:
        in_child: called in every forked child, where the lock is new and free.
    """

    def __init__(self, in_child: Callable[[], None]) -> None:
        self._lock: Any = new_lock()
        self._queue_lock: Any = new_lock()
        self._held_for_fork = False
        self._in_child = in_child
        os.register_at_fork(before=self._before, after_in_parent=self._after, after_in_child=self._child)

    def hold(self) -> AbstractContextManager[None]:
        """Return a context manager that holds the lock. After ``WAIT_SECONDS`` it goes on without the lock."""
        return _Held(self)

    @contextmanager
    def try_hold(self, seconds: float) -> Iterator[bool]:
        """Hold the lock if it can be had within this time; yield whether it is held."""
        # Without time to wait, the caller may be a signal handler in a thread that holds the queue lock.
        held = self._acquire(seconds) if seconds else self._lock.acquire(False)
        try:
            yield held
        finally:
            if held:
                self._lock.release()

    def acquire(self) -> bool:
        """Take the lock; return whether it could be had within ``WAIT_SECONDS``."""
        return self._acquire(WAIT_SECONDS)

    def release(self) -> None:
        """Release the lock."""
        self._lock.release()

    def _acquire(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        if not self._queue_lock.acquire(timeout=seconds):
            return False
        try:
            return bool(self._lock.acquire(timeout=max(0.0, deadline - time.monotonic())))
        finally:
            self._queue_lock.release()

    def _before(self) -> None:
        self._held_for_fork = self._acquire(WAIT_SECONDS)

    def _after(self) -> None:
        if self._held_for_fork:
            self._held_for_fork = False
            self._lock.release()

    def _child(self) -> None:
        # Usually the fork held the lock and no other thread the queue lock. Then no memory is touched for new locks.
        if self._held_for_fork:
            self._held_for_fork = False
            self._lock.release()
        else:
            self._lock = new_lock()
        if self._queue_lock.locked():
            self._queue_lock = new_lock()
        self._in_child()


class _Held:
    """Context manager of ``ForkLock.hold``. A class: a generator takes more code, and a fork copies more memory."""

    __slots__ = ("_held", "_lock")

    def __init__(self, lock: ForkLock) -> None:
        self._lock = lock
        self._held = False

    def __enter__(self) -> None:
        self._held = self._lock.acquire()

    def __exit__(self, *exc: object) -> None:
        if self._held:
            self._lock.release()


class SharedOnce:
    """A right that one process has, of the one that makes this and all that it forks afterwards.

    Without shared memory each process has it: this is made in the config file, where an exception would end the server.
    """

    def __init__(self) -> None:
        self._claimed: mmap.mmap | bytearray = bytearray(1)
        with contextlib.suppress(OSError, MemoryError):
            self._claimed = mmap.mmap(-1, 1)

    def claim(self) -> bool:
        """Return whether this is the first call in any of the processes.

        A file lock decides between calls at the same moment. The locked file is the source of this module, opened for
        the call: the application may have closed an inherited descriptor, and its number may be another file's.
        """
        if self._claimed[0]:
            return False
        with contextlib.suppress(OSError), open(__file__, "rb") as file:
            for _ in range(_LOCK_ATTEMPTS):
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    time.sleep(_LOCK_PAUSE_SECONDS)
                else:
                    return self._set()
        return self._set()

    def _set(self) -> bool:
        """Set the claim. Return whether it was not set before."""
        is_first = not self._claimed[0]
        self._claimed[0] = 1
        return is_first


class WakeupPipe:
    """A pipe: a write into it, from any thread, wakes the thread that polls its ``fd``.

    eventlet patches ``os.read`` and ``os.write``: its ``read`` waits, without end, where the pipe is empty.
    """

    def __init__(self) -> None:
        self.fd, self._write_fd = os.pipe()
        os.set_blocking(self.fd, False)
        os.set_blocking(self._write_fd, False)
        self._closed = False
        self._lock = new_lock()

    def wake(self) -> None:
        """Wake the polling thread. Never raises. A closed pipe is left alone: a rendering may outlast its exporter."""
        with self._lock, contextlib.suppress(Exception):
            if not self._closed:
                unpatched("os", "write")(self._write_fd, b"x")

    def drain(self) -> None:
        """Read what has been written so far, so that the next poll waits."""
        with contextlib.suppress(OSError):
            while unpatched("os", "read")(self.fd, 4096):
                pass

    def close(self) -> None:
        """Close both ends, once no thread polls any more."""
        with self._lock:
            self.close_in_child()

    def close_in_child(self) -> None:
        """Close both ends in a forked child, without the lock, which a thread of the parent may have held."""
        if not self._closed:
            self._closed = True
            os.closerange(self.fd, self.fd + 1)  # errors are ignored
            os.closerange(self._write_fd, self._write_fd + 1)
