"""The parts of the status page's data, one function each. They raise; the builder isolates them."""

from __future__ import annotations

import heapq
import operator
from array import array
from collections.abc import Mapping, Sequence
from typing import Final

from ..collectors.histogram import quantile
from ..collectors.listeners import ListenerQueue, listener_name
from ..collectors.processes import ProcessUsage
from ..collectors.requests import EndpointRequests, Key, read_in_progress
from ..collectors.workers import answered, blocked_seconds, count_phases, failed, lag_cells, phase_of, uptime_seconds
from ..model.counts import InFlightRequest, WorkerCounts
from ..model.server_snapshot import ServerSnapshot, WorkerSnapshot
from ..shm.schema import LAG_BUCKETS, LAG_PERIOD_SECONDS, lag_samples_per_bucket
from . import page_data
from .history import TotalsSample

MAX_WORKERS: Final = 100
"""Rows of workers. The number of the others is shown, as with endpoints and requests."""
MAX_ENDPOINTS: Final = 50
MAX_REQUESTS: Final = 5
HANGING_SECONDS: Final = 10.0
"""A request that is in progress for longer hangs. With a short timeout of gunicorn, a shorter time is enough."""

Requests = Mapping[Key, EndpointRequests]
Failures = Mapping[Key, float]
"""Failed requests by method and endpoint."""


def sample(
    snapshot: ServerSnapshot, requests: Requests, failures: Failures, processes: Mapping[str, ProcessUsage]
) -> TotalsSample:
    """Return the totals to keep for the rates and the latency of later page loads."""
    endpoints = {key: found.durations for key, found in requests.items()}
    total = sum(found.number for found in requests.values())
    cpu = {
        worker.serial: _cpu_seconds(processes[worker.worker_id])
        for worker in snapshot.workers
        if worker.worker_id in processes
    }
    loops = [worker for worker in snapshot.workers if worker.loop_due is not None]
    lags = {worker.serial: array("d", lag_cells(snapshot.counts[worker.worker_id])[1:]) for worker in loops}
    return TotalsSample(snapshot.clock, total, sum(failures.values()), endpoints, cpu, lags)


def server(snapshot: ServerSnapshot) -> page_data.Server:
    """Return the facts about the master, and its workers by phase."""
    phases = count_phases(snapshot)
    return page_data.Server(
        app=snapshot.build["app"],
        gunicorn=snapshot.build["gunicorn"],
        python=snapshot.build["python"],
        gunicorn_prom_hooks=snapshot.build["version"],
        worker_class=snapshot.build["worker_class"],
        pid=snapshot.pid,
        uptime_seconds=_span(snapshot.clock - snapshot.since),
        timeout_seconds=snapshot.timeout,
        reloads=snapshot.reloads,
        workers_target=snapshot.target,
        workers_booting=phases["booting"],
        workers_running=phases["running"],
        workers_stopping=phases["stopping"],
    )


def listeners(snapshot: ServerSnapshot, queues: Sequence[ListenerQueue]) -> list[page_data.Listener]:
    """Return each listener, also those whose queue cannot be read."""
    known = {queue.name: queue for queue in queues}
    names = dict.fromkeys(name for name in map(listener_name, snapshot.listeners) if name is not None)
    found = [known.get(name) or ListenerQueue(name) for name in names]
    return [page_data.Listener(queue.name, queue.queue, queue.limit, queue.unread) for queue in found]


def load(snapshot: ServerSnapshot) -> page_data.Load:
    """Return the requests in progress, how many there could be, and how many hang."""
    in_flight = [request for counts in snapshot.counts.values() for request in counts.in_flight]
    return page_data.Load(
        in_progress=read_in_progress(snapshot),
        capacity=_whole(snapshot.capacity),
        hanging=sum(_hangs(request, snapshot) for request in in_flight),
        hanging_after_seconds=_hanging_after(snapshot),
    )


def _hanging_after(snapshot: ServerSnapshot) -> float:
    return min(HANGING_SECONDS, snapshot.timeout / 2 or HANGING_SECONDS)


def _hangs(request: InFlightRequest, snapshot: ServerSnapshot) -> bool:
    return snapshot.clock - request.start > _hanging_after(snapshot)


def traffic(requests: Requests, failures: Failures, before: TotalsSample, period: page_data.Rates) -> page_data.Traffic:
    """Return the requests since the server's start, and their rates."""
    total = sum(found.number for found in requests.values())
    total_failed = sum(failures.values())
    return page_data.Traffic(
        requests=int(total),
        failed=int(total_failed),
        per_second=_rate(total, before.requests, period.seconds),
        failed_per_second=_rate(total_failed, before.failed, period.seconds),
    )


def workers(
    snapshot: ServerSnapshot, processes: Mapping[str, ProcessUsage], before: TotalsSample, period: page_data.Rates
) -> page_data.Workers:
    """Return the first ``MAX_WORKERS`` live workers."""
    rows = [
        _worker(snapshot, worker, processes.get(worker.worker_id), before, period)
        for worker in snapshot.workers[:MAX_WORKERS]
    ]
    return page_data.Workers(rows, max(0, len(snapshot.workers) - MAX_WORKERS))


