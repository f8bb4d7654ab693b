"""From a view of the server to what the status page says of it."""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, TypeVar

from prometheus_client.metrics_core import Metric

from ..collectors import backlog
from ..collectors.view import View, WorkerView
from ..collectors.worker_processes import WorkerProcesses
from ..collectors.worker_states import phase_of
from ..scoreboard.families import BUCKETS, COUNTS, DURATION_BUCKETS, FAILED, REQUESTS
from ..scoreboard.reader import InFlight
from . import model
from .past import Counted, Key, Past
from .quantile import quantile

MAX_WORKERS: Final = 100
MAX_ENDPOINTS: Final = 50
MAX_REQUESTS: Final = 5
"""Rows that are shown; of the rest it is said how many they are."""

T = TypeVar("T")
Figures = Mapping[str, Mapping[str, float]]
"""What a collector says, by name of the sample: the sum of the values by the first label."""


class Snapshots:
    """Takes snapshots, and remembers some of the past for the rates.

    Args:
        processes: memory and CPU of workers.
        queues: the accept queues.
    """

    def __init__(
        self,
        processes: Callable[[View], Iterable[Metric]] | None = None,
        queues: Callable[[View], Iterable[Metric]] = backlog.collect,
    ) -> None:
        self._processes = processes or WorkerProcesses()
        self._queues = queues
        self._past = Past()

    def take(self, view: View) -> model.Snapshot:
        """What there is to say of this view."""
        figures: Figures = _part(lambda: _figures(self._processes(view))) or {}
        durations = _part(lambda: _durations(view))
        failures = _part(lambda: _failures(view))
        before = self._past.before(view.clock)
        uptime = max(1.0, view.now - view.since)
        period = model.Rates(uptime if before is None else view.clock - before.clock, before is None)
        before = before or Counted(view.clock - uptime, 0.0, 0.0, {}, {})
        counted = _part(lambda: _counted(view, _known(durations), _known(failures), figures))
        if counted is not None:
            self._past.keep(counted)
        return model.Snapshot(
            time=round(view.now, 3),
            rates=model.Rates(round(period.seconds, 3), period.since_start),
            server=_part(lambda: _server(view)),
            listeners=_part(lambda: _listeners(view, self._queues)),
            load=_part(lambda: _load(view)),
            traffic=_part(lambda: _traffic(_known(durations), _known(failures), before, period)),
            workers=_part(lambda: _workers(view, figures, before, period)),
            endpoints=_part(lambda: _endpoints(_known(durations), _known(failures), before, period)),
            deaths=_part(lambda: _deaths(view)),
        )


def _part(make: Callable[[], T]) -> T | None:
    try:
        return make()
    except Exception:  # noqa: BLE001 - a part that fails is not available, and the others are
        return None


def _known(value: T | None) -> T:
    if value is None:
        raise ValueError("not available")
    return value


def _figures(families: Iterable[Metric]) -> Figures:
    found: dict[str, dict[str, float]] = {}
    for family in families:
        for sample in family.samples:
            values = found.setdefault(sample.name, {})
            first = next(iter(sample.labels.values()))
            values[first] = values.get(first, 0.0) + sample.value
    return found


def _durations(view: View) -> dict[Key, list[float]]:
    """Requests by method and endpoint, per bucket of their duration."""
    found: dict[Key, list[float]] = {}
    for (method, endpoint, *_), cells in view.totals.series(REQUESTS.number).items():
        known = found.setdefault((method, endpoint), [0.0] * BUCKETS)
        known[:] = [a + b for a, b in zip(known, cells[COUNTS], strict=True)]
    return found


def _failures(view: View) -> dict[Key, float]:
    """Failures by method and endpoint."""
    found: dict[Key, float] = defaultdict(float)
    for (method, endpoint, _), cells in view.totals.series(FAILED.number).items():
        found[method, endpoint] += cells[0]
    return found


def _counted(
    view: View, durations: Mapping[Key, Sequence[float]], failures: Mapping[Key, float], figures: Figures
) -> Counted:
    requests = {key: sum(counts) for key, counts in durations.items()}
    seconds = figures.get("gunicorn_worker_cpu_seconds_total", {})
    cpu = {w.lease.worker: seconds[w.worker_id] for w in view.workers if w.worker_id in seconds}
    return Counted(view.clock, sum(requests.values()), sum(failures.values()), requests, cpu)


def _rate(now: float, before: float, seconds: float) -> float:
    return round(max(0.0, now - before) / seconds, 3)


def _server(view: View) -> model.Server:
    phases = Counter(phase_of(worker) for worker in view.workers)
    return model.Server(
        gunicorn=view.build["gunicorn"],
        python=view.build["python"],
        gunicorn_prom_hooks=view.build["version"],
        worker_class=view.build["worker_class"],
        pid=view.pid,
        uptime_seconds=_span(view.now, view.since),
        timeout_seconds=view.timeout,
        reloads=view.reloads,
        workers_target=view.target,
        workers_booting=phases["booting"],
        workers_running=phases["running"],
        workers_stopping=phases["stopping"],
    )


