"""The workers as the master knows them: who has which slot, who left, and how."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..concurrency import process_exists
from ..model.exits import ExitReason
from ..shm.allocator import Lease, SlotAllocator
from ..shm.layout import ABORT_AT, BOOTING_AT, QUIT_AT, RUNNING_AT

_STATE_CELLS = {"booting": BOOTING_AT, "running": RUNNING_AT, "quit": QUIT_AT, "abort": ABORT_AT}


@dataclass(eq=False)
class TrackedWorker:
    """A worker of gunicorn's, from before its fork until its end is booked.

    Attributes:
        stop_reason: why the master wants it to exit, RELOAD or SCALE_DOWN; None if it does not.
        booted: it has been seen to have loaded the application.
    """

    worker: Any
    worker_id: str
    lease: Lease
    stop_reason: ExitReason | None = None
    booted: bool = False

    @property
    def states(self) -> dict[str, float]:
        """Unix times at which it entered the states it has been in."""
        times = {state: self.lease.slot.header[cell] for state, cell in _STATE_CELLS.items()}
        return {state: at for state, at in times.items() if at}

    @property
    def heartbeat_age(self) -> float | None:
        """Seconds since the worker touched its heartbeat file, whose times gunicorn sets on the monotonic clock.

        Until the first touch the file has the wall-clock time of its making: no heartbeat yet. The file is closed by
        the time the worker's end is booked.
        """
        try:
            age = time.monotonic() - self.worker.tmp.last_update()
        except (OSError, ValueError):
            return None
        return float(age) if age >= 0.0 else None


class WorkerRegistry:
    """Books arrivals and departures. All methods but ``left`` are called with the master's lock held.

    Args:
        leases: of the slots.
        ended: told of a member, the monotonic seconds of its end, and whether gunicorn has reported it, while the
            member's slot is still as it left it.
    """

    def __init__(self, leases: SlotAllocator, ended: Callable[[TrackedWorker, float, bool], None]) -> None:
        self.leases = leases
        self._ended = ended
        self._members: dict[int, TrackedWorker] = {}
        self._left: deque[tuple[Any, float]] = deque()
        self._latest: TrackedWorker | None = None
        self.departed: dict[int, tuple[str, str, float]] = {}
        """By slot, who had it last: worker_id, final state, unix time of that."""

    def arrive(self, worker: Any, worker_label: str) -> TrackedWorker:
        """Gives a slot to a worker that is about to be forked.

        Raises:
            OSError: no memory for another slot.
            CorruptDirectory: something else has written into the slot.
        """
        now = time.time()
        lease = self.leases.take(worker.age, now)
        worker_id = f"worker_{lease.number}" if worker_label == "slot" else f"worker_{worker.age}_{int(now)}"
        member = self._latest = self._members[worker.age] = TrackedWorker(worker, worker_id, lease)
        return member

    def left(self, worker: Any) -> None:
        """Notes that a worker has ended. One atomic store, no lock: before gunicorn 24 this is a signal handler."""
        self._left.append((worker, time.monotonic()))

    def member(self, worker: Any) -> TrackedWorker | None:
        """The entry of this worker."""
        return self._members.get(worker.age)

    def members(self) -> list[TrackedWorker]:
        """The live workers, by slot."""
        return sorted(self._members.values(), key=lambda member: member.lease.number)

    def tell(self, why: ExitReason, oldest: int | None = None) -> None:
        """Notes why the master wants these workers to leave; they are all there are, or the oldest ones."""
        members = sorted(self._members.values(), key=lambda member: member.worker.age)
        for member in members[:oldest]:
            # A reload replaces all workers, those included that had to go anyway.
            if why is ExitReason.RELOAD or not member.stop_reason:
                member.stop_reason = why

    def book(self, *, forking: bool = False) -> None:
        """Book the ends noted by ``left``. It goes through no other worker.

        Args:
            forking: the next worker is about to arrive. If the one before it still has no pid, it never came to be.
        """
        while self._left:
            worker, clock = self._left.popleft()
            self._book(worker, clock, reported=True)
        latest = self._latest
        if forking and latest is not None and not isinstance(latest.worker.pid, int):
            self._book(latest.worker, time.monotonic(), reported=False)

    def settle(self, alive: set[int], *, forking: bool = False) -> None:
        """Book the ends noted by ``left``, and those that gunicorn did not tell of.

        It does not where a worker cannot be signalled any more, where it failed to boot, and where the fork failed.

        Args:
            alive: ages of the workers that gunicorn has.
            forking: as of ``book``. At any other time the fork may be just about to happen.
        """
        self.book(forking=forking)
        for member in list(self._members.values()):
            pid = member.worker.pid
            if member.worker.age not in alive and isinstance(pid, int) and not process_exists(pid):
                self._book(member.worker, time.monotonic(), reported=False)

    def _book(self, worker: Any, clock: float, *, reported: bool) -> None:
        member = self._members.get(worker.age)
        if member is None or member.worker is not worker:
            return
        del self._members[worker.age]
        states = member.states
        final = "abort" if worker.aborted or "abort" in states else "quit"
        self.departed[member.lease.number] = member.worker_id, final, states.get(final) or unix_time(clock)
        try:
            self._ended(member, clock, reported)
        finally:
            self.leases.give_back(member.lease)


def unix_time(clock: float) -> float:
    """Return what the wall clock, as it is set now, showed at this moment of the monotonic clock."""
    return time.time() - (time.monotonic() - clock)