def _worker(
    snapshot: ServerSnapshot,
    worker: WorkerSnapshot,
    process: ProcessUsage | None,
    before: TotalsSample,
    period: page_data.Rates,
) -> page_data.Worker:
    counts = snapshot.counts[worker.worker_id]
    uptime = _span(uptime_seconds(snapshot, worker))
    seconds = None if process is None else _cpu_seconds(process)
    heartbeat = worker.heartbeat_age
    blocked = blocked_seconds(snapshot, worker)
    return page_data.Worker(
        worker_id=worker.worker_id,
        age=worker.serial,
        pid=worker.pid,
        state=phase_of(worker),
        uptime_seconds=uptime,
        heartbeat_age_seconds=None if heartbeat is None else round(heartbeat, 3),
        memory_bytes=None if process is None else process.memory_bytes,
        cpu_percent=_cpu_percent(seconds, before.cpu.get(worker.serial), uptime, period),
        requests=int(answered(counts)),
        failed=int(failed(counts)),
        capacity=_whole(worker.capacity),
        loop_blocked_seconds=None if blocked is None else round(blocked, 3),
        loop_lag_p99_seconds=None if blocked is None else _lag(counts, blocked, before.lags.get(worker.serial)),
        in_progress=counts.in_progress,
        requests_in_progress=_requests_in_progress(snapshot, counts),
    )


def _requests_in_progress(snapshot: ServerSnapshot, counts: WorkerCounts) -> page_data.Requests:
    rows = [
        page_data.Request(
            request.method, request.path, _span(snapshot.clock - request.start), _hangs(request, snapshot)
        )
        for request in counts.in_flight[:MAX_REQUESTS]
    ]
    return page_data.Requests(rows, counts.in_progress - len(rows))


def _lag(counts: WorkerCounts, blocked: float, before: Sequence[float] | None) -> float | None:
    """Return the 99th percentile of the event loop's lag since the sample, with the lag so far of a blocked loop."""
    lags = _since(before, lag_cells(counts)[1:])
    if blocked >= LAG_PERIOD_SECONDS:
        lags = list(map(operator.add, lags, lag_samples_per_bucket(blocked)))
    return _percentile(99, LAG_BUCKETS, lags)


def _cpu_seconds(process: ProcessUsage) -> float:
    return process.user_seconds + process.system_seconds


def _cpu_percent(seconds: float | None, before: float | None, uptime: float, period: page_data.Rates) -> float | None:
    if seconds is None:
        return None
    if before is not None:
        return round(100.0 * _rate(seconds, before, period.seconds), 1)
    if uptime > period.seconds + 1.0 and not period.since_start:  # alive at the sample, but could not be read then
        return None
    return round(100.0 * _rate(seconds, 0.0, max(1.0, uptime)), 1)


def endpoints(
    requests: Requests,
    failures: Failures,
    before: TotalsSample,
    period: page_data.Rates,
    bounds: Sequence[float],
) -> page_data.Endpoints:
    """Return the ``MAX_ENDPOINTS`` busiest endpoints; ``bounds`` are those of the duration buckets."""
    totals = {key: found.number for key, found in requests.items()}
    recent = {key: totals[key] - sum(before.endpoints.get(key, ())) for key in totals}
    # The endpoints that are busy now are shown, in the order of their totals: so rows do not swap at each load.
    busiest = heapq.nlargest(MAX_ENDPOINTS, totals, key=lambda key: (recent[key], totals[key]))
    rows = [
        page_data.Endpoint(
            method=key[0],
            endpoint=key[1],
            requests=int(totals[key]),
            failed=int(failures.get(key, 0.0)),
            per_second=_rate(recent[key], 0.0, period.seconds),
            **_percentiles(bounds, _since(before.endpoints.get(key), requests[key].durations)),
        )
        for key in sorted(busiest, key=lambda key: (-totals[key], key))
        if totals[key]
    ]
    return page_data.Endpoints(rows, max(0, len(totals) - MAX_ENDPOINTS), bounds[0], bounds[-1])


def _since(before: Sequence[float] | None, now: Sequence[float]) -> Sequence[float]:
    """Return the counts since those of the sample; all of them if it has none."""
    return list(map(operator.sub, now, before)) if before else now


def _percentiles(bounds: Sequence[float], counts: Sequence[float]) -> dict[str, float | None]:
    return {f"p{percent}_seconds": _percentile(percent, bounds, counts) for percent in (50, 90, 99)}


def _percentile(percent: int, bounds: Sequence[float], counts: Sequence[float]) -> float | None:
    """Return a percentile: None without an observation, 0.0 in the lowest bucket, the last bound beyond that."""
    if not any(counts):
        return None
    value = quantile(percent / 100, bounds, counts)
    return 0.0 if value <= bounds[0] else round(value, 6)


def exits(snapshot: ServerSnapshot) -> list[page_data.Exit]:
    """Return the latest worker exits."""
    return [
        page_data.Exit(
            time=round(record.when, 3),
            worker_id=record.worker_id,
            pid=record.pid,
            reason=record.reason.value,
            detail=record.detail,
            requests_in_progress=page_data.InterruptedRequests(
                [
                    page_data.InterruptedRequest(request.method, request.path, _span(record.clock - request.start))
                    for request in record.requests
                ],
                record.others,
            ),
        )
        for record in snapshot.exit_stats.latest
    ]


def _rate(now: float, before: float, seconds: float) -> float:
    return round(max(0.0, now - before) / seconds, 3)


def _span(seconds: float) -> float:
    return round(max(0.0, seconds), 3)


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)
