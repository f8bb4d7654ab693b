"""The server at one moment, copied for the collectors."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from typing import Any

from gunicorn import __version__ as gunicorn_version

from .. import _version
from .._gunicorn import GREENLETS, SYNC, is_a
from ..collectors.listeners import workers_listeners
from ..errors import ErrorReporter
from ..model.counts import WorkerCounts
from ..model.requests import InFlightRequest
from ..model.server_snapshot import ServerSnapshot, WorkerSnapshot
from ..shm.aggregate import EndpointCap
from ..shm.index import CorruptIndex
from ..shm.layout import LOOP_DUE
from .exits import WorkerExits
from .workers import TrackedWorker, WorkerRegistry


def look(
    server: Any,
    registry: WorkerRegistry,
    deaths: WorkerExits,
    cap: EndpointCap,
    errors: ErrorReporter,
    is_stopping: Callable[[TrackedWorker], bool],
    *,
    corrupt: CorruptIndex | None,
    since: float,
    reloads: int,
) -> ServerSnapshot:
    """The view of a server whose books are settled.

    Args:
        server: gunicorn's arbiter.
        registry: its workers.
        deaths: how workers ended.
        cap: of the endpoints of all slots together.
        errors: where failures end.
        is_stopping: whether a worker is to leave.
        corrupt: something else has written into a slot, and this is what came of it.
        since: when this master began, in monotonic seconds.
        reloads: how many there have been.
    """
    # In this order. A worker takes a request out of the in-flight table before it counts it: whoever reads the counts
    # first may miss a request that ends in between, but never sees one that is finished and still in progress.
    slots = registry.leases.copy(corrupt)
    members = registry.members()
    workers = [_worker(member, is_stopping(member)) for member in members]
    leased = [(member.lease.number, member.lease.baseline) for member in members]
    return ServerSnapshot(
        pid=os.getpid(),
        since=since,
        now=time.time(),
        clock=time.monotonic(),
        workers=workers,
        departed=list(registry.departed.values()),
        read_totals=lambda: slots.totals(cap),
        read_counts=lambda: {
            worker.worker_id: WorkerCounts(*slots.own(number, baseline, cap), worker.in_flight, worker.untracked)
            for worker, (number, baseline) in zip(workers, leased, strict=True)
        },
        exit_stats=deaths.exit_stats.copy(),
        messages=dict(deaths.ends.messages),
        reloads=reloads,
        errors=dict(errors.counts),
        folded=lambda: len(cap.folded),
        target=server.num_workers or 0,
        timeout=float(server.timeout),
        listeners=list(server.LISTENERS) or workers_listeners(server.cfg),
        dirty_arbiter_pid=int(getattr(server, "dirty_arbiter_pid", 0)),
        build={
            "version": _version.__version__,
            "gunicorn": gunicorn_version,
            "python": platform.python_version(),
            "worker_class": server.cfg.worker_class_str,
        },
    )


def _worker(member: TrackedWorker, stopping: bool) -> WorkerSnapshot:
    worker = member.worker
    return WorkerSnapshot(
        worker_id=member.worker_id,
        serial=member.lease.worker,
        slot=member.lease.number,
        since=member.lease.since,
        pid=worker.pid if isinstance(worker.pid, int) else None,
        worker_class=type(worker).__name__,
        capacity=_capacity(worker),
        states=member.states,
        heartbeat_age=member.heartbeat_age,
        loop_due=member.lease.slot.header[LOOP_DUE] or None,
        stopping=stopping,
        in_flight=_in_flight(member),
        untracked=member.lease.reader.untracked(),
    )


def _in_flight(member: TrackedWorker) -> list[InFlightRequest]:
    try:
        return member.lease.reader.in_flight()
    except CorruptIndex:  # the collectors will say so
        return []


def _capacity(worker: Any) -> float | None:
    """Return the number of requests that the worker can serve at a time; None if nothing limits it.

    gunicorn's asgi worker has ``worker_connections`` as well, and does not look at it.
    """
    if hasattr(worker, "tpool"):
        return float(worker.cfg.threads)
    if is_a(type(worker), SYNC):
        return 1.0
    if is_a(type(worker), GREENLETS):
        return float(worker.worker_connections)
    limit = getattr(getattr(worker, "config", None), "limit_concurrency", None)  # uvicorn's
    return float(limit) if isinstance(limit, int) else None
