"""The page as a whole: formats, names, labels, and what others make of it."""

from __future__ import annotations

import gzip
import os
import re
import signal
import subprocess
import time

import pytest
import requests
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics

from tests.helpers.servers import Samples, Server, eventually
from tests.helpers.worker_exits import busy_worker, hanging
from tests.integration.conftest import Serve

PER_WORKER = {
    "gunicorn_worker_requests": ("counter", {"worker_id"}),
    "gunicorn_worker_request_duration_seconds": ("histogram", {"worker_id"}),
    "gunicorn_worker_memory_bytes": ("gauge", {"worker_id"}),
    "gunicorn_worker_cpu_percent": ("gauge", {"worker_id"}),
    "gunicorn_worker_uptime_seconds": ("gauge", {"worker_id"}),
    "gunicorn_worker_failed_requests": ("counter", {"worker_id", "method", "endpoint", "error_type"}),
    "gunicorn_worker_error_handling": ("counter", {"worker_id", "method", "endpoint", "error_type"}),
    "gunicorn_worker_state": ("gauge", {"worker_id", "state", "timestamp"}),
    "gunicorn_master_worker_restart": ("counter", {"reason"}),
    "gunicorn_worker_requests_in_progress": ("gauge", {"worker_id"}),
    "gunicorn_worker_oldest_request_seconds": ("gauge", {"worker_id"}),
    "gunicorn_worker_heartbeat_age_seconds": ("gauge", {"worker_id"}),
    "gunicorn_worker_threads": ("gauge", {"worker_id"}),
    "gunicorn_worker_open_fds": ("gauge", {"worker_id"}),
    "gunicorn_worker_busy_seconds": ("counter", {"worker_id"}),
    "gunicorn_worker_cpu_seconds": ("counter", {"worker_id", "mode"}),
    "gunicorn_worker_info": ("gauge", {"worker_id", "pid", "slot", "worker_class"}),
}


def full_page(server: Server) -> Samples:
    """A page on which every family has a sample."""
    with hanging(server, "/hang"):
        _, pid = busy_worker(server)
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: server.scrape().sum("gunicorn_killed_requests_total"), "a request is killed")
    server.get("/boom")
    server.get("/503")
    server.get("/", headers={"X-Request-Start": f"t={time.time()}"})
    server.send(b"NONSENSE\r\n\r\n")
    server.settled(1, "gunicorn_invalid_requests_total")
    return server.settled(4)


def test_per_worker_families_have_fixed_names_types_labels_and_buckets(serve: Serve) -> None:
    """The per-worker families have the names, types, labels and buckets that users' queries rely on."""
    samples = full_page(serve("workers = 2\n"))
    families = {family.name: family for family in samples.families}
    for name, (kind, labels) in PER_WORKER.items():
        family = families[name]
        assert family.type == kind, name
        assert family.samples, name
        assert all(set(sample.labels) - {"le"} == labels for sample in family.samples), name
    bounds = {labels["le"] for labels, _ in samples.all("gunicorn_worker_request_duration_seconds_bucket")}
    assert bounds == {"0.1", "0.5", "1.0", "2.5", "5.0", "10.0", "30.0", "60.0", "+Inf"}
    bounds = {labels["le"] for labels, _ in samples.all("gunicorn_request_duration_seconds_bucket")}
    assert bounds == {
        *("0.001", "0.0025", "0.005", "0.01", "0.025", "0.05", "0.075", "0.1", "0.25", "0.5", "0.75", "1.0"),
        *("2.5", "5.0", "7.5", "10.0", "30.0", "60.0", "+Inf"),
    }
    bounds = {labels["le"] for labels, _ in samples.all("gunicorn_response_size_bytes_bucket")}
    assert bounds == {"1024.0", "4096.0", "16384.0", "65536.0", "262144.0", "1.048576e+06", "4.194304e+06", "+Inf"}
    for info, _ in samples.all("gunicorn_worker_info"):
        assert re.fullmatch(r"worker_\d+_\d{10}", info["worker_id"])


