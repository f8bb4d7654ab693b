"""Series for each alert of the sample rules: with which it fires, and with which it is silent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

STEP_SECONDS: Final = 15
AT_MINUTES: Final = 30
"""When the alerts are evaluated."""
LONG_STEP_SECONDS: Final = 60
LONG_MINUTES: Final = 480
"""The same for alerts with long windows."""

Series = Mapping[str, str]
"""Values by metric and labels. The labels ``job`` and ``instance`` are added."""


def constant(value: float) -> str:
    """Return a series that always has this value."""
    return f"{value}+0x{AT_MINUTES * 60 // STEP_SECONDS}"


def jump(*to: float, before: float | None = 0, minutes: int = 10) -> str:
    """Return a series that takes these values, one per minute, and keeps the last.

    Args:
        to: the values.
        before: its value until then; None: the series begins with the first value.
        minutes: when the first value begins, before the end.
    """
    first = (AT_MINUTES - minutes) * 60 // STEP_SECONDS
    steps = [f"{value}+0x{60 // STEP_SECONDS - 1}" for value in to[:-1]]
    begin = f"_x{first}" if before is None else f"{before}+0x{first - 1}"
    return " ".join([begin, *steps, f"{to[-1]}+0x{AT_MINUTES * 60 // STEP_SECONDS}"])


def steady(value: float, change: float) -> str:
    """Return a series that changes by this much per step."""
    return f"{value}{change:+}x{AT_MINUTES * 60 // STEP_SECONDS}"


def long_jump(to: float, minutes: int) -> str:
    """Return a long series that is 0, and has this value for the last minutes."""
    return f"0+0x{LONG_MINUTES - minutes - 1} {to}+0x{minutes}"


def answered(requests: str, failed: str) -> Series:
    """Return the series of a server with these requests, and with these failures among them."""
    return {
        f'{REQUESTS}{{method="GET",endpoint="/a",status="200"}}': requests,
        f'{FAILED}{{{NONE},error_type="<other>"}}': "0+0x600",
        f'{FAILED}{{method="GET",endpoint="/a",error_type="KeyError"}}': failed,
        f'{KILLED}{{{NONE},reason="timeout"}}': "0+0x600",
    }


def interrupted(requests: int, number: int, error_type: str, reason: str) -> Series:
    """Return the series of a sync server with these requests, of which a signal to the worker ended this number."""
    return {
        **answered(jump(requests - number, minutes=4), constant(0)),
        f'{REQUESTS}{{method="GET",endpoint="/a",status="500"}}': jump(number, minutes=4),
        f'{FAILED}{{method="GET",endpoint="/a",error_type="{error_type}"}}': jump(number, before=None, minutes=4),
        f'{KILLED}{{method="GET",endpoint="/a",reason="{reason}"}}': jump(number, before=None, minutes=4),
    }


def memory(values: str, uptime: str = f"0+60x{LONG_MINUTES}") -> Series:
    """Return the long series of a worker with this memory, that runs for this long; by default for all the time."""
    return {
        'gunicorn_worker_memory_bytes{worker_id="worker_0"}': values,
        'gunicorn_worker_uptime_seconds{worker_id="worker_0"}': uptime,
    }


@dataclass(frozen=True)
class Case:
    """An alert that fires for the server "bad", and is silent for all the others.

    Attributes:
        alert: its name.
        bad: the series of that server.
        labels: of the alert, without job, instance and app.
        description: of the alert.
        silent: the series of each of the other servers.
        documented: whether the documented query is silent for the others, too, if there is one.
        is_long: whether the series are long ones.
        app: the name of each server's application; empty: none is known.
    """

    alert: str
    bad: Series
    labels: Mapping[str, str]
    description: str
    silent: tuple[Series, ...] = field(default=())
    documented: bool = True
    is_long: bool = False
    app: str = "shop"


NONE: Final = 'method="<other>",endpoint="<other>"'
KILLED, FAILED, EXITS = (
    "gunicorn_killed_requests_total",
    "gunicorn_failed_requests_total",
    "gunicorn_worker_exits_total",
)
INVALID, REQUESTS = "gunicorn_invalid_requests_total", "gunicorn_requests_total"
ERRORS = "gunicorn_exporter_errors_total"
DURATION: Final = "gunicorn_request_duration_seconds_bucket"
LAG: Final = "gunicorn_worker_event_loop_lag_seconds"
RELOADS: Final = "gunicorn_reloads_total"
BURNS: Final = (
    "the requests to shop at bad of job gunicorn failed within an hour, or within 6 hours. At this rate the errors "
    "that the objective allows in 30 days are used up in less than 5 days."
)
NO_ANSWER: Final = (
    "does not answer scrapes. gunicorn is down, or Prometheus scrapes another port, or without its token or TLS. "
    "`python -m gunicorn_prom_hooks check URL` tells which."
)
RELOADED: Final = (
    "shop at bad of job gunicorn was reloaded within 15 minutes, and since then workers did not load the application, "
    "or the server does not answer. The alert cannot tell whether the reload is the cause. It does not see a reload "
    "that stopped the server before the next scrape: GunicornTargetDown or GunicornServerRestarts fires then."
)
GAP: Final = f"7+0x{(AT_MINUTES - 15) * 4 - 10} stale _x20 7+0x100"
"""A series of a server that was not scraped 15 minutes ago, without a new event."""

CASES: Final = (
    Case(
        "GunicornTargetDown",
        {"up": constant(0)},
        {"severity": "critical"},
        f"shop at bad of job gunicorn {NO_ANSWER}",
        ({"up": constant(1)}, {"up": jump(0, 1)}),
    ),
    Case(
        "GunicornTargetDown",
        {"up": jump(0, before=1)},
        {"severity": "critical"},
        f"shop at bad of job gunicorn {NO_ANSWER}",
        ({"up": constant(1)},),
        app="shop until it is down",
    ),
    Case(
        "GunicornTargetDown",
        {"up": constant(0)},
        {"severity": "critical"},
        f"gunicorn at bad of job gunicorn {NO_ANSWER}",
        ({"up": constant(1)}, {'up{job="node",instance="other"}': constant(0)}),
        app="",
    ),
    Case(
        "GunicornNoWorkersReady",
        {'gunicorn_workers{state="running"}': constant(0), 'gunicorn_workers{state="booting"}': constant(2)},
        {"severity": "critical"},
        "shop at bad of job gunicorn has no running worker. Requests wait until one has booted.",
        ({'gunicorn_workers{state="running"}': constant(1), 'gunicorn_workers{state="booting"}': constant(0)},),
    ),
    Case(
        "GunicornWorkersMissing",
        {'gunicorn_workers{state="running"}': constant(1), "gunicorn_workers_target": constant(2)},
        {"severity": "critical"},
        "Only 1 workers of shop at bad of job gunicorn run. Workers exit, or do not start.",
        ({'gunicorn_workers{state="running"}': constant(2), "gunicorn_workers_target": constant(2)},),
    ),
    Case(
        "GunicornWorkerExits",
        {
            f'{EXITS}{{reason="timeout",detail="SIGABRT"}}': jump(1),
            f'{EXITS}{{reason="error",detail="1"}}': constant(0),
            f'{EXITS}{{reason="error",detail="7"}}': jump(1, before=None, minutes=5),
            f'{EXITS}{{reason="signal",detail="SIGILL"}}': jump(1, before=None, minutes=8),
            f'{EXITS}{{reason="signal",detail="SIGSEGV"}}': constant(0),
        },
        {"severity": "critical"},
        "3 workers of shop at bad of job gunicorn exited unexpectedly within 15 minutes.",
        (
            {f'{EXITS}{{reason="timeout",detail="SIGABRT"}}': jump(1, 2)},
            {f'{EXITS}{{reason="reload",detail="0"}}': jump(4, 8)},
        ),
    ),
    Case(
        "GunicornWorkerExit",
        {
            f'{EXITS}{{reason="error",detail="7"}}': jump(1, before=None),
            f'{EXITS}{{reason="error",detail="1"}}': constant(0),
        },
        {"severity": "warning", "reason": "error", "detail": "7"},
        "A worker of shop at bad of job gunicorn exited: error (7). The error log names the worker and its requests.",
        (
            {
                f'{EXITS}{{reason="error",detail="1"}}': constant(0),
                f'{EXITS}{{reason="error",detail="7"}}': constant(3),
            },
            {f'{EXITS}{{reason="max_requests",detail="0"}}': jump(1, 2, 3)},
        ),
    ),
    Case(
        "GunicornCrashLoop",
        {
            f'{EXITS}{{reason="boot",detail="1"}}': jump(4, 8, minutes=3),
            f'{EXITS}{{reason="oom",detail="SIGKILL"}}': jump(5, minutes=3),
            "gunicorn_workers_target": constant(2),
        },
        {"severity": "critical", "reason": "boot"},
        "8 workers of shop at bad of job gunicorn exited within 5 minutes: boot. That is more than three times the "
        "number of its workers.",
        (
            {f'{EXITS}{{reason="boot",detail="1"}}': jump(3, 5, minutes=3), "gunicorn_workers_target": constant(2)},
            {f'{EXITS}{{reason="reload",detail="0"}}': jump(9, 20, minutes=3), "gunicorn_workers_target": constant(2)},
        ),
    ),
    Case(
        "GunicornServerRestarts",
        {"process_start_time_seconds": jump(1, 2, 3)},
        {"severity": "critical"},
        "shop at bad of job gunicorn has started at least 3 times within 15 minutes. gunicorn stops if the application "
        "cannot be loaded; the reason is in the error log.",
        (
            {"process_start_time_seconds": jump(1, 2)},
            {'process_start_time_seconds{job="node",instance="other"}': jump(1, 2, 3, 4)},
        ),
        documented=False,
    ),
    Case(
        "GunicornReloadFailed",
        {
            "up": constant(1),
            RELOADS: jump(1),
            f'{EXITS}{{reason="boot",detail="<other>"}}': constant(0),
            f'{EXITS}{{reason="boot",detail="1"}}': jump(1, before=None, minutes=9),
        },
        {"severity": "critical"},
        RELOADED,
        (
            {"up": constant(1), RELOADS: jump(1), f'{EXITS}{{reason="boot",detail="1"}}': constant(1)},
            {"up": constant(1), RELOADS: constant(1), f'{EXITS}{{reason="boot",detail="1"}}': jump(1)},
            {"up": jump(0, before=1), RELOADS: constant(1)},
        ),
    ),
    Case(
        "GunicornReloadFailed",
        {"up": jump(0, before=1, minutes=5), RELOADS: f"0+0x{(AT_MINUTES - 8) * 4} 1+0x10 stale"},
        {"severity": "critical"},
        RELOADED,
        ({"up": constant(1), RELOADS: jump(1)},),
    ),
    Case(
        "GunicornRequestKilled",
        {
            f'{KILLED}{{{NONE},reason="timeout"}}': constant(0),
            f'{KILLED}{{method="GET",endpoint="/report/:id",reason="timeout"}}': jump(1, before=None),
        },
        {"severity": "warning", "method": "GET", "endpoint": "/report/:id", "reason": "timeout"},
        "GET /report/:id was in progress when its worker of shop at bad of job gunicorn exited: timeout.",
        ({f'{KILLED}{{{NONE},reason="timeout"}}': constant(0)},),
    ),
    Case(
        "GunicornRequestFailed",
        {
            f'{FAILED}{{{NONE},error_type="<other>"}}': constant(0),
            f'{FAILED}{{method="GET",endpoint="/a",error_type="KeyError"}}': jump(1, before=None),
            f'{FAILED}{{method="GET",endpoint="/b",error_type="KeyError"}}': constant(3),
        },
        {"severity": "info", "method": "GET", "endpoint": "/a", "error_type": "KeyError"},
        "GET /a of shop at bad of job gunicorn failed: KeyError.",
        ({f'{FAILED}{{{NONE},error_type="<other>"}}': constant(0)},),
    ),
    Case(
        "GunicornRequestFailed",
        {
            f'{FAILED}{{{NONE},error_type="<other>"}}': constant(0),
            f'{FAILED}{{method="GET",endpoint="/a",error_type="KeyError"}}': jump(8, before=7),
        },
        {"severity": "info", "method": "GET", "endpoint": "/a", "error_type": "KeyError"},
        "GET /a of shop at bad of job gunicorn failed: KeyError.",
        ({f'{FAILED}{{method="GET",endpoint="/a",error_type="KeyError"}}': constant(7)},),
    ),
    Case(
        "GunicornRequestFailed",
        {f'{FAILED}{{method="GET",endpoint="/a",error_type="KeyError"}}': jump(8, before=7)},
        {"severity": "info", "method": "GET", "endpoint": "/a", "error_type": "KeyError"},
        "GET /a of shop at bad of job gunicorn failed: KeyError.",
        ({f'{FAILED}{{method="GET",endpoint="/a",error_type="KeyError"}}': GAP},),
        documented=False,
    ),
    Case(
        "GunicornErrorBudgetBurnsFast",
        answered(jump(1000, minutes=4), jump(20, minutes=4)),
        {"severity": "critical"},
        f"2% of {BURNS} Most of the failures are of GET /a.",
        (
            answered(jump(1000, minutes=4), jump(5, minutes=4)),
            answered(constant(1000), constant(50)),
            interrupted(1000, 4, "timeout", "timeout"),
            interrupted(1000, 4, "shutdown", "signal"),
            interrupted(1000, 4, "abort", "signal"),
        ),
    ),
    Case(
        "GunicornErrorBudgetBurnsFast",
        interrupted(22, 22, "timeout", "timeout"),
        {"severity": "critical"},
        f"100% of {BURNS} Most of the failures are of GET /a.",
        (interrupted(22, 0, "timeout", "timeout"),),
    ),
    Case(
        "GunicornErrorBudgetBurnsFast",
        interrupted(22, 11, "abort", "signal"),
        {"severity": "critical"},
        f"50% of {BURNS} Most of the failures are of GET /a.",
        (interrupted(22, 0, "abort", "signal"),),
    ),
    Case(
        "GunicornErrorBudgetBurnsFast",
        {
            **answered(jump(980, minutes=4), constant(0)),
            f'{KILLED}{{method="GET",endpoint="/a",reason="oom"}}': jump(20, before=None, minutes=4),
        },
        {"severity": "critical"},
        f"2% of {BURNS}",
        (answered(jump(980, minutes=4), constant(0)),),
    ),
    Case(
        "GunicornErrorBudgetBurnsFast",
        answered(long_jump(1000, 25), long_jump(8, 25)),
        {"severity": "critical"},
        f"0.8% of {BURNS}",
        (
            answered(long_jump(1000, 40), long_jump(100, 40)),
            answered(long_jump(1000, 25), long_jump(5, 25)),
            answered(f"0+0x{LONG_MINUTES - 101} 2000+0x74 3000+0x25", long_jump(8, 25)),
        ),
        is_long=True,
    ),
    Case(
        "GunicornErrorBudgetBurnsSlowly",
        answered(jump(1000, minutes=4), jump(2, minutes=4)),
        {"severity": "warning"},
        "0.2% of the requests to shop at bad of job gunicorn failed within 3 days. That is more than the objective "
        "allows. Most of the failures are of GET /a.",
        (answered(jump(10_000, minutes=4), jump(9, minutes=4)),),
    ),
    Case(
        "GunicornErrorBudgetBurnsSlowly",
        answered(long_jump(1000, 300), long_jump(2, 300)),
        {"severity": "warning"},
        "0.2% of the requests to shop at bad of job gunicorn failed within 3 days. That is more than the objective "
        "allows.",
        (answered(long_jump(1000, 420), long_jump(2, 420)),),
        is_long=True,
    ),
    Case(
        "GunicornLatencyObjectiveMissed",
        {
            f'{DURATION}{{method="GET",endpoint="/a",le="0.5"}}': steady(0, 75),
            f'{DURATION}{{method="GET",endpoint="/a",le="1.0"}}': steady(0, 90),
            f'{DURATION}{{method="GET",endpoint="/a",le="+Inf"}}': steady(0, 90),
            f'{DURATION}{{method="GET",endpoint="/b",le="0.5"}}': steady(0, 0),
            f'{DURATION}{{method="GET",endpoint="/b",le="1.0"}}': steady(0, 10),
            f'{DURATION}{{method="GET",endpoint="/b",le="+Inf"}}': steady(0, 10),
        },
        {"severity": "warning"},
        "The latency quantile of shop at bad of job gunicorn was 0.90 s within 5 minutes. That is more than the "
        "objective allows. The slowest endpoint is GET /b.",
        (
            {
                f'{DURATION}{{method="GET",endpoint="/a",le="0.5"}}': steady(0, 96),
                f'{DURATION}{{method="GET",endpoint="/a",le="1.0"}}': steady(0, 100),
                f'{DURATION}{{method="GET",endpoint="/a",le="+Inf"}}': steady(0, 100),
            },
            {
                f'{DURATION}{{method="GET",endpoint="/a",le="0.5"}}': constant(0),
                f'{DURATION}{{method="GET",endpoint="/a",le="1.0"}}': constant(7),
                f'{DURATION}{{method="GET",endpoint="/a",le="+Inf"}}': constant(7),
            },
        ),
    ),
    Case(
        "GunicornClientDisconnect",
        {
            f'{REQUESTS}{{{NONE},status="<other>"}}': constant(0),
            f'{REQUESTS}{{method="GET",endpoint="/a",status="499"}}': jump(1, before=None),
        },
        {"severity": "info", "method": "GET", "endpoint": "/a"},
        "A client of GET /a of shop at bad of job gunicorn disconnected before it had the whole response.",
        (
            {
                f'{REQUESTS}{{{NONE},status="<other>"}}': constant(0),
                f'{REQUESTS}{{method="GET",endpoint="/a",status="200"}}': jump(5, before=None),
                f'{REQUESTS}{{method="GET",endpoint="/a",status="499"}}': constant(5),
            },
        ),
    ),
    Case(
        "GunicornInvalidRequest",
        {
            f'{INVALID}{{error_type="<other>"}}': constant(0),
            f'{INVALID}{{error_type="InvalidRequestLine"}}': jump(1, before=None),
        },
        {"severity": "info", "error_type": "InvalidRequestLine"},
        "shop at bad of job gunicorn refused a malformed request: InvalidRequestLine.",
        ({f'{INVALID}{{error_type="<other>"}}': constant(0)},),
    ),
    Case(
        "GunicornConnectionsWaiting",
        {
            'gunicorn_listener_backlog{listener="a"}': constant(0),
            'gunicorn_listener_waiting_connections{listener="a"}': constant(2),
            'gunicorn_listener_backlog{listener="b"}': constant(3),
        },
        {"severity": "warning"},
        "5 connections wait for a thread or an event loop of shop at bad of job gunicorn.",
        ({'gunicorn_listener_backlog{listener="a"}': constant(0)},),
    ),
    Case(
        "GunicornBacklogGrowing",
        {
            'gunicorn_listener_backlog{listener="a"}': constant(7),
            'gunicorn_listener_waiting_connections{listener="a"}': steady(0, 1),
        },
        {"severity": "critical"},
        "127 connections wait for a thread or an event loop of shop at bad of job gunicorn, and their number grows.",
        (
            {'gunicorn_listener_backlog{listener="a"}': constant(50)},
            {'gunicorn_listener_backlog{listener="a"}': steady(500, -1)},
            {'gunicorn_listener_backlog{listener="a"}': "0+3x60 0+0x60"},
            *({'gunicorn_listener_backlog{listener="a"}': jump(50, minutes=minutes)} for minutes in range(1, 13)),
        ),
    ),
    Case(
        "GunicornBacklogFull",
        {
            'gunicorn_listener_backlog{listener="a"}': f"65+0x{AT_MINUTES * 4 - 3} 62 65+0x10",
            'gunicorn_listener_backlog_limit{listener="a"}': constant(64),
            'gunicorn_listener_backlog{listener="b"}': constant(57),
            'gunicorn_listener_backlog_limit{listener="b"}': constant(64),
        },
        {"severity": "critical", "listener": "a"},
        "65 connections wait in the accept queue a of shop at bad of job gunicorn. It is full, or nearly. Connections "
        "beyond its limit hang or are refused, and are in no metric.",
        (
            {
                'gunicorn_listener_backlog{listener="a"}': constant(0),
                'gunicorn_listener_backlog_limit{listener="a"}': constant(0),
            },
            {
                'gunicorn_listener_backlog{listener="a"}': jump(9, 0, minutes=2),
                'gunicorn_listener_backlog_limit{listener="a"}': constant(8),
            },
        ),
    ),
    Case(
        "GunicornThreadsBusy",
        {
            'gunicorn_worker_busy_seconds_total{worker_id="worker_0"}': steady(0, 15),
            'gunicorn_worker_busy_seconds_total{worker_id="worker_1"}': steady(0, 15),
            "gunicorn_requests_capacity": constant(2),
        },
        {"severity": "warning"},
        "The threads or connections of shop at bad of job gunicorn have been busy for 100% of the last 5 minutes.",
        (
            {
                'gunicorn_worker_busy_seconds_total{worker_id="worker_0"}': steady(0, 14),
                "gunicorn_requests_capacity": constant(1),
            },
        ),
    ),
    Case(
        "GunicornEventLoopLag",
        {
            f'{LAG}_bucket{{worker_id="worker_0",le="0.1"}}': steady(0, 24),
            f'{LAG}_count{{worker_id="worker_0"}}': steady(0, 30),
            f'{LAG}_bucket{{worker_id="worker_1",le="0.1"}}': steady(0, 30),
            f'{LAG}_count{{worker_id="worker_1"}}': steady(0, 30),
        },
        {"severity": "warning", "worker_id": "worker_0"},
        "Events of worker_0 of shop at bad of job gunicorn waited more than 0.1 s for its event loop in 20% of the "
        "time.",
        (
            {
                f'{LAG}_bucket{{worker_id="worker_0",le="0.1"}}': steady(0, 28),
                f'{LAG}_count{{worker_id="worker_0"}}': steady(0, 30),
            },
        ),
    ),
    Case(
        "GunicornMemoryGrowing",
        memory("100000000+1228800x480"),
        {"severity": "warning", "worker_id": "worker_0"},
        "The memory of worker_0 of shop at bad of job gunicorn grows by 20kiB per second.",
        (
            memory("100000000+300000x480"),
            memory("_x425 100000000+1228800x60", "_x425 0+60x60"),
            memory("100000000+1228800x470 stale", "0+60x470 stale"),
            memory("100000000+1228800x480", "0+60x440 0+60x40"),
        ),
        is_long=True,
    ),
    Case(
        "GunicornMemoryGrowing",
        memory("100000000+1228800x480"),
        {"severity": "warning", "worker_id": "worker_0"},
        "The memory of worker_0 of shop at bad of job gunicorn grows by 20kiB per second.",
        (memory("100000000+0x460 100000000+4915200x20"),),
        documented=False,
        is_long=True,
    ),
    Case(
        "GunicornEventLoopBlocked",
        {
            'gunicorn_worker_event_loop_blocked_seconds{worker_id="worker_0"}': constant(4),
            'gunicorn_worker_event_loop_blocked_seconds{worker_id="worker_1"}': constant(0),
        },
        {"severity": "warning", "worker_id": "worker_0"},
        "The event loop of worker_0 of shop at bad of job gunicorn has been blocked for 4 s.",
        ({'gunicorn_worker_event_loop_blocked_seconds{worker_id="worker_0"}': constant(0.9)},),
    ),
    Case(
        "GunicornOldRequest",
        {
            'gunicorn_worker_oldest_request_seconds{worker_id="worker_0"}': constant(18),
            'gunicorn_worker_oldest_request_seconds{worker_id="worker_1"}': constant(1),
            "gunicorn_worker_timeout_seconds": constant(30),
        },
        {"severity": "warning", "worker_id": "worker_0"},
        "A request of worker_0 of shop at bad of job gunicorn has taken 60% of gunicorn's timeout.",
        (
            {
                'gunicorn_worker_oldest_request_seconds{worker_id="worker_0"}': constant(14),
                "gunicorn_worker_timeout_seconds": constant(30),
            },
            {
                'gunicorn_worker_oldest_request_seconds{worker_id="worker_0"}': constant(14),
                "gunicorn_worker_timeout_seconds": constant(0),
            },
        ),
    ),
    Case(
        "GunicornExporterErrors",
        {f'{ERRORS}{{where="<other>"}}': constant(0), f'{ERRORS}{{where="endpoint"}}': jump(1, before=None)},
        {"severity": "warning", "where": "endpoint"},
        "endpoint of the metrics of shop at bad of job gunicorn failed. The server keeps running. The error log has "
        "the traceback.",
        ({f'{ERRORS}{{where="<other>"}}': constant(0)},),
    ),
    Case(
        "GunicornCollectorFails",
        {
            'gunicorn_exporter_collector_success{collector="requests"}': constant(1),
            'gunicorn_exporter_collector_success{collector="backlog"}': constant(0),
        },
        {"severity": "warning", "collector": "backlog"},
        "The metrics of the collector backlog of shop at bad of job gunicorn are missing. Alerts that need them do not "
        "fire.",
        ({'gunicorn_exporter_collector_success{collector="requests"}': jump(0, 1, minutes=10)},),
    ),
)
