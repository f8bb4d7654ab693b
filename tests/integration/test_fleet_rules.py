"""The sample rules for many servers: the running total by endpoint counts each request once."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.helpers.prometheus import FLEET_RULES, SAMPLES

REQUESTS = 'gunicorn_requests_total{{job="gunicorn",instance="{}",method="GET",endpoint="/",status="200"}}'
START = 'process_start_time_seconds{{job="gunicorn",instance="{}"}}'
Values = tuple[str, str]
"""Requests and start time of a server, a value each minute."""
STEADY: Values = ("0+1x119", "100.25+0x119")

CASES: dict[str, tuple[list[Values], int, float]] = {
    "a server": ([STEADY], 9, 9),
    "the first requests of a server": ([("_x4 7+0x5", "_x4 100+0x5")], 9, 7),
    "two servers": ([STEADY, STEADY], 9, 18),
    "a restart": ([("0+1x4 0+1x4", "100+0x4 400+0x4")], 9, 4 + 4),
    "a restart with more requests than before at the next scrape": ([("0+1x4 30+1x4", "100+0x4 400+0x4")], 9, 4 + 34),
    "a server that is down and restarts": (
        [("0+1x4 stale _x3 2+1x4", "100+0x4 stale _x3 800+0x4"), STEADY],
        12,
        12 + 4 + 5,
    ),
    "a failed scrape": ([("0+1x4 stale 6+1x4", "100.5+0x4 stale 100.5+0x4")], 9, 9),
    "all servers down": ([("0+1x4 stale _x9 20+1x4", "100+0x4 stale _x9 100+0x4")], 17, 22),
    "a counter that goes back without a restart": ([("5+0x4 3+1x4", "100+0x9")], 8, 5 + 3),
}
"""Servers, the minute of the look, and the total."""


def total(
    folder: Path, servers: list[Values], minute: int, expected: float, query: str
) -> subprocess.CompletedProcess[str]:
    """Run promtool with these servers and this result of the query."""
    series = [
        {"series": name.format(number), "values": values}
        for number, server in enumerate(servers)
        for name, values in zip((REQUESTS, START), server, strict=True)
    ]
    sample = {"labels": '{endpoint="/"}', "value": expected}
    test = {
        "interval": "1m",
        "input_series": series,
        "promql_expr_test": [{"expr": query, "eval_time": f"{minute}m", "exp_samples": [sample]}],
    }
    tests = {"rule_files": [str(FLEET_RULES)], "evaluation_interval": "1m", "tests": [test]}
    (folder / "tests.yml").write_text(json.dumps(tests))
    command = ["promtool", "test", "rules", "tests.yml"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.needs("promtool")
@pytest.mark.parametrize("case", CASES)
def test_running_total_counts_each_request_once(case: str, tmp_path: Path) -> None:
    """The total is that of all servers over all their restarts, and so is the sum of its increases."""
    for query in (
        "sum by (endpoint) (job_endpoint:gunicorn_requests:total)",
        "sum by (endpoint) (sum_over_time(job_endpoint:gunicorn_requests:increase[1h]))",
    ):
        done = total(tmp_path, *CASES[case], query)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.needs("promtool")
@pytest.mark.parametrize("name", ["agent.yml", "federation.yml", "remote_write.yml", "sharding.yml"])
def test_sample_configs_are_valid_for_promtool(name: str) -> None:
    """Promtool finds no fault in a sample config, nor in the rules that it names."""
    agent = ["--agent"] if name == "agent.yml" else []
    command = ["promtool", "check", "config", *agent, str(SAMPLES / name)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
