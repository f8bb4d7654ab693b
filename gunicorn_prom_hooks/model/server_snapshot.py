"""What collectors are given: the state of the server at the moment of a scrape, gathered once for all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from ..shm.aggregate import Rename, SlotsCopy, Tally
from ..shm.allocator import Lease
from ..shm.reader import InFlightRequest, Untracked

STATES = ("booting", "running", "quit", "abort")
"""What a worker goes through, in this order; the last two are alternatives."""


class Durations(Protocol):
    """A histogram of the master's, in seconds."""

    @property
    def bounds(self) -> Sequence[float]:
        """Upper bounds of the buckets."""

    @property
    def counts(self) -> Sequence[float]:
        """Counts, not cumulative, with one more for +Inf."""

    @property
    def seconds(self) -> float:
        """The sum."""


class ExitRecord(Protocol):
    """A death as the master remembers it."""

    @property
    def when(self) -> float:
        """Unix time."""

    @property
    def clock(self) -> float:
        """The same in monotonic seconds, of the clock that in-flight requests are stamped with."""

    @property
    def worker_id(self) -> str:
        """The label."""

    @property
    def pid(self) -> int | None:
        """Of the worker; None if its fork never told."""

    @property
    def reason(self) -> str:
        """Why it ended."""

    @property
    def detail(self) -> str:
        """Name of a signal, or exit code."""

    @property
    def requests(self) -> Sequence[InFlightRequest]:
        """The requests that it died on, oldest first."""

    @property
    def others(self) -> int:
        """How many more."""


class ExitStats(Protocol):
    """What the master keeps of the ends of workers."""

    @property
    def exits(self) -> Mapping[tuple[str, str], int]:
        """By reason and detail."""

    @property
    def restarts(self) -> Mapping[str, int]:
        """By coarse reason."""

    @property
    def killed(self) -> Mapping[tuple[str, str, str], int]:
        """Requests that went down with their worker, by method, endpoint and reason."""

    @property
    def boots(self) -> Durations:
        """How long workers took to load the application."""

    @property
    def lifetimes(self) -> Durations:
        """How long workers lived."""

    @property
    def latest(self) -> Sequence[ExitRecord]:
        """The latest deaths, the last one first."""


@dataclass(frozen=True)
class WorkerSnapshot:
    """A live worker.

    Attributes:
        worker_id: the label.
        pid: None as long as the fork has not told.
        capacity: requests it can serve at a time; None if nothing limits them.
        states: unix times at which it entered the states it has been in, by state.
        heartbeat_age: seconds since it last told the master that it is alive; None if that cannot be read.
        stopping: the master wants it to leave.
        in_flight: the requests it is at, oldest first.
        untracked: the others that it is at.
    """

    worker_id: str
    lease: Lease
    pid: int | None
    worker_class: str
    capacity: float | None
    states: Mapping[str, float]
    heartbeat_age: float | None
    stopping: bool
    in_flight: Sequence[InFlightRequest]
    untracked: Untracked

    @property
    def state(self) -> str:
        """The state it is in: the last one of ``STATES`` that it has entered, however the wall clock was set since."""
        return max(self.states, key=STATES.index)


@dataclass(frozen=True)
class WorkerCounts:
    """What a live worker did itself, and what it is at.

    Attributes:
        requests: the rows of all its requests added up, cell by cell; see ``REQUESTS``.
        tally: the families in ``PER_WORKER``.
        in_flight: as of ``WorkerSnapshot``.
        untracked: as of ``WorkerSnapshot``.
    """

    requests: Sequence[float]
    tally: Tally
    in_flight: Sequence[InFlightRequest]
    untracked: Untracked

    @property
    def in_progress(self) -> int:
        """Requests in progress, those included that are not in the in-flight table."""
        return len(self.in_flight) + self.untracked.number


@dataclass(frozen=True)
class ServerSnapshot:
    """One moment of the server. It is a copy: the server goes on while collectors look at it.

    The slots are copied before the in-flight tables: a request that ends in between is missing from both for the
    moment, but never in both.

    Attributes:
        pid: of the master.
        since: monotonic seconds at which the master began.
        slots: what is counted in them.
        now: unix seconds.
        clock: monotonic seconds, of the clock that in-flight requests are stamped with.
        departed: per slot, the worker that had it last: worker_id, final state, unix time of that.
        ledger: how workers ended.
        messages: messages to gunicorn's error log in the master, by level.
        reloads: how often gunicorn has read its configuration anew.
        errors: failures of our own in the master, by where.
        folded: endpoints that the page cannot show any more.
        target: number of workers that the master keeps up.
        timeout: seconds of silence after which gunicorn kills a worker; 0: never.
        listeners: gunicorn's listening sockets; ``str`` gives a name, ``sock`` the socket, None once it is closed. With
            ``reuse_port`` each is a ``WorkersListener``.
        dirty_arbiter_pid: process that runs gunicorn's dirty workers; 0 if there is none.
        build: the labels of gunicorn_build_info.
    """

    pid: int
    since: float
    now: float
    clock: float
    workers: Sequence[WorkerSnapshot]
    departed: Sequence[tuple[str, str, float]]
    slots: SlotsCopy
    rename: Rename
    ledger: ExitStats
    messages: Mapping[str, int]
    reloads: int
    errors: Mapping[str, int]
    folded: Callable[[], int]
    target: int
    timeout: float
    listeners: Sequence[Any]
    dirty_arbiter_pid: int
    build: Mapping[str, str]

    @property
    def capacity(self) -> float | None:
        """Requests that all live workers can serve at a time; None if one of them has no limit."""
        limits = [worker.capacity for worker in self.workers if worker.capacity is not None]
        return sum(limits) if len(limits) == len(self.workers) else None

    @cached_property
    def totals(self) -> Tally:
        """What all workers, past and present, counted.

        Raises:
            CorruptDirectory: something else has written into a slot.
        """
        return self.slots.totals(self.rename)

    @cached_property
    def counts(self) -> Mapping[str, WorkerCounts]:
        """What each live worker did, by worker_id."""
        return {
            worker.worker_id: WorkerCounts(
                *self.slots.own(worker.lease.number, worker.lease.base, self.rename),
                worker.in_flight,
                worker.untracked,
            )
            for worker in self.workers
        }
