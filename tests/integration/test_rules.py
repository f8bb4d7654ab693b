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

from tests.helpers.prometheus import RULES, promql

STEP_SECONDS: Final = 15
AT_MINUTES: Final = 30
"""When the alerts are evaluated."""
DOCUMENTED: Final = {
    name: query for query, _, name in (line.rpartition("  # ") for line in promql()) if name.startswith("Gunicorn")
}
"""The plain query of each alert, by the alert's name."""

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


@dataclass(frozen=True)
class Case:
    """An alert that fires for the server "bad", and is silent for all the others.

    Attributes:
        alert: its name.
        bad: the series of that server.
        labels: of the alert, without job and instance.
        description: of the alert.
        silent: the series of each of the other servers.
        documented: whether the documented query is silent for the others, too.
    """

    alert: str
    bad: Series
    labels: Mapping[str, str]
    description: str
    silent: tuple[Series, ...] = field(default=())
    documented: bool = True


NONE: Final = 'method="<other>",endpoint="<other>"'
KILLED, FAILED, EXITS = (
    "gunicorn_killed_requests_total",
    "gunicorn_failed_requests_total",
    "gunicorn_worker_exits_total",
)
INVALID, REQUESTS = "gunicorn_invalid_requests_total", "gunicorn_requests_total"
ERRORS = "gunicorn_exporter_errors_total"
GAP: Final = f"7+0x{(AT_MINUTES - 15) * 4 - 10} stale _x20 7+0x100"
"""A series of a server that was not scraped 15 minutes ago, without a new event."""

