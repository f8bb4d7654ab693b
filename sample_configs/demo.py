"""Run the demo: gunicorn with the sample config and application, and Prometheus with the rules if it is installed.

The ports are 8000 (PORT), 9091 (PROMETHEUS_METRICS_PORT) and 9090 (PROMETHEUS_PORT).
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlencode

HERE = Path(__file__).parent
RULES = HERE / "prometheus" / "gunicorn.rules.yml"
PORT = int(os.environ.get("PORT", "8000"))
METRICS_PORT = int(os.environ.get("PROMETHEUS_METRICS_PORT", "9091"))
PROMETHEUS_PORT = int(os.environ.get("PROMETHEUS_PORT", "9090"))
APP = f"http://127.0.0.1:{PORT}"
PAGE = f"http://127.0.0.1:{METRICS_PORT}"
PROMETHEUS = f"http://127.0.0.1:{PROMETHEUS_PORT}"
QUERY = "sum by (endpoint, status) (rate(gunicorn_requests_total[1m])) > 0"
CONFIG = f"""
global: {{scrape_interval: 2s, evaluation_interval: 5s}}
rule_files: ["{RULES}"]
scrape_configs:
  - job_name: gunicorn
    static_configs: [{{targets: ["127.0.0.1:{METRICS_PORT}"]}}]
"""
SHOWN = (
    "gunicorn_requests_total",
    "gunicorn_failed_requests_total",
    "gunicorn_worker_memory_bytes",
    "gunicorn_workers{",
)


def main():
    gunicorn = Path(sys.executable).with_name("gunicorn")
    bind = f"127.0.0.1:{PORT}"
    server = subprocess.Popen(
        [gunicorn, "-c", HERE / "gunicorn.conf.py", "--chdir", HERE, "--bind", bind, "--workers", "2", "demo_app:app"]
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: server.poll() is None and server.send_signal(number))
    until_answered(server)
    with prometheus() as graph:
        for path in ("/", "/items/7", "/items/8", "/slow", "/fail", "/unavailable", "/stream", "/nowhere"):
            with contextlib.suppress(urllib.error.HTTPError):
                fetch(APP + path)
        time.sleep(0.2)
        lines = fetch(f"{PAGE}/metrics").splitlines()
        print("\nA few of the metrics:\n")
        print("\n".join(line for line in lines if line.startswith(SHOWN) and "<other>" not in line))
        print(f"\nThe application: {APP}/\nThe metrics:     {PAGE}/metrics\nThe status page: {PAGE}/")
        print(f"Prometheus:      {graph}\n\nCtrl-C ends it.", flush=True)
        return server.wait()


def until_answered(server):
    for _ in range(200):
        if server.poll() is not None:
            sys.exit(f"gunicorn ended with {server.returncode}")
        with contextlib.suppress(OSError):
            fetch(f"{PAGE}/metrics")
            fetch(APP)
            return
        time.sleep(0.1)
    server.terminate()
    sys.exit(f"gunicorn did not come up; is something else on port {PORT} or {METRICS_PORT}?")


@contextlib.contextmanager
def prometheus():
    """Start Prometheus if it and promtool are there and the port is free. Yield a graph's address, or the reason."""
    if shutil.which("prometheus") is None or shutil.which("promtool") is None:
        yield "prometheus and promtool are not installed"
        return
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", PROMETHEUS_PORT)) == 0:
            yield f"not started: something else is on port {PROMETHEUS_PORT}"
            return
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "prometheus.yml")
        config.write_text(CONFIG)
        checked = subprocess.run(["promtool", "check", "config", config], capture_output=True, text=True, check=False)
        if checked.returncode:
            yield f"not started: {checked.stderr.strip()}"
            return
        process = subprocess.Popen(
            [
                *("prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder}/data", "--log.level=error"),
                f"--web.listen-address=127.0.0.1:{PROMETHEUS_PORT}",
            ]
        )
        try:
            yield f"{PROMETHEUS}/graph?" + urlencode({"g0.expr": QUERY, "g0.tab": 0, "g0.range_input": "5m"})
        finally:
            process.terminate()
            process.wait()


def fetch(url):
    with urllib.request.urlopen(url, timeout=10) as response:
        return response.read().decode()


if __name__ == "__main__":
    sys.exit(main())
