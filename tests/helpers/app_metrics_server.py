"""A server whose application has metrics."""

from __future__ import annotations

from pathlib import Path

from tests.helpers.places import APPLICATIONS
from tests.helpers.servers import Samples, Server, eventually

APP = (APPLICATIONS / "shop.py").read_text()


def directory(server: Server) -> Path:
    """Return the directory of the application's metrics, as a worker reports it."""
    return Path(server.get("/directory").text)


def when(server: Server, name: str, value: float, **labels: str) -> Samples:
    """Return the first page on which this metric has this value."""

    def probe() -> Samples:
        samples = server.scrape()
        assert samples.sum(name, **labels) == value, samples.all(name)
        return samples

    return eventually(probe, f"{name} {value}")


def own_page(server: Server, name: str) -> float:
    """Return a value at the application's own endpoint, which prometheus_client makes of the directory."""
    answer = server.get("/own")
    assert answer.status_code == 200, server.log
    return sum(float(line.split()[-1]) for line in answer.text.splitlines() if line.startswith(name))


MARK_DEAD = """
from prometheus_client import multiprocess
def child_exit(server, worker):
    multiprocess.mark_process_dead(worker.pid)
"""


def zombie(pid: int) -> bool:
    """Return whether the process has exited and is not reaped yet."""
    return "(zombie)" in Path(f"/proc/{pid}/status").read_text()
