"""``check CONFIG``: the config is evaluated in a process of its own, which is ended if it does not return."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from ..findings import Finding
from .versions import check_versions

DEADLINE: Final = 30.0
"""Seconds within which a config has to be evaluated and checked."""
MODULE: Final = f"{__package__}.config_probe"


class Outcome(NamedTuple):
    """What a process that evaluated a config has left.

    Attributes:
        report: what it has written; empty if it has not come to that.
        stderr: its error output.
        returncode: its exit code, negative for a signal; None if it has not ended in time.
    """

    report: str
    stderr: str
    returncode: int | None


def check_config(config: str, arguments: Sequence[str], *, is_running: bool) -> tuple[list[str], list[Finding]]:
    """Return facts and findings on a config.

    Args:
        config: file, or module as gunicorn takes it.
        arguments: further ones for gunicorn.
        is_running: whether its server is running, so that its ports are taken.
    """
    findings = list(check_versions())
    if any(finding.is_problem for finding in findings):
        return [], findings
    outcome = _evaluate([*(["--running"] if is_running else []), config, *arguments], DEADLINE)
    if not outcome.report:
        return [], [*findings, _not_evaluated(config, outcome)]
    report = json.loads(outcome.report)
    return report["facts"], [*findings, *(Finding(**finding) for finding in report["findings"])]


def _evaluate(arguments: Sequence[str], seconds: float) -> Outcome:
    """Run the probe. Its output goes into files: a process that the config has started may keep pipes open."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as stderr:
        report = Path(folder, "report")
        process = subprocess.Popen(  # noqa: S603 - it is this Python
            [sys.executable, "-m", MODULE, str(report), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            start_new_session=True,
        )
        try:
            returncode: int | None = process.wait(seconds)
        except subprocess.TimeoutExpired:
            returncode = None
        finally:
            # With all that the config has started.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        stderr.seek(0)
        text = stderr.read().decode(errors="backslashreplace")
        return Outcome(report.read_text() if report.exists() else "", text, returncode)


def _not_evaluated(config: str, outcome: Outcome) -> Finding:
    if outcome.returncode is None:
        return Finding(
            f"{config} has not returned within {DEADLINE:g} s",
            "gunicorn would not start: a config must only set values",
        )
    lines = [line.strip() for line in outcome.stderr.splitlines() if line.strip()]
    if outcome.returncode < 0:
        number = -outcome.returncode
        return Finding(f"{config} ends its process by signal {number}", "gunicorn would end in the same way")
    if not lines:
        return Finding(f"{config} exits with code {outcome.returncode}", "gunicorn would end in the same way")
    # gunicorn's own line first, which names the setting.
    what = next((line for line in lines if line.startswith("Invalid value for ")), lines[-1].removeprefix("Error: "))
    places = re.findall(r'File "([^"]+)", line (\d+)', outcome.stderr)
    line = next((f", line {number}" for file, number in reversed(places) if _is_same(file, config)), "")
    return Finding(f"gunicorn cannot use {config}{line}: {what}", "Correct it: gunicorn would not start")


def _is_same(file: str, config: str) -> bool:
    return os.path.abspath(file) == os.path.abspath(config.removeprefix("file:"))