def _listeners(view: View, queues: Callable[[View], Iterable[Metric]]) -> list[model.Listener]:
    figures: Figures = _part(lambda: _figures(queues(view))) or {}
    waiting = figures.get("gunicorn_listener_backlog", {})
    limits = figures.get("gunicorn_listener_backlog_limit", {})
    names = dict.fromkeys(name for name in map(backlog.listener_name, view.listeners) if name is not None)
    return [model.Listener(name, _whole(waiting.get(name)), _whole(limits.get(name))) for name in names]


def _load(view: View) -> model.Load:
    return model.Load(
        in_progress=sum(counts.in_progress for counts in view.counts.values()),
        capacity=sum(worker.capacity for worker in view.workers),
    )


def _traffic(
    durations: Mapping[Key, Sequence[float]], failures: Mapping[Key, float], before: Counted, period: model.Rates
) -> model.Traffic:
    requests = sum(map(sum, durations.values()))
    failed = sum(failures.values())
    return model.Traffic(
        requests=int(requests),
        failed=int(failed),
        per_second=_rate(requests, before.requests, period.seconds),
        failed_per_second=_rate(failed, before.failed, period.seconds),
    )


def _workers(view: View, figures: Figures, before: Counted, period: model.Rates) -> model.Workers:
    rows = [_worker(view, worker, figures, before, period) for worker in view.workers[:MAX_WORKERS]]
    return model.Workers(rows, max(0, len(view.workers) - MAX_WORKERS))


def _worker(view: View, worker: WorkerView, figures: Figures, before: Counted, period: model.Rates) -> model.Worker:
    counts = view.counts[worker.worker_id]
    uptime = _span(view.now, worker.lease.since)
    seconds = figures.get("gunicorn_worker_cpu_seconds_total", {}).get(worker.worker_id)
    beat = worker.heartbeat_age
    return model.Worker(
        worker_id=worker.worker_id,
        age=worker.lease.worker,
        pid=worker.pid,
        state=phase_of(worker),
        uptime_seconds=uptime,
        heartbeat_age_seconds=None if beat is None else round(beat, 3),
        memory_bytes=_whole(figures.get("gunicorn_worker_memory_bytes", {}).get(worker.worker_id)),
        cpu_percent=_cpu_percent(seconds, before.cpu.get(worker.lease.worker), uptime, period),
        requests=int(sum(sum(cells[COUNTS]) for cells in counts.tally.series(REQUESTS.number).values())),
        failed=int(sum(cells[0] for cells in counts.tally.series(FAILED.number).values())),
        capacity=worker.capacity,
        in_progress=counts.in_progress,
        at=_requests(counts.in_flight, view.clock, MAX_REQUESTS, counts.untracked),
    )


def _cpu_percent(seconds: float | None, before: float | None, uptime: float, period: model.Rates) -> float | None:
    if seconds is None:
        return None
    if before is not None:
        return round(100.0 * _rate(seconds, before, period.seconds), 1)
    if uptime > period.seconds + 1.0 and not period.since_start:  # it was there and could not be asked
        return None
    return round(100.0 * _rate(seconds, 0.0, max(1.0, uptime)), 1)


def _endpoints(
    durations: Mapping[Key, Sequence[float]], failures: Mapping[Key, float], before: Counted, period: model.Rates
) -> model.Endpoints:
    requests = {key: sum(counts) for key, counts in durations.items()}

    def lately(key: Key) -> tuple[float, float]:
        return requests[key] - before.endpoints.get(key, 0.0), requests[key]

    # Those that are busy now are shown, but by their totals: an order that changes at every look cannot be read.
    busiest = heapq.nlargest(MAX_ENDPOINTS, requests, key=lately)
    rows = [
        model.Endpoint(
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
    return model.Endpoints(rows, max(0, len(requests) - MAX_ENDPOINTS))


def _latency(q: float, counts: Sequence[float]) -> float:
    return round(quantile(q, DURATION_BUCKETS, counts), 6)


def _deaths(view: View) -> list[model.Death]:
    return [
        model.Death(
            time=round(record.when, 3),
            worker_id=record.worker_id,
            pid=record.pid,
            reason=record.reason,
            detail=record.detail,
            at=_requests(record.requests, record.clock, len(record.requests), record.others),
        )
        for record in view.ledger.latest
    ]


def _requests(found: Sequence[InFlight], clock: float, limit: int, others: int) -> model.Requests:
    rows = [model.Request(request.method, request.path, _span(clock, request.start)) for request in found[:limit]]
    return model.Requests(rows, max(0, len(found) - limit) + others)


def _span(now: float, then: float) -> float:
    return round(max(0.0, now - then), 3)


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)