def test_per_worker_values_equal_those_of_the_process(serve: Serve) -> None:
    """What the page says of a worker is true of the process: memory, files, CPU, threads, heartbeat, uptime."""
    server = serve("workers = 2\nworker_class = 'gthread'\nthreads = 3\n")
    server.wait_for_workers(2)

    def all_busy() -> Samples | None:
        for _ in range(20):
            server.get("/")
        samples = server.scrape()
        percent = [value for _, value in samples.all("gunicorn_worker_cpu_percent")]
        return samples if len(percent) == 2 and all(percent) else None

    samples = eventually(all_busy, "both workers have used CPU")
    processes = {str(process.pid): process for process in server.workers()}
    for labels, _ in samples.all("gunicorn_worker_info"):
        process, worker = processes[labels["pid"]], labels["worker_id"]
        assert labels["worker_class"] == "ThreadWorker"
        rss = process.memory_info().rss
        assert abs(samples.one("gunicorn_worker_memory_bytes", worker_id=worker) - rss) < rss / 4
        assert abs(samples.one("gunicorn_worker_open_fds", worker_id=worker) - process.num_fds()) <= 3
        used = samples.sum("gunicorn_worker_cpu_seconds_total", worker_id=worker)
        assert 0 < used <= sum(process.cpu_times()[:2]) + 0.01
        assert 0 < samples.one("gunicorn_worker_cpu_percent", worker_id=worker) <= 110
        assert samples.one("gunicorn_worker_threads", worker_id=worker) == 3
        assert 0 <= samples.one("gunicorn_worker_heartbeat_age_seconds", worker_id=worker) < 5
        age = time.time() - process.create_time()
        assert abs(samples.one("gunicorn_worker_uptime_seconds", worker_id=worker) - age) < 3
        assert samples.one("gunicorn_worker_state", worker_id=worker, state="running") == 1
        assert samples.one("gunicorn_worker_state", worker_id=worker, state="booting") == 0
    assert samples.one("gunicorn_workers_target") == 2
    build = samples.all("gunicorn_build_info")[0][0]
    assert build["worker_class"] == "gthread"
    assert set(build) == {"version", "gunicorn", "python", "worker_class", "app"}
    assert samples.one("process_start_time_seconds") > time.time() - 100


@pytest.mark.needs("promtool")
def test_promtool_complains_only_about_gunicorn_worker_cpu_percent(serve: Serve) -> None:
    """promtool finds nothing wrong with a full page but the published name gunicorn_worker_cpu_percent."""
    text = full_page(serve("workers = 2\n")).text
    lint = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    complaints = (lint.stdout + lint.stderr).splitlines()
    assert [line for line in complaints if "gunicorn_worker_cpu_percent" not in line] == []


def test_page_has_the_requested_format_and_encoding_and_other_paths_are_404(serve: Serve) -> None:
    """The page comes as text or OpenMetrics, plain or compressed, as asked for; HEAD has the headers alone."""
    server = serve()
    url = f"http://127.0.0.1:{server.metrics_port}"
    plain = server.page(headers={"Accept-Encoding": "identity"})
    assert plain.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert "Content-Encoding" not in plain.headers
    strict = server.page(headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert strict.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    assert strict.text.endswith("# EOF\n")
    assert {family.name for family in openmetrics(strict.text)} >= set(PER_WORKER)  # type: ignore[no-untyped-call]
    compressed = requests.get(f"{url}/metrics", headers={"Accept-Encoding": "gzip"}, stream=True, timeout=10)
    assert compressed.headers["Content-Encoding"] == "gzip"
    assert b"gunicorn_requests_total" in gzip.decompress(compressed.raw.read(decode_content=False))
    head = requests.head(f"{url}/metrics", timeout=10)
    assert (head.status_code, head.content) == (200, b"")
    assert int(head.headers["Content-Length"]) > 1000
    for path in ("/nothing", "/metrics/x", "/favicon.ico"):
        assert requests.get(url + path, timeout=10).status_code == 404
    assert requests.get(f"{url}/metrics?x=y", timeout=10).status_code == 200
    assert requests.post(f"{url}/metrics", timeout=10).status_code == 405


def test_slot_label_has_few_values_over_many_generations(serve: Serve) -> None:
    """With worker_label="slot" the label has the same few values through any number of generations."""
    server = serve("workers = 2\nmax_requests = 3\ninstall(globals(), port=METRICS_PORT, worker_label='slot')\n")
    for _ in range(40):
        server.get("/")
    samples = server.settled(41)
    ids = {labels["worker_id"] for labels, _ in samples.all("gunicorn_worker_requests_total")}
    assert ids <= {"worker_0", "worker_1", "worker_2"}
    assert samples.one("gunicorn_master_worker_restart_total", reason="restart") >= 10


def test_busy_seconds_of_a_successor_in_a_slot_start_at_zero(serve: Serve) -> None:
    """Under worker_label="slot" too, a successor's busy time starts at zero and grows with its own requests."""
    server = serve("workers = 1\nmax_requests = 2\ninstall(globals(), port=METRICS_PORT, worker_label='slot')\n")
    server.get("/sleep/1.2")
    eventually(
        lambda: server.scrape().one("gunicorn_master_worker_restart_total", reason="restart") == 1, "a successor"
    )
    server.get("/sleep/0.3")
    samples = server.settled(3)
    assert samples.one("gunicorn_worker_requests_total", worker_id="worker_0") == 1
    assert 0.3 <= samples.one("gunicorn_worker_busy_seconds_total", worker_id="worker_0") < 1.0
