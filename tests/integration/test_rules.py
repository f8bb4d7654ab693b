"""The sample rules for Prometheus: each alert fires and is silent when it should, and so does its documented query."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.helpers.places import TOP, repository
from tests.helpers.prometheus import RULES, documented, promql
from tests.helpers.rule_cases import (
    AT_MINUTES,
    CASES,
    LONG_MINUTES,
    LONG_STEP_SECONDS,
    STEP_SECONDS,
    Case,
    Series,
    answered,
    constant,
    jump,
)

OPERATIONS: Final = TOP / "docs" / "operations.md"
DOCUMENTED: Final = {
    name: query for query, _, name in (line.rpartition("  # ") for line in promql()) if name.startswith("Gunicorn")
}
"""The plain query of each simple alert, by the alert's name."""
TABLE: Final = {
    name: (severity, hold, section)
    for name, severity, hold, section in re.findall(
        r"^\| `(Gunicorn\w+)` \| (\w+) \| (\w*) ?\| [^|]+ \| \[[^]|]+\]\(#([\w-]+)\) \|$",
        OPERATIONS.read_text(),
        re.MULTILINE,
    )
}
"""Severity, ``for`` and anchor of each alert, by its name, as the documentation has them."""
[RUNBOOK] = re.findall(
    r"record: gunicorn:runbook:info\n +expr: vector\(1\)\n +labels:\n +url: (\S+)\n", RULES.read_text()
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


def runbook(alert: str) -> str:
    """Return the address of the runbook of an alert, as Prometheus makes it of the template."""
    template = re.fullmatch(
        r"""'\{\{ with query "gunicorn:runbook:info" \}\}\{\{ \. \| first \| label "url" \}\}\{\{ end \}\}(#[\w-]+)'""",
        entry(alert, "runbook_url"),
    )
    assert template is not None
    return f"{RUNBOOK}{template[1]}"


def promtool_test(case: Case) -> dict[str, object]:
    """Return the case as promtool reads it."""
    app = case.app.partition(" until ")[0]
    labels = {"job": "gunicorn", "instance": "bad", **({"app": app} if app else {}), **case.labels}
    annotations = {
        "summary": entry(case.alert, "summary"),
        "description": case.description,
        "runbook_url": runbook(case.alert),
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
    """The runbook is a heading of docs/operations.md. The table there has it, and the alert's severity and ``for``."""
    page, _, anchor = runbook(alert).partition("#")
    assert page == f"{repository()}/blob/main/docs/operations.md"
    assert anchors(OPERATIONS.read_text()).count(anchor) == 1
    hold = re.search(r"\n +for: (\w+)\n", sections()[alert])
    assert TABLE[alert] == (entry(alert, "severity"), hold[1] if hold else "", anchor)


@pytest.mark.needs("promtool")
def test_address_of_the_runbook_is_edited_in_one_place(tmp_path: Path) -> None:
    """The alert links to the page that the rules name, without another edit."""
    assert RULES.read_text().count(RUNBOOK) == 1
    rules = tmp_path / "edited.yml"
    rules.write_text(RULES.read_text().replace(RUNBOOK, "https://wiki.example.com/gunicorn"))
    case = next(case for case in CASES if case.alert == "GunicornTargetDown")
    edited = json.loads(json.dumps(promtool_test(case)).replace(RUNBOOK, "https://wiki.example.com/gunicorn"))
    run_promtool(tmp_path, case, edited, rules)


def test_documented_objectives_are_those_of_the_rules() -> None:
    """The table of objectives has the name and the value of each one in the rules file."""
    rules = re.findall(r"record: (gunicorn:\w+_objective:\w+)\n +expr: vector\(([\d.]+)\)\n", RULES.read_text())
    assert len(rules) == 3
    assert re.findall(r"^\| `(gunicorn:\S+)` \| ([\d.]+) \|", OPERATIONS.read_text(), re.MULTILINE) == rules


QUEUE, UNREAD = 'gunicorn_listener_backlog{instance="%s"}', 'gunicorn_listener_waiting_connections{instance="%s"}'


def ended(instance: str, requests: str, failed: str) -> Series:
    """Return the series of a server with these requests and failures, and no killed request."""
    series = answered(requests, failed)
    return {one["series"]: one["values"] for one in placed(series, instance, "")}


@pytest.mark.needs("promtool")
@pytest.mark.parametrize(
    ("query", "series", "expected"),
    [
        (documented("sum({__name__"), {QUEUE % "a": "2+0x120", QUEUE % "b": "0+0x120", UNREAD % "b": "3+0x120"}, 5),
        (documented("sum({__name__"), {QUEUE % "a": "2+0x120"}, 2),
        (documented("sum({__name__"), {UNREAD % "a": "3+0x120"}, 3),
        (documented("sum({__name__"), {QUEUE % "a": "0+0x120", UNREAD % "a": "0+0x120"}, 0),
        (documented("> 0 or sum("), {QUEUE % "a": "0+0x120", UNREAD % "a": "0+0x120"}, None),
        (documented("> 0 or sum("), {QUEUE % "a": "0+0x120", UNREAD % "a": "3+0x120"}, 3),
        ("round(sum(increase(gunicorn_reloads_total[1h])))", {"gunicorn_reloads_total": "0+0x40 3+0x30 0+0x50"}, 3),
        (
            re.findall(r"`(sum by \(job\) \(increase\([^`]*)`", OPERATIONS.read_text())[0],
            {**ended("a", jump(2, minutes=4), jump(1, minutes=4)), **ended("b", jump(98, minutes=4), constant(0))},
            0.01,
        ),
    ],
)
def test_documented_query_over_several_servers_or_restarts(
    query: str, series: Series, expected: float | None, tmp_path: Path
) -> None:
    """The result is that of all servers, also where one of two metrics is missing, and the same after a restart."""
    case = CASES[0]
    sample = {"labels": '{job="gunicorn"}' if "by (job)" in query else "{}", "value": expected}
    asked = {"expr": query, "eval_time": f"{AT_MINUTES}m", "exp_samples": [] if expected is None else [sample]}
    inputs = [{"series": name, "values": values} for name, values in series.items()]
    test: dict[str, object] = {
        "interval": f"{STEP_SECONDS}s",
        "input_series": inputs,
        "promql_expr_test": [asked],
    }
    run_promtool(tmp_path, case, test)


def test_documented_queries_that_are_tested_here_are_those_of_the_page() -> None:
    """The reloads are asked for as above, and the memory section has the query of its alert."""
    assert "increase(gunicorn_reloads_total[1h])" in promql()
    assert DOCUMENTED["GunicornMemoryGrowing"] in promql()


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
