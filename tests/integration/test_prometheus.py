"""A real Prometheus server with the sample configuration."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path

import pytest
import requests

from tests.helpers.places import APPLICATIONS, TOP
from tests.helpers.prometheus import prometheus
from tests.helpers.servers import eventually, running, unused_port
from tests.integration.conftest import Serve

SAMPLE = TOP / "sample_configs" / "prometheus.yml"

QUERIES = [
    'gunicorn_worker_uptime_seconds{worker_id=~"worker_.*"}',
    'gunicorn_worker_memory_bytes{worker_id=~"worker_.*"} / 1024 / 1024',
    'rate(gunicorn_worker_requests_total{worker_id=~"worker_.*"}[1m])',
    "rate(gunicorn_worker_request_duration_seconds_sum[1m]) / rate(gunicorn_worker_request_duration_seconds_count[1m])",
    "rate(gunicorn_worker_failed_requests_total[1m])",
    "gunicorn_worker_cpu_percent",
    "changes(gunicorn_worker_state[5m])",
    "sum by (endpoint, status) (rate(gunicorn_requests_total[1m]))",
    "histogram_quantile(0.9, sum by (le) (rate(gunicorn_request_duration_seconds_bucket[1m])))",
]


@pytest.mark.needs("prometheus")
def test_sample_prometheus_config_yields_data_for_every_dashboard_query(serve: Serve, tmp_path: Path) -> None:
    """Scraped with the sample prometheus.yml, every query that dashboards are made of returns data."""
    server = serve("workers = 2\n")
    port = unused_port()
    config = SAMPLE.read_text()
    assert "127.0.0.1:9091" in config
    assert "scrape_interval: 15s" in config
    config = config.replace("127.0.0.1:9091", f"127.0.0.1:{server.metrics_port}")
    (tmp_path / "prometheus.yml").write_text(config.replace("scrape_interval: 15s", "scrape_interval: 1s"))
    command = [
        "prometheus",
        "--config.file=prometheus.yml",
        "--storage.tsdb.path=data",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with running(command, tmp_path, tmp_path / "prometheus.log"):

        def ask(query: str) -> list[dict[str, object]]:
            server.get("/items/7")
            server.get("/boom")
            answer = requests.get(
                f"http://127.0.0.1:{port}/api/v1/query", params={"query": query, "time": str(time.time())}, timeout=10
            ).json()
            assert answer["status"] == "success", answer
            found: list[dict[str, object]] = answer["data"]["result"]
            return found

        for query in QUERIES:
            assert eventually(lambda query=query: ask(query), f"data for {query}")  # type: ignore[misc]
        assert [sample["value"][1] for sample in ask("up")] == ["1"]  # type: ignore[index]


def major_version() -> int:
    """Return the major version of the installed Prometheus."""
    out = subprocess.run(["prometheus", "--version"], check=True, capture_output=True, text=True)
    found = re.search(r"version (\d+)\.", out.stdout + out.stderr)
    assert found is not None
    return int(found[1])


@pytest.mark.needs("prometheus")
def test_prometheus_3_sees_first_events_by_created_timestamps(serve: Serve, tmp_path: Path) -> None:
    """With the feature, the increase of a series that begins at 1 is 1, and no sample becomes a series of its own."""
    if major_version() < 3:
        pytest.skip("this Prometheus is older than 3, which has the feature created-timestamp-zero-ingestion")
    server = serve("install(globals(), port=METRICS_PORT, created_timestamps=True)\n")
    port = unused_port()
    scrape = f"- job_name: gunicorn\n  static_configs: [{{targets: ['127.0.0.1:{server.metrics_port}']}}]\n"
    (tmp_path / "prometheus.yml").write_text("global: {scrape_interval: 1s}\nscrape_configs:\n" + scrape)
    command = [
        *("prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=data"),
        *("--enable-feature=created-timestamp-zero-ingestion", f"--web.listen-address=127.0.0.1:{port}"),
    ]
    with running(command, tmp_path, tmp_path / "prometheus.log"):

        def ask(query: str) -> list[float]:
            url = f"http://127.0.0.1:{port}/api/v1/query"
            found = requests.get(url, params={"query": query}, timeout=10).json()["data"]["result"]
            return [float(sample["value"][1]) for sample in found]

        eventually(lambda: ask("up == 1"), "the first scrape")
        assert ask("increase(gunicorn_failed_requests_total[1m]) > 0") == []
        server.get("/boom")
        [increase] = eventually(lambda: ask("increase(gunicorn_failed_requests_total[1m]) > 0"), "the first failure")
        assert increase == pytest.approx(1.0, abs=0.5)
        assert ask('{__name__=~"gunicorn_.*_created"}') == []


OPERATOR = {"namespace": "shop", "pod": "shop-7d9f", "container": "web", "endpoint": "metrics"}
"""Labels that the Prometheus operator sets on the target of a monitor."""
MONITOR = TOP / "sample_configs" / "kubernetes" / "podmonitor.yaml"


@pytest.mark.needs("prometheus")
@pytest.mark.parametrize("honors", [True, False])
def test_target_label_endpoint_of_the_operator_hides_the_routes_unless_labels_are_honored(
    serve: Serve, tmp_path: Path, honors: bool
) -> None:
    """With honorLabels, as in the sample PodMonitor, ``endpoint`` is the route; without, ``exported_endpoint`` is."""
    assert "honorLabels: true" in MONITOR.read_text()
    server = serve(app=APPLICATIONS / "flask_routes.py")
    server.get("/items/7")
    server.settled(2)
    relabeling = [{"target_label": name, "replacement": value} for name, value in OPERATOR.items()]
    more = {"honor_labels": honors, "relabel_configs": relabeling}
    with prometheus(tmp_path / "prometheus", {"shop": server}, more=more) as monitor:
        for label, expected in (("endpoint", honors), ("exported_endpoint", not honors)):
            found = {has.get(label) for has, _ in monitor.results(f"sum by ({label}) (gunicorn_requests_total > 0)")}
            assert ("/items/<int:number>" in found) == expected, found
        [(has, _)] = monitor.results("gunicorn_workers_target")
        assert OPERATOR.items() <= has.items()
