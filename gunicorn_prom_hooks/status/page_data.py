"""What the status page says, as plain data: the JSON is exactly this. None is what could not be found out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Rates:
    """The period that rates and CPU are taken over.

    Attributes:
        seconds: how long it is, up to now.
        since_start: it began with the server, for want of an earlier look at it.
    """

    seconds: float
    since_start: bool


@dataclass(frozen=True)
class Server:
    """The master and what it runs.

    Attributes:
        pid: of the master.
        uptime_seconds: time since the master began.
        timeout_seconds: silence after which gunicorn kills a worker; 0: never.
        reloads: how often gunicorn has read its configuration anew.
    """

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
        queue: connections that wait to be accepted.
        queue_limit: how many may.
        unread: connections that a worker has accepted and whose data it has not read yet.
    """

    name: str
    queue: int | None
    queue_limit: int | None
    unread: int | None


@dataclass(frozen=True)
class Traffic:
    """Requests over all workers, past and present.

    Attributes:
        failed: ended with an exception or a 5xx.
        per_second: over the period of the rates.
        failed_per_second: likewise.
    """

    requests: int
    failed: int
    per_second: float
    failed_per_second: float


@dataclass(frozen=True)
class Load:
    """Requests in progress, and how many there could be; None if nothing limits them."""

    in_progress: int
    capacity: int | None


@dataclass(frozen=True)
class Request:
    """A request; ``seconds`` is for how long it has run, or had when its worker died."""

    method: str
    path: str
    seconds: float


@dataclass(frozen=True)
class Requests:
    """Some requests, oldest first, and how many more there are."""

    rows: Sequence[Request]
    more: int


@dataclass(frozen=True)
class Worker:
    """A live worker.

    Attributes:
        worker_id: the label that metrics have.
        age: gunicorn's serial number of the worker.
        state: booting, running or stopping.
        heartbeat_age_seconds: time since it last told the master that it is alive; None too if it never has.
        memory_bytes: resident.
        cpu_percent: of one core, over the period of the rates, or since its fork if that is shorter.
        requests: that it answered.
        failed: those of them that ended with an exception or a 5xx.
        capacity: requests that it can serve at a time; None if nothing limits them.
        loop_blocked_seconds: time for which its event loop has been blocked; None if it has none.
        in_progress: number of requests that it is at.
        at: which these are.
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
    in_progress: int
    at: Requests


@dataclass(frozen=True)
class Workers:
    """Workers in the order of their slots, and how many more there are."""

    rows: Sequence[Worker]
    more: int


@dataclass(frozen=True)
class Endpoint:
    """Requests to an endpoint since the server's start.

    Attributes:
        per_second: over the period of the rates.
        p50_seconds: half of the requests took no longer; interpolated in the histogram's buckets.
    """

    method: str
    endpoint: str
    requests: int
    failed: int
    per_second: float
    p50_seconds: float
    p90_seconds: float
    p99_seconds: float


@dataclass(frozen=True)
class Endpoints:
    """The busiest endpoints, and how many more there are."""

    rows: Sequence[Endpoint]
    more: int


@dataclass(frozen=True)
class Death:
    """The end of a worker.

    Attributes:
        time: unix time.
        reason: as in ``gunicorn_worker_exits_total``.
        detail: name of a signal, or exit code.
        at: the requests it died on.
    """

    time: float
    worker_id: str
    pid: int | None
    reason: str
    detail: str
    at: Requests


@dataclass(frozen=True)
class Snapshot:
    """One moment of the server. A part that could not be found out is None; the others are there.

    Attributes:
        time: unix time of the moment.
        deaths: the latest ones, the last one first.
    """

    time: float
    rates: Rates
    server: Server | None
    listeners: Sequence[Listener] | None
    load: Load | None
    traffic: Traffic | None
    workers: Workers | None
    endpoints: Endpoints | None
    deaths: Sequence[Death] | None
