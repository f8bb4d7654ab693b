"""System calls of the exporter fail in the kernel, as strace injects it, and a server without ``/proc``: both serve."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
from collections.abc import Iterator

import psutil
import pytest
import requests

from tests.helpers.servers import Samples, Server, eventually
from tests.integration.conftest import Serve, missing

NO_PROC = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /proc && exec "$@"', "sh")
"""Runs a command in a mount namespace of its own, with an empty ``/proc``."""


def exporter_thread(server: Server) -> int:
    """Return the id of the exporter's thread, once those of the last scrape have ended."""

    def alone() -> int | None:
        threads = [thread.id for thread in psutil.Process(server.pid).threads() if thread.id != server.pid]
        return threads[0] if len(threads) == 1 else None

    return eventually(alone, "the exporter's thread is the only one beside the first")


@contextlib.contextmanager
def injected(server: Server, fault: str) -> Iterator[None]:
    """Make system calls of the exporter's threads fail for the length of the block."""
    thread = exporter_thread(server)
    name = fault.partition(":")[0]
    command = ["strace", "-f", "-q", "-p", str(thread), "-e", f"trace={name}", "-e", f"inject={fault}"]
    trace = server.folder / "trace"
    with trace.open("wb") as out:
        process = subprocess.Popen(command, stderr=out)
    try:
        eventually(lambda: process.poll() is not None or is_traced(thread), "strace is attached")
        if process.poll() is not None:
            missing(f"strace cannot attach: {trace.read_text()}")
        yield
        assert "(INJECTED)" in trace.read_text()
    finally:
        process.terminate()
        process.wait(20)


def is_traced(thread: int) -> bool:
    """Return whether a process traces this thread."""
    with open(f"/proc/{thread}/status") as file:
        return any(line.startswith("TracerPid:") and line.split()[1] != "0" for line in file)


def page_is_whole(server: Server) -> Samples | None:
    """Return a scrape in which each collector has succeeded."""
    samples = server.scrape()
    return samples if all(value == 1 for _, value in samples.all("gunicorn_exporter_collector_success")) else None


@pytest.mark.needs("strace")
@pytest.mark.parametrize("when", ["1", "1+"])
@pytest.mark.parametrize(
    "fault",
    [
        "accept4:error=EMFILE",
        "accept4:error=ECONNABORTED",
        "accept4:error=EIO",
        "openat:error=EMFILE",
        "openat:error=EACCES",
        "mmap:error=ENOMEM",
        "clone3,clone:error=EAGAIN",
        "poll:error=ENOMEM",
        "recvfrom:error=EIO",
        "sendto:error=ENOBUFS",
        "socket:error=EMFILE",
        "setsockopt,getsockopt:error=ENOBUFS",
        "close:error=EIO",
    ],
)
def test_system_call_of_the_exporter_fails(serve: Serve, fault: str, when: str) -> None:
    """The application is served meanwhile, the master lives, the log has few lines, and the page comes back."""
    server = serve()
    eventually(lambda: page_is_whole(server), "a whole page")
    with injected(server, f"{fault}:when={when}"):
        for _ in range(3):
            with contextlib.suppress(requests.RequestException):
                requests.get(f"http://127.0.0.1:{server.metrics_port}/metrics", timeout=1)
            assert server.get("/").status_code == 200
    samples = eventually(lambda: page_is_whole(server), "a whole page after the fault")
    assert samples.sum("gunicorn_requests_total") >= 4
    assert server.process is not None
    assert server.process.poll() is None
    components = [labels["where"] for labels, _ in samples.all("gunicorn_exporter_errors_total")]
    assert server.log.count("failed; the server goes on") <= len(components)
    # CPython writes one by itself, of a thread that has no memory for its first frame.
    assert "Exception ignored in:" not in server.log
    server.signal(signal.SIGHUP)
    server.wait_for_workers(1)


@pytest.mark.needs("unshare")
def test_server_without_proc_serves_and_tells(serve: Serve) -> None:
    """Without ``/proc`` there is no memory of workers: one line, counted at each scrape. All else is as usual."""
    if subprocess.run([*NO_PROC, shutil.which("true") or "true"], capture_output=True, check=False).returncode:
        missing("no mount namespace can be made")
    server = serve(before=NO_PROC)
    for _ in range(3):
        samples = server.settled(1)
    assert samples.all("gunicorn_exporter_collector_success", collector="worker_processes")[0][1] == 0
    assert [labels for labels, value in samples.all("gunicorn_exporter_collector_success") if value != 1] == [
        {"collector": "worker_processes"}
    ]
    assert samples.one("gunicorn_exporter_errors_total", where="collector_worker_processes") >= 2
    assert server.log.count("collector_worker_processes failed; the server goes on") == 1
    pid = int(server.get("/").text)
    psutil.Process(pid).kill()
    eventually(lambda: int(server.get("/").text) != pid, "another worker")
    server.signal(signal.SIGHUP)
    assert server.wait_for_workers(1).one("gunicorn_master_worker_restart_total", reason="error") == 1
