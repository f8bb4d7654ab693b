"""The data of the status page. The JSON is exactly this. None is what could not be read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Rates:
    """The period that rates, CPU and latency are taken over.

    Attributes:
        seconds: length of the period, up to now.
        since_start: it began with the server, since there is no earlier sample of the totals.
    """

    seconds: float
    since_start: bool


@dataclass(frozen=True)
class Server:
    """The master and what it runs.

    Attributes:
        app: gunicorn's ``proc_name``.
        pid: of the master.
        uptime_seconds: time since the master began.
        timeout_seconds: time without a heartbeat after which gunicorn kills a worker; 0: never.
        reloads: number of reloads of gunicorn's configuration.
    """

    app: str
    gunicorn: str
    python: str
    gunicorn_prom_hooks: str
    worker_class: str
    pid: int
    uptime_seconds: float
    timeout_seconds: float
    reloads: int
    workers_target: int
    workers_booting: int
    workers_running: int
    workers_stopping: int


@dataclass(frozen=True)
class Listener:
    """A listening socket.

    Attributes:
        queue: connections in the accept queue.
        queue_limit: connections that it may hold.
        unread: connections accepted by a worker whose data it has not read yet.
    """

    name: str
    queue: int | None
    queue_limit: int | None
    unread: int | None


@dataclass(frozen=True)
class Traffic:
    """Requests over all workers, past and present.

    Attributes:
        failed: requests with an exception or a 5xx response.
        per_second: over the period of the rates.
        failed_per_second: likewise.
    """

    requests: int
    failed: int
    per_second: float
    failed_per_second: float


@dataclass(frozen=True)
class Load:
    """Requests in progress.

    Attributes:
        capacity: number that all live workers can process at a time; None if nothing limits them.
        hanging: number of those that hang.
        hanging_after_seconds: age at which a request hangs.
    """

    in_progress: int
    capacity: int | None
    hanging: int
    hanging_after_seconds: float


@dataclass(frozen=True)
class Request:
    """A request in progress; ``seconds`` is its age, and ``hangs`` whether it is too long in progress."""

    method: str
    path: str
    seconds: float
    hangs: bool


@dataclass(frozen=True)
class Requests:
    """Requests in progress, oldest first, and the number of those that are not shown."""

    rows: Sequence[Request]
    more: int


@dataclass(frozen=True)
class InterruptedRequest:
    """A request that was in progress at a worker exit; ``seconds`` is its age then."""

    method: str
    path: str
    seconds: float


@dataclass(frozen=True)
class InterruptedRequests:
    """Requests that were in progress at a worker exit, oldest first, and the number of those that are not shown."""

    rows: Sequence[InterruptedRequest]
    more: int


@dataclass(frozen=True)
class Worker:
    """A live worker.

    Attributes:
        worker_id: the label of the metrics.
        age: gunicorn's serial number of the worker.
        state: booting, running or stopping.
        heartbeat_age_seconds: time since its last heartbeat; None too before the first one.
        memory_bytes: resident memory.
        cpu_percent: of one core, over the period of the rates, or since its fork if that is shorter.
        requests: requests answered.
        failed: those of them with an exception or a 5xx response.
        capacity: requests that it can process at a time; None if nothing limits them.
        loop_blocked_seconds: time for which its event loop has been blocked; None if it has none.
        loop_lag_p99_seconds: lag of its event loop over the period of the rates; None if it has none, or no sample.
            Interpolated in the buckets of the histogram, as ``Endpoint.p99_seconds``.
        in_progress: number of requests in progress.
        requests_in_progress: the oldest of them.
    """

    worker_id: str
    age: int
    pid: int | None
    state: str
    uptime_seconds: float
    heartbeat_age_seconds: float | None
    memory_bytes: int | None
    cpu_percent: float | None
    requests: int
    failed: int
    capacity: int | None
    loop_blocked_seconds: float | None
    loop_lag_p99_seconds: float | None
    in_progress: int
    requests_in_progress: Requests


@dataclass(frozen=True)
class Workers:
    """Live workers in the order of their slots, and the number of those that are not shown."""

    rows: Sequence[Worker]
    more: int


@dataclass(frozen=True)
class Endpoint:
    """Requests to an endpoint.

    Attributes:
        requests: since the server's start.
        failed: likewise.
        per_second: over the period of the rates.
        p50_seconds: median duration over the same period, interpolated in the histogram's buckets. 0.0 if it is in the
            lowest bucket, the bound of the highest one if it is beyond that, None without a request in the period.
        p90_seconds: likewise.
        p99_seconds: likewise.
    """

    method: str
    endpoint: str
    requests: int
    failed: int
    per_second: float
    p50_seconds: float | None
    p90_seconds: float | None
    p99_seconds: float | None


@dataclass(frozen=True)
class Endpoints:
    """The busiest endpoints.

    Attributes:
        more: number of those that are not shown.
        lowest_bucket_seconds: bound of the lowest duration bucket. Of a shorter duration no more is known.
        highest_bucket_seconds: bound of the highest one below +Inf. Of a longer duration no more is known.
    """

    rows: Sequence[Endpoint]
    more: int
    lowest_bucket_seconds: float
    highest_bucket_seconds: float


@dataclass(frozen=True)
class Exit:
    """A worker exit.

    Attributes:
        time: unix time.
        reason: as in ``gunicorn_worker_exits_total``.
        detail: name of a signal, or exit code.
        requests_in_progress: those at the exit.
    """

    time: float
    worker_id: str
    pid: int | None
    reason: str
    detail: str
    requests_in_progress: InterruptedRequests


@dataclass(frozen=True)
class StatusData:
    """The server at one moment. A part that could not be read is None, and the others are there.

    Attributes:
        time: unix time of the moment.
        exits: the latest ones, the newest first.
    """

    time: float
    rates: Rates
    server: Server | None
    listeners: Sequence[Listener] | None
    load: Load | None
    traffic: Traffic | None
    workers: Workers | None
    endpoints: Endpoints | None
    exits: Sequence[Exit] | None
