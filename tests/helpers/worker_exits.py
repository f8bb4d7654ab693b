"""Helpers for tests of worker exits: requests that hang, and the counts of exits."""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Iterator

from tests.helpers.servers import Samples, Server, eventually

Exits = dict[tuple[str, str], float]
LINE = re.compile(r"gunicorn_prom_hooks: worker worker_\S+ \(pid:(\d+)\) exited: (\w+ \(\S+\)); (?:in progress: )?(.*)")


def exits(samples: Samples) -> Exits:
    """Return the exits by reason and detail, without those that are 0."""
    found = samples.all("gunicorn_worker_exits_total")
    return {(labels["reason"], labels["detail"]): value for labels, value in found if value}


def killed(samples: Samples) -> dict[tuple[str, str, str], float]:
    """Return the killed requests by method, endpoint and reason."""
    found = samples.all("gunicorn_killed_requests_total")
    return {(labels["method"], labels["endpoint"], labels["reason"]): value for labels, value in found}


def restarts(samples: Samples) -> dict[str, float]:
    """Return the exits by coarse reason, without those that are 0."""
    found = samples.all("gunicorn_master_worker_restart_total")
    return {labels["reason"]: value for labels, value in found if value}


@contextlib.contextmanager
def hanging(server: Server, *paths: str, unix: str = "") -> Iterator[list[socket.socket]]:
    """Send a request to each path, and do not wait for the responses."""
    with contextlib.ExitStack() as stack:
        clients = []
        for path in paths:
            client = socket.socket(socket.AF_UNIX if unix else socket.AF_INET)
            stack.enter_context(client)
            client.settimeout(20)
            client.connect(unix or ("127.0.0.1", server.port))
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            clients.append(client)
        yield clients


def busy_worker(server: Server) -> tuple[str, int]:
    """Wait for a worker that processes a request. Return its worker_id and pid."""

    def probe() -> tuple[str, int] | None:
        samples = server.scrape()
        for labels, value in samples.all("gunicorn_worker_requests_in_progress"):
            if value:
                return labels["worker_id"], int(samples.one("gunicorn_worker_pid", worker_id=labels["worker_id"]))
        return None

    return eventually(probe, "a worker processes a request")


def page_with_exits(server: Server, expected: Exits) -> Samples:
    """Return the page once it has exactly these exits.

    gunicorn may send SIGTERM twice. If the second one comes after Python has taken down its signal handlers, the signal
    kills the worker, right before its exit.
    """

    def probe() -> Samples:
        samples = server.scrape()
        found: Exits = {}
        for (reason, detail), value in exits(samples).items():
            is_requested = reason in ("reload", "scale_down", "shutdown") and detail == "SIGTERM"
            key = reason, "0" if is_requested else detail
            found[key] = found.get(key, 0) + value
        assert found == expected, found
        return samples

    return eventually(probe, f"the exits {expected}")


def exit_lines(server: Server, count: int) -> list[tuple[str, str, str]]:
    """Wait for this number of log lines about exits. Return pid, reason and detail, and requests of each."""

    def probe() -> list[tuple[str, str, str]]:
        found = LINE.findall(server.log)
        assert len(found) >= count, found
        return [("", "", ""), *found]

    found = eventually(probe, f"{count} exits are in the log")[1:]
    assert len(found) == count, found
    return found
