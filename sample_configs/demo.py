"""Runs the demo: gunicorn with the sample config and application, a few requests, a few metrics, then serves on."""

import contextlib
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

HERE = Path(__file__).parent
APP = "http://127.0.0.1:8000"
METRICS = "http://127.0.0.1:9091/metrics"
SHOWN = (
    "gunicorn_requests_total",
    "gunicorn_failed_requests_total",
    "gunicorn_worker_memory_bytes",
    "gunicorn_workers{",
)


def main():
    gunicorn = Path(sys.executable).with_name("gunicorn")
    server = subprocess.Popen(
        [gunicorn, "-c", HERE / "gunicorn.conf.py", "--chdir", HERE, "--workers", "2", "demo_app:app"]
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: server.poll() is None and server.send_signal(number))
    until_answered(server)
    for path in ("/", "/items/7", "/items/8", "/slow", "/fail", "/unavailable", "/stream", "/nowhere"):
        with contextlib.suppress(urllib.error.HTTPError):
            fetch(APP + path)
    time.sleep(0.2)
    lines = fetch(METRICS).splitlines()
    print("\nA few of the metrics:\n")
    print("\n".join(line for line in lines if line.startswith(SHOWN)))
    print(f"\nThe application: {APP}/\nThe metrics:     {METRICS}\n\nCtrl-C ends it.", flush=True)
    return server.wait()


def until_answered(server):
    for _ in range(200):
        if server.poll() is not None:
            sys.exit(f"gunicorn ended with {server.returncode}")
        with contextlib.suppress(OSError):
            fetch(METRICS)
            fetch(APP)
            return
        time.sleep(0.1)
    server.terminate()
    sys.exit("gunicorn did not come up; is something else on port 8000 or 9091?")


def fetch(url):
    with urllib.request.urlopen(url, timeout=10) as response:
        return response.read().decode()


if __name__ == "__main__":
    sys.exit(main())