CASES: Final = (
    Case(
        "GunicornTargetDown",
        {"up": constant(0)},
        {"severity": "critical"},
        "bad of job gunicorn does not answer scrapes. gunicorn is down, or Prometheus scrapes another port.",
        ({"up": constant(1)}, {"up": jump(0, 1)}),
    ),
    Case(
        "GunicornWorkersMissing",
        {'gunicorn_workers{state="running"}': constant(1), "gunicorn_workers_target": constant(2)},
        {"severity": "critical"},
        "Only 1 workers run at bad of job gunicorn. Workers exit, or do not start.",
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
        "3 workers of bad of job gunicorn exited unexpectedly within 15 minutes.",
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
        "A worker of bad of job gunicorn exited: error (7). The error log names the worker and its requests.",
        (
            {
                f'{EXITS}{{reason="error",detail="1"}}': constant(0),
                f'{EXITS}{{reason="error",detail="7"}}': constant(3),
            },
            {f'{EXITS}{{reason="max_requests",detail="0"}}': jump(1, 2, 3)},
        ),
    ),
    Case(
        "GunicornRequestKilled",
        {
            f'{KILLED}{{{NONE},reason="timeout"}}': constant(0),
            f'{KILLED}{{method="GET",endpoint="/report/:id",reason="timeout"}}': jump(1, before=None),
        },
        {"severity": "warning", "method": "GET", "endpoint": "/report/:id", "reason": "timeout"},
        "GET /report/:id was in progress when its worker of bad of job gunicorn exited: timeout.",
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
        "GET /a failed at bad of job gunicorn: KeyError.",
        ({f'{FAILED}{{{NONE},error_type="<other>"}}': constant(0)},),
    ),
    Case(
        "GunicornRequestFailed",
        {
            f'{FAILED}{{{NONE},error_type="<other>"}}': constant(0),
            f'{FAILED}{{method="GET",endpoint="/a",error_type="KeyError"}}': jump(8, before=7),
        },
        {"severity": "info", "method": "GET", "endpoint": "/a", "error_type": "KeyError"},
        "GET /a failed at bad of job gunicorn: KeyError.",
        ({f'{FAILED}{{method="GET",endpoint="/a",error_type="KeyError"}}': constant(7)},),
    ),
    Case(
        "GunicornRequestFailed",
        {f'{FAILED}{{method="GET",endpoint="/a",error_type="KeyError"}}': jump(8, before=7)},
        {"severity": "info", "method": "GET", "endpoint": "/a", "error_type": "KeyError"},
        "GET /a failed at bad of job gunicorn: KeyError.",
        ({f'{FAILED}{{method="GET",endpoint="/a",error_type="KeyError"}}': GAP},),
        documented=False,
    ),
    Case(
        "GunicornFailureRatio",
        {
            f'{REQUESTS}{{{NONE},status="<other>"}}': constant(0),
            f'{REQUESTS}{{method="GET",endpoint="/a",status="200"}}': jump(90, before=0, minutes=4),
            f'{REQUESTS}{{method="GET",endpoint="/a",status="500"}}': jump(10, before=None, minutes=4),
            f'{FAILED}{{{NONE},error_type="<other>"}}': constant(0),
            f'{FAILED}{{method="GET",endpoint="/a",error_type="KeyError"}}': jump(10, before=None, minutes=4),
        },
        {"severity": "critical"},
        "10% of the requests to bad of job gunicorn failed within 5 minutes.",
        (
            {
                f'{REQUESTS}{{method="GET",endpoint="/a",status="200"}}': jump(96, before=0, minutes=4),
                f'{REQUESTS}{{method="GET",endpoint="/a",status="500"}}': jump(4, before=0, minutes=4),
                f'{FAILED}{{method="GET",endpoint="/a",error_type="KeyError"}}': jump(4, before=0, minutes=4),
            },
            {
                f'{REQUESTS}{{method="GET",endpoint="/a",status="200"}}': constant(90),
                f'{FAILED}{{method="GET",endpoint="/a",error_type="KeyError"}}': constant(0),
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
        "A client of GET /a at bad of job gunicorn disconnected before it had the whole response.",
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
        "bad of job gunicorn refused a malformed request: InvalidRequestLine.",
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
        "5 connections wait for a thread or an event loop at bad of job gunicorn.",
        ({'gunicorn_listener_backlog{listener="a"}': constant(0)},),
    ),
    Case(
        "GunicornEventLoopBlocked",
        {
            'gunicorn_worker_event_loop_blocked_seconds{worker_id="worker_0"}': constant(4),
            'gunicorn_worker_event_loop_blocked_seconds{worker_id="worker_1"}': constant(0),
        },
        {"severity": "warning", "worker_id": "worker_0"},
        "The event loop of worker_0 at bad of job gunicorn has been blocked for 4 s.",
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
        "A request of worker_0 at bad of job gunicorn has taken 60% of gunicorn's timeout.",
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
        "endpoint failed at bad of job gunicorn. The server keeps running. The error log has the traceback.",
        ({f'{ERRORS}{{where="<other>"}}': constant(0)},),
    ),
)


def placed(series: Series, instance: str) -> list[dict[str, str]]:
    """Return the series with the labels of a server."""
    found = []
    for name, values in series.items():
        metric, _, labels = name.rstrip("}").partition("{")
        own = f'job="gunicorn",instance="{instance}"'
        found.append({"series": f"{metric}{{{own}{',' if labels else ''}{labels}}}", "values": values})
    return found


def summaries() -> dict[str, str]:
    """Return the summary of each alert, by its name."""
    return dict(re.findall(r"- alert: (\w+)\n.*?summary: (.+?)\n", RULES.read_text(), re.DOTALL))


def promtool_test(case: Case) -> dict[str, object]:
    """Return the case as promtool reads it."""
    labels = {"job": "gunicorn", "instance": "bad", **case.labels}
    annotations = {"summary": summaries()[case.alert], "description": case.description}
    at = f"{AT_MINUTES}m"
    found: dict[str, object] = {
        "interval": f"{STEP_SECONDS}s",
        "input_series": placed(case.bad, "bad")
        + [one for number, series in enumerate(case.silent) for one in placed(series, f"silent {number}")],
        "alert_rule_test": [
            {
                "eval_time": at,
                "alertname": case.alert,
                "exp_alerts": [{"exp_labels": labels, "exp_annotations": annotations}],
            }
        ],
    }
    if case.documented:
        found["promql_expr_test"] = [
            {
                "expr": f"count by (instance) ({DOCUMENTED[case.alert]})",
                "eval_time": at,
                "exp_samples": [{"labels": '{instance="bad"}', "value": 1}],
            }
        ]
    return found


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
    tests = {"rule_files": [str(RULES)], "evaluation_interval": f"{STEP_SECONDS}s", "tests": [promtool_test(case)]}
    (tmp_path / "tests.yml").write_text(json.dumps(tests))
    command = ["promtool", "test", "rules", "tests.yml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_alerts_of_rules_docs_and_cases_are_the_same() -> None:
    """Each alert of the rules file has a documented query, and a case here; there are no others."""
    alerts = re.findall(r"- alert: (\w+)", RULES.read_text())
    assert sorted(alerts) == sorted(DOCUMENTED) == sorted({case.alert for case in CASES})
    assert len(set(alerts)) == len(alerts)


def test_every_alert_has_severity_summary_and_a_description_that_names_the_server() -> None:
    """Each alert has a severity, a summary, and a description with its job and its instance."""
    for alert in re.split(r"\n\s+- alert: ", RULES.read_text())[1:]:
        name = alert.partition("\n")[0]
        assert re.search(r"severity: (critical|warning|info)\n", alert), name
        assert name in summaries()
        description = alert[alert.index("description:") :]
        assert "{{ $labels.instance }}" in description, name
        assert "$labels.job }}" in description, name


def test_increase_of_a_counter_in_the_rules_includes_its_first_event() -> None:
    """No rule takes a rate or an increase of a counter whose first event it would miss."""
    rules = " ".join(RULES.read_text().split())
    plain = re.findall(r"(?:rate|increase)\((gunicorn_\w+_total(?:\{[^}]*\})?)\[(\w+)\]\)", rules)
    assert plain
    for series, window in plain:
        assert f"({series} unless {series} offset {window}) or increase({series}[{window}])" in rules
