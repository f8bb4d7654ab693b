"""The parts of a snapshot, one function each. They just raise."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Sequence
from typing import Final

from ..collectors.event_loop_lag import blocked_seconds
from ..collectors.listeners import listener_name
from ..collectors.workers import phase_of
from ..model.requests import InFlightRequest
from ..model.server_snapshot import ServerSnapshot, WorkerSnapshot
from ..shm.schema import COUNTS, DURATION_BUCKETS, FAILED
from . import page_data
from .history import Counted, Key
from .inputs import Durations, Failures, Figures
from .quantile import quantile

MAX_WORKERS: Final = 100
MAX_ENDPOINTS: Final = 50
MAX_REQUESTS: Final = 5
"""Rows that are shown; of the rest it is said how many they are."""


def _rate(now: float, before: float, seconds: float) -> float:
    return round(max(0.0, now - before) / seconds, 3)


def server(view: ServerSnapshot) -> page_data.Server:
    """The master, and how many workers it has."""
    phases = Counter(phase_of(worker) for worker in view.workers)
    return page_data.Server(
        gunicorn=view.build["gunicorn"],
        python=view.build["python"],
        gunicorn_prom_hooks=view.build["version"],
        worker_class=view.build["worker_class"],
        pid=view.pid,
        uptime_seconds=_span(view.clock, view.since),
        timeout_seconds=view.timeout,
        reloads=view.reloads,
        workers_target=view.target,
        workers_booting=phases["booting"],
        workers_running=phases["running"],
        workers_stopping=phases["stopping"],
    )


def listeners(view: ServerSnapshot, queues: Figures) -> list[page_data.Listener]:
    """Each listening socket; one whose queue nobody can tell of has none."""
    waiting = queues.get("gunicorn_listener_backlog", {})
    limits = queues.get("gunicorn_listener_backlog_limit", {})
    unread = queues.get("gunicorn_listener_waiting_connections", {})
    names = dict.fromkeys(name for name in map(listener_name, view.listeners) if name is not None)
    return [
        page_data.Listener(name, _whole(waiting.get(name)), _whole(limits.get(name)), _whole(unread.get(name)))
        for name in names
    ]


def load(view: ServerSnapshot) -> page_data.Load:
    """Requests in progress."""
    return page_data.Load(
        in_progress=sum(counts.in_progress for counts in view.counts.values()),
        capacity=_whole(view.capacity),
    )


def traffic(durations: Durations, failures: Failures, before: Counted, period: page_data.Rates) -> page_data.Traffic:
    """Requests so far, and lately."""
    requests = sum(map(sum, durations.values()))
    failed = sum(failures.values())
    return page_data.Traffic(
        requests=int(requests),
        failed=int(failed),
        per_second=_rate(requests, before.requests, period.seconds),
        failed_per_second=_rate(failed, before.failed, period.seconds),
    )


def workers(view: ServerSnapshot, figures: Figures, before: Counted, period: page_data.Rates) -> page_data.Workers:
    """The live workers, but for those that are too many."""
    rows = [_worker(view, worker, figures, before, period) for worker in view.workers[:MAX_WORKERS]]
    return page_data.Workers(rows, max(0, len(view.workers) - MAX_WORKERS))


def _worker(
    view: ServerSnapshot, worker: WorkerSnapshot, figures: Figures, before: Counted, period: page_data.Rates
) -> page_data.Worker:
    counts = view.counts[worker.worker_id]
    uptime = _span(view.clock, worker.since)
    seconds = figures.get("gunicorn_worker_cpu_seconds_total", {}).get(worker.worker_id)
    beat = worker.heartbeat_age
    blocked = blocked_seconds(view, worker)
    return page_data.Worker(
        worker_id=worker.worker_id,
        age=worker.serial,
        pid=worker.pid,
        state=phase_of(worker),
        uptime_seconds=uptime,
        heartbeat_age_seconds=None if beat is None else round(beat, 3),
        memory_bytes=_whole(figures.get("gunicorn_worker_memory_bytes", {}).get(worker.worker_id)),
        cpu_percent=_cpu_percent(seconds, before.cpu.get(worker.serial), uptime, period),
        requests=int(sum(counts.requests[COUNTS])),
        failed=int(sum(cells[0] for cells in counts.tally.series(FAILED.number).values())),
        capacity=_whole(worker.capacity),
        loop_blocked_seconds=None if blocked is None else round(blocked, 3),
        in_progress=counts.in_progress,
        at=_requests(counts.in_flight, view.clock, MAX_REQUESTS, counts.untracked.number),
    )


def _cpu_percent(seconds: float | None, before: float | None, uptime: float, period: page_data.Rates) -> float | None:
    if seconds is None:
        return None
    if before is not None:
        return round(100.0 * _rate(seconds, before, period.seconds), 1)
    if uptime > period.seconds + 1.0 and not period.since_start:  # it was there and could not be asked
        return None
    return round(100.0 * _rate(seconds, 0.0, max(1.0, uptime)), 1)


def endpoints(
    durations: Durations, failures: Failures, before: Counted, period: page_data.Rates
) -> page_data.Endpoints:
    """The busiest endpoints."""
    requests = {key: sum(counts) for key, counts in durations.items()}

    def lately(key: Key) -> tuple[float, float]:
        return requests[key] - before.endpoints.get(key, 0.0), requests[key]

    # Those that are busy now are shown, but by their totals: an order that changes at every look cannot be read.
    busiest = heapq.nlargest(MAX_ENDPOINTS, requests, key=lately)
    rows = [
        page_data.Endpoint(
            method=key[0],
            endpoint=key[1],
            requests=int(requests[key]),
            failed=int(failures.get(key, 0.0)),
            per_second=_rate(requests[key], before.endpoints.get(key, 0.0), period.seconds),
            p50_seconds=_latency(0.5, durations[key]),
            p90_seconds=_latency(0.9, durations[key]),
            p99_seconds=_latency(0.99, durations[key]),
        )
        for key in sorted(busiest, key=lambda key: (-requests[key], key))
        if requests[key]
    ]
    return page_data.Endpoints(rows, max(0, len(requests) - MAX_ENDPOINTS))


def _latency(q: float, counts: Sequence[float]) -> float:
    return round(quantile(q, DURATION_BUCKETS, counts), 6)


def deaths(view: ServerSnapshot) -> list[page_data.Death]:
    """The latest deaths."""
    return [
        page_data.Death(
            time=round(record.when, 3),
            worker_id=record.worker_id,
            pid=record.pid,
            reason=record.reason.value,
            detail=record.detail,
            at=_requests(record.requests, record.clock, len(record.requests), record.others),
        )
        for record in view.exit_stats.latest
    ]


def _requests(found: Sequence[InFlightRequest], clock: float, limit: int, others: int) -> page_data.Requests:
    rows = [page_data.Request(request.method, request.path, _span(clock, request.start)) for request in found[:limit]]
    return page_data.Requests(rows, max(0, len(found) - limit) + others)


def _span(now: float, then: float) -> float:
    return round(max(0.0, now - then), 3)


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)
