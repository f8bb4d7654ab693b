"""The demo that the README starts with: gunicorn, and Prometheus where it is installed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import requests

from tests.helpers.places import TOP
from tests.helpers.servers import eventually, unused_port

DEMO = TOP / "sample_configs" / "demo.py"


@contextmanager
def demo(log: Path, **environ: str) -> Iterator[tuple[int, int]]:
    """Run the demo until it has printed its addresses. Yield its metrics port and its port of Prometheus."""
    metrics, prometheus = unused_port(), unused_port()
    environ = {
        **os.environ,
        **{"PORT": str(unused_port()), "PROMETHEUS_METRICS_PORT": str(metrics), "PROMETHEUS_PORT": str(prometheus)},
        **environ,
    }
    with log.open("wb") as out:
        process = subprocess.Popen([sys.executable, DEMO], stdout=out, stderr=subprocess.STDOUT, env=environ)
    try:
        eventually(lambda: "Ctrl-C ends it" in log.read_text() or process.poll() is not None, "the addresses")
        yield metrics, prometheus
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        assert [child for child in family if child.is_running() and child.status() != psutil.STATUS_ZOMBIE] == []
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(20)


@pytest.mark.needs("prometheus", "promtool")
def test_demo_prints_a_graph_of_a_prometheus_that_has_data_and_rules(tmp_path: Path) -> None:
    """Its query has results, the rules are loaded, and an interrupt ends every process."""
    log = tmp_path / "log"
    with demo(log) as (metrics, port):
        text = log.read_text()
        assert f"http://127.0.0.1:{metrics}/metrics" in text
        assert 'gunicorn_requests_total{endpoint="/items/:id",method="GET",status="200"} 2.0' in text
        address = re.search(rf"Prometheus: +(http://127.0.0.1:{port}/graph\S+)", text)
        assert address is not None, text
        eventually(lambda: answers(address[1]), "Prometheus answers")
        query = requests.Request("GET", address[1]).prepare().url or ""
        assert "g0.expr=sum+by" in query
        api = f"http://127.0.0.1:{port}/api/v1"
        found = {"query": "sum by (endpoint) (gunicorn_requests_total) > 0"}
        eventually(lambda: requests.get(f"{api}/query", params=found, timeout=10).json()["data"]["result"], "data")
        rules = requests.get(f"{api}/rules", timeout=10).json()["data"]["groups"]
        assert sum(len(group["rules"]) for group in rules) > 20


def answers(url: str) -> bool:
    """Return whether there is a page at this address."""
    try:
        return requests.get(url, timeout=10).status_code == 200
    except requests.ConnectionError:
        return False


def test_demo_without_prometheus_says_so_and_serves_metrics(tmp_path: Path) -> None:
    """Where no Prometheus is installed, the demo has all the rest."""
    log = tmp_path / "log"
    with demo(log, PATH=str(tmp_path)) as (metrics, _):
        assert "prometheus and promtool are not installed" in log.read_text()
        assert requests.get(f"http://127.0.0.1:{metrics}/readyz", timeout=10).status_code == 200
