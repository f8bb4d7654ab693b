"""Versions that are supported."""

from __future__ import annotations

import re

import pytest

from gunicorn_prom_hooks import _gunicorn
from gunicorn_prom_hooks.cli.check.versions import (
    MINIMUM,
    MINIMUM_PYTHON,
    NEWEST_GUNICORN,
    check_versions,
    parse_version,
)
from tests.helpers.places import TOP

GOOD = {"gunicorn": "27.0.1", "prometheus_client": "0.26.0", "psutil": "7.0"}


def test_bounds_are_those_of_the_project() -> None:
    """The minimum versions are those in pyproject.toml, and the newest gunicorn the one that was read."""
    text = (TOP / "pyproject.toml").read_text()
    [dependencies] = re.findall(r"^dependencies = \[(.*?)\]", text, re.MULTILINE | re.DOTALL)
    found = re.findall(r'"([\w-]+)>=([\d.]+)"', dependencies)
    assert {name: parse_version(number) for name, number in found} == MINIMUM
    [python] = re.findall(r'^requires-python = ">=([\d.]+)"', text, re.MULTILINE)
    assert parse_version(python) == MINIMUM_PYTHON
    assert f"gunicorn 21.2 to {NEWEST_GUNICORN} are supported" in (_gunicorn.__doc__ or "")


def test_installed_versions_have_no_problem() -> None:
    """The versions that the tests run with are supported."""
    assert not any(finding.is_problem for finding in check_versions())


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"gunicorn": "21.1.0"}, "problem: gunicorn 21.1.0 is not supported. Install gunicorn 21.2 or newer."),
        (
            {"prometheus_client": "0.9"},
            "problem: prometheus_client 0.9 is not supported. Install prometheus_client 0.22",
        ),
        ({"psutil": None}, "problem: psutil is not installed. Install psutil 5.9 or newer."),
        ({"gunicorn": "28.1"}, "note: gunicorn 28.1 is newer than 27, the newest version that was tested."),
        ({"gunicorn": "27.9.9rc1"}, ""),
    ],
)
def test_version_out_of_range_is_found(change: dict[str, str | None], line: str) -> None:
    """A version that is too old or missing is a problem, and one that is newer than tested a note."""
    lines = [finding.line for finding in check_versions(GOOD | change)]
    assert len(lines) == bool(line)
    assert all(found.startswith(line) for found in lines)


def test_old_python_is_a_problem() -> None:
    """A Python before the minimum is a problem."""
    [finding] = check_versions(GOOD, (3, 9))
    assert finding.line == "problem: Python 3.9 is not supported. Use Python 3.10 or newer."
