"""The sample rules for Prometheus: each alert fires and is silent when it should, and so does its documented query."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from tests.helpers.places import TOP
from tests.helpers.prometheus import RULES, promql

STEP_SECONDS: Final = 15
AT_MINUTES: Final = 30
"""When the alerts are evaluated."""
LONG_STEP_SECONDS: Final = 60
LONG_MINUTES: Final = 480
"""The same for alerts with long windows."""
OPERATIONS: Final = TOP / "docs" / "operations.md"
DOCUMENTED: Final = {
    name: query for query, _, name in (line.rpartition("  # ") for line in promql()) if name.startswith("Gunicorn")
}
"""The plain query of each simple alert, by the alert's name."""
TABLE: Final = {
    name: (severity, section)
    for name, severity, section in re.findall(
        r"^\| `(Gunicorn\w+)` \| (\w+) \| [^|]+ \| \[[^]|]+\]\(#([\w-]+)\) \|$", OPERATIONS.read_text(), re.MULTILINE
    )
}
"""Severity and anchor of each alert, by its name, as the documentation has them."""

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
        "shop at bad of job gunicorn does not answer scrapes. gunicorn is down, or Prometheus scrapes another port.",
        ({"up": constant(1)}, {"up": jump(0, 1)}),
    ),
    Case(
        "GunicornTargetDown",
        {"up": jump(0, before=1)},
        {"severity": "critical"},
        "shop at bad of job gunicorn does not answer scrapes. gunicorn is down, or Prometheus scrapes another port.",
        ({"up": constant(1)},),
        app="shop until it is down",
    ),
    Case(
        "GunicornTargetDown",
        {"up": constant(0)},
        {"severity": "critical"},
        "gunicorn at bad of job gunicorn does not answer scrapes. gunicorn is down, or Prometheus scrapes another "
        "port.",
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
        "shop at bad of job gunicorn has started 3 times within 15 minutes. gunicorn stops if its configuration or the "
        "application cannot be loaded; the reason is in the error log.",
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
            {
                **answered(jump(1000, minutes=4), constant(0)),
                f'{FAILED}{{method="GET",endpoint="/a",error_type="timeout"}}': jump(4, minutes=4),
                f'{KILLED}{{method="GET",endpoint="/a",reason="timeout"}}': jump(4, minutes=4),
            },
        ),
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
        {'gunicorn_worker_memory_bytes{worker_id="worker_0"}': "100000000+1228800x480"},
        {"severity": "warning", "worker_id": "worker_0"},
        "The memory of worker_0 of shop at bad of job gunicorn grows by 20kiB per second.",
        (
            {'gunicorn_worker_memory_bytes{worker_id="worker_0"}': "100000000+300000x480"},
            {'gunicorn_worker_memory_bytes{worker_id="worker_0"}': "_x425 100000000+1228800x60"},
        ),
        is_long=True,
    ),
    Case(
        "GunicornMemoryGrowing",
        {'gunicorn_worker_memory_bytes{worker_id="worker_0"}': "100000000+1228800x480"},
        {"severity": "warning", "worker_id": "worker_0"},
        "The memory of worker_0 of shop at bad of job gunicorn grows by 20kiB per second.",
        ({'gunicorn_worker_memory_bytes{worker_id="worker_0"}': "100000000+0x460 100000000+4915200x20"},),
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


def placed(series: Series, instance: str, app: str) -> list[dict[str, str]]:
    """Return the series with the labels of a server, and that with the name of its application."""
    found = []
    name, until, _ = app.partition(" until ")
    if app:
        minutes = AT_MINUTES - 11 if until else LONG_MINUTES
        series = {**series, f'gunicorn_build_info{{app="{name}"}}': f"1+0x{minutes * 60 // STEP_SECONDS} stale"}
    for name, values in series.items():
        metric, _, labels = name.rstrip("}").partition("{")
        own = "" if "instance=" in labels else f'job="gunicorn",instance="{instance}"{"," if labels else ""}'
        found.append({"series": f"{metric}{{{own}{labels}}}", "values": values})
    return found


def sections() -> dict[str, str]:
    """Return the text of each alert in the rules file, by its name."""
    parts = re.split(r"\n\s+- alert: ", RULES.read_text())[1:]
    return {part.partition("\n")[0]: part for part in parts}


def entry(alert: str, key: str) -> str:
    """Return a label or an annotation of an alert as the rules file has it, on one line."""
    [found] = re.findall(rf"\n +{key}: (\S[^\n]*)", sections()[alert])
    return str(found)


def promtool_test(case: Case) -> dict[str, object]:
    """Return the case as promtool reads it."""
    app = case.app.partition(" until ")[0]
    labels = {"job": "gunicorn", "instance": "bad", **({"app": app} if app else {}), **case.labels}
    annotations = {
        "summary": entry(case.alert, "summary"),
        "description": case.description,
        "runbook_url": entry(case.alert, "runbook_url"),
    }
    at = f"{LONG_MINUTES if case.is_long else AT_MINUTES}m"
    found: dict[str, object] = {
        "interval": f"{LONG_STEP_SECONDS if case.is_long else STEP_SECONDS}s",
        "input_series": placed(case.bad, "bad", case.app)
        + [one for number, series in enumerate(case.silent) for one in placed(series, f"silent {number}", case.app)],
        "alert_rule_test": [
            {
                "eval_time": at,
                "alertname": case.alert,
                "exp_alerts": [{"exp_labels": labels, "exp_annotations": annotations}],
            }
        ],
    }
    if case.documented and case.alert in DOCUMENTED:
        found["promql_expr_test"] = [
            {
                "expr": f"count by (instance) ({DOCUMENTED[case.alert]})",
                "eval_time": at,
                "exp_samples": [{"labels": '{instance="bad"}', "value": 1}],
            }
        ]
    return found


def run_promtool(folder: Path, case: Case, test: dict[str, object], rules: Path = RULES) -> None:
    """Run the test of this case with promtool."""
    step = LONG_STEP_SECONDS if case.is_long else STEP_SECONDS
    tests = {
        "rule_files": [str(rules)],
        "evaluation_interval": f"{step}s",
        "group_eval_order": re.findall(r"- name: (\w+)", rules.read_text()),
        "tests": [test],
    }
    (folder / "tests.yml").write_text(json.dumps(tests))
    command = ["promtool", "test", "rules", "tests.yml"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.needs("promtool")
def test_sample_rules_are_valid_for_promtool() -> None:
    """Promtool finds no fault in the rules file."""
    done = subprocess.run(["promtool", "check", "rules", RULES], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.needs("promtool")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.alert)
def test_alert_and_its_documented_query_name_the_bad_server_and_no_other(case: Case, tmp_path: Path) -> None:
    """The alert fires for the series of the bad server alone, and the documented query has a result for it alone."""
    assert case.silent
    run_promtool(tmp_path, case, promtool_test(case))


@pytest.mark.needs("promtool")
@pytest.mark.parametrize(
    ("alert", "objective", "edited"),
    [
        ("GunicornErrorBudgetBurnsFast", "vector(0.999)", "vector(0.99)"),
        ("GunicornErrorBudgetBurnsSlowly", "vector(0.999)", "vector(0.99)"),
        ("GunicornLatencyObjectiveMissed", "vector(0.5)", "vector(0.95)"),
        ("GunicornLatencyObjectiveMissed", "vector(0.95)", "vector(0.7)"),
    ],
)
def test_alert_about_an_objective_is_silent_with_a_lower_one(
    alert: str, objective: str, edited: str, tmp_path: Path
) -> None:
    """Each objective is in one place, and the alert is silent once it is edited there."""
    assert RULES.read_text().count(objective) == 1
    rules = tmp_path / "edited.yml"
    rules.write_text(RULES.read_text().replace(objective, edited))
    case = next(case for case in CASES if case.alert == alert)
    test = promtool_test(case) | {"alert_rule_test": [{"eval_time": f"{AT_MINUTES}m", "alertname": alert}]}
    run_promtool(tmp_path, case, test, rules)


def test_alerts_of_rules_docs_and_cases_are_the_same() -> None:
    """Each alert of the rules file has a row in the documentation and a case here; there are no others."""
    alerts = re.findall(r"- alert: (\w+)", RULES.read_text())
    assert sorted(alerts) == sorted(TABLE) == sorted({case.alert for case in CASES})
    assert set(DOCUMENTED) <= set(alerts)
    assert len(set(alerts)) == len(alerts)


@pytest.mark.parametrize("alert", sections())
def test_alert_has_severity_summary_runbook_and_a_description_that_names_the_server(alert: str) -> None:
    """Each alert has a severity, a summary, and a description with its application, its job and its instance."""
    assert entry(alert, "severity") in ("critical", "warning", "info")
    assert entry(alert, "summary")
    section = " ".join(sections()[alert].split())
    description = section[section.index("description:") : section.index("runbook_url:")]
    for label in ("app", "instance", "job"):
        assert f"$labels.{label} " in description
    for label in ("worker_id", "endpoint"):
        if all(label in case.labels for case in CASES if case.alert == alert):
            assert f"$labels.{label} " in description


def anchors(page: str) -> list[str]:
    """Return the anchors that GitHub gives to the headings of a page."""
    outside = re.sub(r"```.*?```", "", page, flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", outside, re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]


@pytest.mark.parametrize("alert", sections())
def test_runbook_of_an_alert_is_the_documented_section_and_exists(alert: str) -> None:
    """The runbook is a heading of docs/operations.md, and the table there has it with the alert's severity."""
    page, _, anchor = entry(alert, "runbook_url").partition("#")
    assert TOP / page == OPERATIONS
    assert anchors(OPERATIONS.read_text()).count(anchor) == 1
    assert TABLE[alert] == (entry(alert, "severity"), anchor)


def test_documented_objectives_are_those_of_the_rules() -> None:
    """The table of objectives has the name and the value of each one in the rules file."""
    rules = re.findall(r"record: (gunicorn:\S+)\n +expr: vector\(([\d.]+)\)\n", RULES.read_text())
    assert len(rules) == 3
    assert re.findall(r"^\| `(gunicorn:\S+)` \| ([\d.]+) \|", OPERATIONS.read_text(), re.MULTILINE) == rules


STARTS_AT_ZERO: Final = ("gunicorn_worker_busy_seconds", "gunicorn_worker_event_loop_lag_seconds")
"""Metrics with a ``worker_id``: each of their series is there, at 0, before its first event."""


def test_increase_of_a_counter_in_the_rules_includes_its_first_event() -> None:
    """No rule takes a rate or an increase of a counter whose first event it would miss."""
    rules = " ".join(RULES.read_text().split())
    plain = re.findall(r"(?:rate|increase)\((gunicorn_\w+_(?:total|bucket|count)(?:\{[^}]*\})?)\[(\w+)\]\)", rules)
    assert plain
    for series, window in plain:
        if not series.startswith(STARTS_AT_ZERO):
            assert f"({series} unless {series} offset {window}) or increase({series}[{window}])" in rules
