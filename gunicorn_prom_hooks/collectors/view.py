"""What collectors are given: the state of the server at the moment of a scrape, gathered once for all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ..scoreboard.leases import Lease
from ..scoreboard.slot import InFlight, SlotReader
from ..scoreboard.tally import Rename, Tally, tally_all, tally_lease

STATES = ("booting", "running", "quit", "abort")
"""What a worker goes through, in this order; the last two are alternatives."""


@dataclass(frozen=True)
class WorkerView:
    """A live worker.

    Attributes:
        worker_id: the label.
        pid: None as long as the fork has not told.
        capacity: requests it can serve at a time.
        states: unix times at which it entered the states it has been in, by state.
        heartbeat_age: seconds since it last told the master that it is alive; None if that cannot be read.
    """

    worker_id: str
    lease: Lease
    pid: int | None
    worker_class: str
    capacity: int
    states: Mapping[str, float]
    heartbeat_age: float | None

    @property
    def state(self) -> str:
        """The state it is in."""
        return max(self.states, key=lambda state: (self.states[state], STATES.index(state)))


@dataclass(frozen=True)
class WorkerCounts:
    """What a live worker did itself, and what it is at."""

    tally: Tally
    in_flight: Sequence[InFlight]
    untracked: int

    @property
    def in_progress(self) -> int:
        """Requests in progress, those included that are not in the in-flight table."""
        return len(self.in_flight) + self.untracked


@dataclass(frozen=True)
class View:
    """One moment of the server.

    Attributes:
        now: unix seconds.
        clock: monotonic seconds, of the clock that in-flight requests are stamped with.
        departed: per slot, the worker that had it last: worker_id, final state, unix time of that.
        restarts: exits of workers by reason.
        errors: failures of our own in the master, by where.
        folded: endpoints that the page cannot show any more.
        target: number of workers that the master keeps up.
        timeout: seconds of silence after which gunicorn kills a worker; 0: never.
        listeners: gunicorn's listening sockets; ``str`` gives a name, ``sock`` the socket, None once it is closed.
        dirty_arbiter_pid: process that runs gunicorn's dirty workers; 0 if there is none.
        build: the labels of gunicorn_build_info.
    """

    now: float
    clock: float
    workers: Sequence[WorkerView]
    departed: Sequence[tuple[str, str, float]]
    readers: Sequence[SlotReader]
    rename: Rename
    restarts: Mapping[str, int]
    errors: Mapping[str, int]
    folded: Callable[[], int]
    target: int
    timeout: float
    listeners: Sequence[Any]
    dirty_arbiter_pid: int
    build: Mapping[str, str]

    @cached_property
    def _read(self) -> tuple[Tally, list[list[float]]]:
        return tally_all(self.readers, self.rename)

    @property
    def totals(self) -> Tally:
        """What all workers, past and present, counted.

        Raises:
            CorruptDirectory: something else has written into a slot.
        """
        return self._read[0]

    @cached_property
    def counts(self) -> Mapping[str, WorkerCounts]:
        """What each live worker did, by worker_id.

        The in-flight tables are read after the sums: a request that ends in between is missing from both for
        the moment, but never in both.

        Raises:
            CorruptDirectory: something else has written into a slot.
        """
        values = self._read[1]
        return {
            worker.worker_id: WorkerCounts(
                tally_lease(worker.lease, values[worker.lease.number], self.rename),
                worker.lease.reader.in_flight(),
                worker.lease.reader.untracked(),
            )
            for worker in self.workers
        }
