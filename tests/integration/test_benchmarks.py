"""Each benchmark runs and checks its counts, in the short form of ``python -m benchmarks --quick``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import gunicorn23
from benchmarks.variants import WORKERS
from tests.helpers.places import TOP
from tests.integration.conftest import missing

pytestmark = [pytest.mark.slow, pytest.mark.needs("wrk", "taskset")]


def quick(folder: Path, *arguments: str) -> dict[str, dict[str, object]]:
    """Run sections of the benchmarks. Return their results."""
    command = [sys.executable, "-m", "benchmarks", "--quick", "--into", str(folder), *arguments]
    done = subprocess.run(command, cwd=TOP, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, dict[str, object]] = json.loads((folder / "benchmarks.json").read_text())
    return found


def test_variants_beside_each_other(tmp_path: Path) -> None:
    """All variants of a sync worker serve, and have counted what was sent."""
    try:
        gunicorn23.interpreter()
    except (OSError, subprocess.SubprocessError) as error:
        missing(f"no environment with gunicorn 23: {error}")
    found = quick(tmp_path, "peers", "--workers", "sync")
    peers = found["peers"]["figures"]["peers"]  # type: ignore[index]  # JSON
    [worker] = [worker for worker in WORKERS if worker.name == "sync"]
    expected = [(group.name, variant.name) for group in worker.groups for variant in group.variants]
    assert [(peer["group"], peer["variant"]) for peer in peers] == expected
    assert all(one["cpu"] > 0 and one["requests"] > 0 for peer in peers for one in peer["rounds"])


def test_benchmarks_inside_one_worker(tmp_path: Path) -> None:
    """Hooks and recipe in turn, timed inside a worker, and in a loop."""
    found = quick(tmp_path, "turns", "worker", "loop", "--workers", "asgi")
    assert set(found) == {"turns", "worker", "loop"}


def test_benchmarks_of_scrapes(tmp_path: Path) -> None:
    """Pages of hooks and recipe with the same series; latency while scraped; large pages; the application's metrics."""
    found = quick(tmp_path, "scrapes", "scraped", "page", "app_metrics", "app_generations")
    assert set(found) == {"scrapes", "scraped", "page", "app_metrics", "app_generations"}
