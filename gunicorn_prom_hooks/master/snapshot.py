"""The copy of the server's state that collectors and the status page read."""

from __future__ import annotations

import os
import platform
import time
from typing import Any

from .. import _version
from .._gunicorn import GUNICORN_VERSION, dirty_arbiter_pid, worker_capacity
from ..collectors.listeners import workers_listeners
from ..errors import ErrorReporter
from ..model.counts import DurationBuckets, InFlightRequest, WorkerCounts
from ..model.server_snapshot import PageOptions, ServerSnapshot, WorkerSnapshot
from ..shm.aggregate import EndpointCap, WorkerTotals
from ..shm.index import CorruptIndex
from ..shm.layout import LOOP_DUE
from ..shm.schema import REQUESTS
from .exits import WorkerExits
from .workers import TrackedWorker, WorkerRegistry


def take_snapshot(
    server: Any,
    registry: WorkerRegistry,
    exits: WorkerExits,
    cap: EndpointCap,
    errors: ErrorReporter,
    *,
    corrupt: CorruptIndex | None,
    since: float,
    started: float,
    reloads: int,
    buckets: DurationBuckets,
    options: PageOptions,
) -> ServerSnapshot:
    """Return a copy of the server's state, the exits recorded that gunicorn has reported. With the fork lock held.

    Args:
        server: gunicorn's arbiter.
        registry: its workers.
        exits: worker exits.
        cap: of the endpoints of all slots together.
        errors: counts internal failures.
        corrupt: what ``SlotAllocator.update`` has returned.
        since: monotonic seconds at which this master began.
        started: unix time in seconds at which it began.
        reloads: number of reloads.
        buckets: in which durations are counted.
        options: of the metrics page.
    """
    # In this order. A worker takes a request out of the in-flight table before it counts it. A reader that reads the
    # counts first may miss a request that ends in between, but never sees one that is finished and still in progress.
    slots = registry.allocator.copy(corrupt)
    live = registry.live()
    stopping = exits.exit_log.stopping
    workers = [_worker_snapshot(tracked, stopping=stopping or tracked.is_stopping) for tracked in live]
    baselines = [(tracked.lease.number, tracked.lease.baseline) for tracked in live]
    return ServerSnapshot(
        pid=os.getpid(),
        since=since,
        started=started,
        now=time.time(),
        clock=time.monotonic(),
        workers=workers,
        departed=list(registry.departed.values()),
        read_totals=lambda: slots.totals(cap),
        read_counts=lambda: {
            worker.worker_id: _worker_counts(worker, slots.of_worker(number, baseline, cap), buckets)
            for worker, (number, baseline) in zip(workers, baselines, strict=True)
        },
        exit_stats=exits.exit_stats.snapshot(),
        messages=dict(exits.exit_log.messages),
        reloads=reloads,
        errors=dict(errors.counts),
        errors_since=dict(errors.since),
        folded=lambda: len(cap.folded),
        target=server.num_workers or 0,
        timeout=float(server.timeout),
        listeners=list(server.LISTENERS) or workers_listeners(server.cfg),
        dirty_arbiter_pid=dirty_arbiter_pid(server),
        build={
            "version": _version.__version__,
            "gunicorn": GUNICORN_VERSION,
            "python": platform.python_version(),
            "worker_class": server.cfg.worker_class_str,
            "app": str(server.cfg.proc_name),
        },
        buckets=buckets,
        options=options,
    )


def _worker_counts(worker: WorkerSnapshot, totals: WorkerTotals, buckets: DurationBuckets) -> WorkerCounts:
    requests = totals.requests or [0.0] * REQUESTS.width(buckets.bounds)
    return WorkerCounts(requests, totals.tally, worker.in_flight, worker.untracked)


def _worker_snapshot(tracked: TrackedWorker, *, stopping: bool) -> WorkerSnapshot:
    worker = tracked.worker
    return WorkerSnapshot(
        worker_id=tracked.worker_id,
        serial=tracked.lease.worker,
        slot=tracked.lease.number,
        since=tracked.lease.since,
        pid=worker.pid if isinstance(worker.pid, int) else None,
        worker_class=type(worker).__name__,
        capacity=worker_capacity(worker),
        states=tracked.states,
        heartbeat_age=tracked.heartbeat_age,
        loop_due=tracked.lease.slot.header[LOOP_DUE] or None,
        stopping=stopping,
        in_flight=_in_flight(tracked),
        untracked=tracked.lease.reader.untracked(),
    )


def _in_flight(tracked: TrackedWorker) -> list[InFlightRequest]:
    try:
        return tracked.lease.reader.in_flight()
    except CorruptIndex:  # the collectors report it
        return []
