"""The diffs of CONTRIBUTING.md: each applies to a copy of the package, and works in a real server."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.places import TOP
from tests.helpers.servers import eventually
from tests.integration.conftest import Serve

DIFFS = re.findall(r"```diff\n(.*?)```", (TOP / "CONTRIBUTING.md").read_text(), re.DOTALL)
COLLECTOR, REQUEST_METRIC, FRAMEWORK = range(3)
CHECK = "import gunicorn_prom_hooks as g\nassert g.__file__.startswith({!r}), g.__file__\n"
SIGNPOST = """
import signpost

def app(environ, start_response):
    environ["signpost.rule"] = "/items/{id}"
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""


def patched(tmp_path: Path, number: int) -> tuple[Path, dict[str, str]]:
    """Return a copy of the project with a diff applied, and the environment in which it is imported."""
    copy = tmp_path / "copy"
    for name in ("gunicorn_prom_hooks", "docs", "tests"):
        shutil.copytree(TOP / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    environ = {"GIT_CEILING_DIRECTORIES": str(tmp_path)}
    done = subprocess.run(
        ["git", "apply", "-"],
        cwd=copy,
        env={**os.environ, **environ},
        input=DIFFS[number],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return copy, {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.mark.needs("git")
@pytest.mark.parametrize("number", range(3))
def test_unit_test_added_by_a_documented_diff_passes(tmp_path: Path, number: int) -> None:
    """The unit test that a diff adds passes in the copy."""
    copy, environ = patched(tmp_path, number)
    [test] = re.findall(r"^\+\+\+ b/(tests/\S+)$", DIFFS[number], re.MULTILINE)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(copy), test]
    done = subprocess.run(command, cwd=copy, env={**os.environ, **environ}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.needs("git")
def test_family_of_the_documented_collector_is_on_the_page(serve: Serve, tmp_path: Path) -> None:
    """The new family is on the page."""
    copy, environ = patched(tmp_path, COLLECTOR)
    server = serve(CHECK.format(str(copy)), environ=environ)
    eventually(lambda: server.scrape().sum("gunicorn_worker_context_switches_total", kind="voluntary") > 0, "switches")


@pytest.mark.needs("git")
@pytest.mark.parametrize("worker", ["sync", "gevent"])
def test_documented_request_metric_starts_at_0_and_counts(serve: Serve, tmp_path: Path, worker: str) -> None:
    """The new family is 0 before the first such request, and counts it."""
    copy, environ = patched(tmp_path, REQUEST_METRIC)
    server = serve(CHECK.format(str(copy)) + f"worker_class = {worker!r}\n", environ=environ)
    assert server.settled(1).one("gunicorn_invalid_queue_stamps_total") == 0
    server.get("/", headers={"X-Request-Start": "x"})
    assert server.settled(2).one("gunicorn_invalid_queue_stamps_total") == 1


@pytest.mark.needs("git")
def test_documented_framework_names_endpoints_by_its_rule(serve: Serve, tmp_path: Path) -> None:
    """The endpoint is the rule of the made-up framework."""
    copy, environ = patched(tmp_path, FRAMEWORK)
    (copy / "signpost.py").write_text("")
    server = serve(CHECK.format(str(copy)), app=SIGNPOST, environ=environ)
    server.get("/items/7")
    assert server.settled(2).one("gunicorn_requests_total", endpoint="/items/{id}") == 2
