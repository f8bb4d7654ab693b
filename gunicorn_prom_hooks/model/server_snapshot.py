"""The state of the server at the moment of a scrape, gathered once for all collectors and the status page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Final, NamedTuple, Protocol

from .counts import DurationBuckets, InFlightRequest, Tally, Untracked, WorkerCounts
from .exits import ExitStatsSnapshot

STATES: Final = ("booting", "running", "quit", "abort")
"""The states of a worker in their order; the last two are alternatives."""


class PageOptions(NamedTuple):
    """Settings of the metrics page.

    Attributes:
        labels: names and values of labels that are added to every series.
        size_histograms: whether there are histograms of the sizes of bodies.
        created_timestamps: whether counters and histograms have ``_created`` samples in the OpenMetrics format.
        has_slot_labels: whether a worker's worker_id is that of its slot, and so of its predecessor in it.
    """

    labels: Mapping[str, str]
    size_histograms: bool
    created_timestamps: bool
    has_slot_labels: bool


@dataclass(frozen=True)
class WorkersListener:
    """An address at which each worker has its own listening socket, and the master has none: ``reuse_port``.

    Attributes:
        name: as gunicorn calls such a socket.
        family: AF_INET or AF_INET6.
        host: an address.
        port: TCP port.
    """

    sock: ClassVar[None] = None
    name: str
    family: int
    host: str
    port: int

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class WorkerSnapshot:
    """A live worker.

    Attributes:
        worker_id: the label.
        serial: number of the worker in the order of forks, from 1; gunicorn calls it ``age``.
        slot: number of its slot of shared memory, from 0.
        since: monotonic seconds at which the worker was forked.
        pid: None until the fork has returned in the master.
        worker_class: name of the class.
        capacity: requests that the worker can process at a time; None if nothing limits them.
        states: unix times at which the worker entered its states, by state.
        heartbeat_age: seconds since the worker's last heartbeat; None if that cannot be read.
        loop_due: monotonic seconds at which the timer in the worker's event loop is due; None without such a timer.
        stopping: the master has asked the worker to exit.
        in_flight: the requests in the in-flight table, oldest first.
        untracked: the other requests in progress.
    """

    worker_id: str
    serial: int
    slot: int
    since: float
    pid: int | None
    worker_class: str
    capacity: float | None
    states: Mapping[str, float]
    heartbeat_age: float | None
    loop_due: float | None
    stopping: bool
    in_flight: Sequence[InFlightRequest]
    untracked: Untracked

    @property
    def state(self) -> str:
        """The latest state by the order of ``STATES``, not by time: the wall clock may have been set in between."""
        return max(self.states, key=STATES.index)


@dataclass(frozen=True)
class ServerSnapshot:
    """The server at one moment. A copy: the server goes on while collectors read it.

    The slots are copied before the in-flight tables. A request that ends in between is missing from both in this
    snapshot, and never in both.

    Attributes:
        pid: of the master.
        since: monotonic seconds at which the master began.
        started: unix time in seconds at which the master began.
        now: unix time in seconds.
        clock: monotonic seconds, the clock of ``InFlightRequest.start``.
        workers: the live workers, in the order of their slots.
        departed: per slot, the last worker that exited: worker_id, final state, unix time of that state.
        read_totals: adds up the copied slots; see ``totals``.
        read_counts: subtracts what was in the slots before; see ``counts``.
        exit_stats: counts of worker exits.
        messages: messages to gunicorn's error log in the master, by level.
        reloads: number of reloads of gunicorn's configuration.
        errors: internal failures in the master, by place.
        errors_since: unix times in seconds of the first ones, by place.
        folded: returns the number of endpoints that are shown as ``<other>``.
        target: number of workers that the master maintains.
        timeout: seconds without a heartbeat after which gunicorn kills a worker; 0: never.
        listeners: gunicorn's listening sockets; ``str`` gives a name, ``sock`` the socket, None once it is closed. With
            ``reuse_port`` each is a ``WorkersListener``.
        dirty_arbiter_pid: process that runs gunicorn's dirty workers; 0 if there is none.
        build: the labels of gunicorn_build_info.
        buckets: in which durations are counted.
        options: of the metrics page.
    """

    pid: int
    since: float
    started: float
    now: float
    clock: float
    workers: Sequence[WorkerSnapshot]
    departed: Sequence[tuple[str, str, float]]
    read_totals: Callable[[], Tally]
    read_counts: Callable[[], Mapping[str, WorkerCounts]]
    exit_stats: ExitStatsSnapshot
    messages: Mapping[str, int]
    reloads: int
    errors: Mapping[str, int]
    errors_since: Mapping[str, float]
    folded: Callable[[], int]
    target: int
    timeout: float
    listeners: Sequence[Any]
    dirty_arbiter_pid: int
    build: Mapping[str, str]
    buckets: DurationBuckets
    options: PageOptions

    @property
    def capacity(self) -> float | None:
        """Requests that all live workers can process at a time; None if one of them has no limit."""
        limits = [worker.capacity for worker in self.workers if worker.capacity is not None]
        return sum(limits) if len(limits) == len(self.workers) else None

    def created(self, since: float = 0.0) -> float | None:
        """Return the value of a series' ``_created`` sample; None if the settings leave these out.

        Args:
            since: unix time in seconds at which the series began; 0.0: with the server.
        """
        return max(since, self.started) if self.options.created_timestamps else None

    @cached_property
    def totals(self) -> Tally:
        """The counts of all workers, past and present.

        Raises:
            CorruptIndex: something else has written into a slot.
        """
        return self.read_totals()

    @cached_property
    def counts(self) -> Mapping[str, WorkerCounts]:
        """The counts of each live worker, by worker_id."""
        return self.read_counts()


class SnapshotSource(Protocol):
    """What the exporter needs of a server. Both methods are callable in any thread, without the fork lock."""

    def take_snapshot(self) -> ServerSnapshot:
        """Return a copy of the server's state."""

    def is_ready(self) -> bool:
        """Return whether the server can answer requests. Takes no lock."""
