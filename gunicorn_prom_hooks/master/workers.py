"""The registry of live workers: the slot of each, why it should exit, and the queue of exits to be recorded."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import Any, Protocol

from .._gunicorn import heartbeat_age
from ..concurrency import process_exists
from ..model.exits import ExitReason
from ..shm.allocator import Lease, SlotAllocator
from ..shm.layout import ABORT_AT, BOOTING_AT, QUIT_AT, RUNNING_AT

_STATE_CELLS = {"booting": BOOTING_AT, "running": RUNNING_AT, "quit": QUIT_AT, "abort": ABORT_AT}


@dataclass(eq=False)
class TrackedWorker:
    """A worker of gunicorn's, from before its fork until its exit is recorded.

    Attributes:
        worker: gunicorn's worker object.
        worker_id: the label.
        lease: of its slot.
        stop_reason: why the master wants it to exit, RELOAD or SCALE_DOWN; None if it does not.
        stopping_since: monotonic seconds at which that was noted.
        booted: it is known to have loaded the application.
        missing_since: monotonic seconds at which it was first found to be gone, without a report of gunicorn's.
    """

    worker: Any
    worker_id: str
    lease: Lease
    stop_reason: ExitReason | None = None
    stopping_since: float = 0.0
    booted: bool = False
    missing_since: float | None = None

    @property
    def states(self) -> dict[str, float]:
        """Unix times at which the worker entered its states, by state."""
        times = {state: self.lease.slot.header[cell] for state, cell in _STATE_CELLS.items()}
        return {state: entered for state, entered in times.items() if entered}

    @property
    def is_stopping(self) -> bool:
        """Whether the master wants this worker to exit, or has aborted it."""
        return bool(self.stop_reason or self.worker.aborted)

    @property
    def heartbeat_age(self) -> float | None:
        """Seconds since the last heartbeat; None if that cannot be read."""
        return heartbeat_age(self.worker)


class ExitRecorder(Protocol):
    """The part of ``WorkerExits`` that the registry needs."""

    def record_exit(self, tracked: TrackedWorker, clock: float, *, reported: bool) -> None:
        """Record an exit; see ``WorkerExits.record_exit``."""


class WorkerRegistry:
    """The live workers by age. All methods but ``queue_exit`` are called with the fork lock held.

    Args:
        allocator: of the slots.
        exits: records each exit while the worker's slot is still as the worker left it.
    """

    def __init__(self, allocator: SlotAllocator, exits: ExitRecorder) -> None:
        self.allocator = allocator
        self._exits = exits
        self._by_age: dict[int, TrackedWorker] = {}
        self._queued_exits: deque[tuple[Any, float]] = deque()
        """gunicorn's worker objects, and monotonic seconds of their exits."""
        self._latest: TrackedWorker | None = None
        self.departed: dict[int, tuple[str, str, float]] = {}
        """By slot, the last worker that exited: worker_id, final state, unix time of that state."""

    def add(self, worker: Any, worker_label: str) -> TrackedWorker:
        """Lease a slot to a worker that is about to be forked.

        Raises:
            OSError: there is no memory for another slot.
            CorruptIndex: something else has written into the slot.
        """
        now = time.time()
        lease = self.allocator.lease(worker.age, now)
        worker_id = f"worker_{lease.number}" if worker_label == "slot" else f"worker_{worker.age}_{int(now)}"
        tracked = self._latest = self._by_age[worker.age] = TrackedWorker(worker, worker_id, lease)
        return tracked

    def queue_exit(self, worker: Any) -> None:
        """Note that a worker has exited. One atomic store, no lock: before gunicorn 24 this is a signal handler."""
        self._queued_exits.append((worker, time.monotonic()))

    def get(self, worker: Any) -> TrackedWorker | None:
        """Return the entry of one of gunicorn's workers; None if it has none."""
        return self._by_age.get(worker.age)

    def live(self) -> list[TrackedWorker]:
        """Return the live workers, by slot."""
        return sorted(self._by_age.values(), key=lambda tracked: tracked.lease.number)

    def mark_stopping(self, reason: ExitReason, oldest: int | None = None) -> None:
        """Set why the master wants workers to exit: all workers, or this number of the oldest ones."""
        by_age = sorted(self._by_age.values(), key=lambda tracked: tracked.worker.age)
        for tracked in by_age[:oldest]:
            # A reload replaces all workers, those included that had to exit anyway.
            if reason is ExitReason.RELOAD or not tracked.stop_reason:
                tracked.stop_reason = reason
                tracked.stopping_since = time.monotonic()

    def unmark_scaled_down(self, seconds: float) -> None:
        """Forget that workers were to exit because there were too many, where that is longer ago than ``seconds``.

        Called while there are not too many. The number that is wanted may have risen again before gunicorn looked at
        it: it has then stopped none of them.
        """
        latest = time.monotonic() - seconds
        for tracked in self._by_age.values():
            if tracked.stop_reason is ExitReason.SCALE_DOWN and tracked.stopping_since < latest:
                tracked.stop_reason = None

    def record_queued_exits(self, *, forking: bool = False) -> None:
        """Record the exits noted by ``queue_exit``. No other worker is looked at.

        Args:
            forking: another worker is about to be added. If the latest one still has no pid, its fork has failed. At
                any other time that fork may be about to happen.
        """
        while self._queued_exits:
            worker, clock = self._queued_exits.popleft()
            self._record_exit(worker, clock, reported=True)
        latest = self._latest
        if forking and latest is not None and not isinstance(latest.worker.pid, int):
            self._record_exit(latest.worker, time.monotonic(), reported=False)

    def reconcile(self, alive: set[int], *, grace: float = 0.0) -> None:
        """Record the exits noted by ``queue_exit``, and those that gunicorn did not report.

        gunicorn reports none where a worker could not be signaled, where it failed to boot, and where the fork failed.

        Args:
            alive: ages of the workers that gunicorn has.
            grace: seconds for which a worker has to be gone without a report. In another thread than gunicorn's: it
                may just have reaped the worker, and be about to log how the worker ended, and to call ``child_exit``.
        """
        self.record_queued_exits()
        now = time.monotonic()
        for tracked in list(self._by_age.values()):
            # What has ended is not asked for again: another process may have its pid by then.
            if tracked.missing_since is None and tracked.worker.age not in alive and _has_ended(tracked.worker.pid):
                tracked.missing_since = now
            if tracked.missing_since is not None and now - tracked.missing_since >= grace:
                self._record_exit(tracked.worker, tracked.missing_since, reported=False)

    def _record_exit(self, worker: Any, clock: float, *, reported: bool) -> None:
        tracked = self._by_age.get(worker.age)
        if tracked is None or tracked.worker is not worker:
            return
        del self._by_age[worker.age]
        states = tracked.states
        final = "abort" if worker.aborted or "abort" in states else "quit"
        self.departed[tracked.lease.number] = tracked.worker_id, final, states.get(final) or unix_time(clock)
        try:
            self._exits.record_exit(tracked, clock, reported=reported)
        finally:
            self.allocator.release(tracked.lease)


def _has_ended(pid: object) -> bool:
    """Return whether the process has ended; a worker that is not forked yet has a text as its pid."""
    return isinstance(pid, int) and not process_exists(pid)


def unix_time(clock: float) -> float:
    """Return the unix time of a moment of the monotonic clock, by the wall clock as it is set now."""
    return time.time() - (time.monotonic() - clock)
