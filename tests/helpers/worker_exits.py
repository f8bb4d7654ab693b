"""What tests of dying workers need: requests that are left hanging, and what the page says of ends."""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Iterator

from tests.helpers.servers import Samples, Server, eventually

Exits = dict[tuple[str, str], float]
LINE = re.compile(r"gunicorn_prom_hooks: worker worker_\S+ \(pid:(\d+)\) ended: (\w+ \(\S+\)), in the middle of (.*)")


def exits(samples: Samples) -> Exits:
    """Ends of workers by reason and detail, those that there were none of left out."""
    found = samples.all("gunicorn_worker_exits_total")
    return {(labels["reason"], labels["detail"]): value for labels, value in found if value}


def killed(samples: Samples) -> dict[tuple[str, str, str], float]:
    """Killed requests by method, endpoint and reason."""
    found = samples.all("gunicorn_killed_requests_total")
    return {(labels["method"], labels["endpoint"], labels["reason"]): value for labels, value in found}


def restarts(samples: Samples) -> dict[str, float]:
    """The same ends in coarser words, those that there were none of left out."""
    found = samples.all("gunicorn_master_worker_restart_total")
    return {labels["reason"]: value for labels, value in found if value}


@contextlib.contextmanager
def hanging(server: Server, *paths: str, unix: str = "") -> Iterator[list[socket.socket]]:
    """Requests to these paths, sent and not waited for."""
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
    """worker_id and pid of the worker that is at a request, once there is one."""

    def probe() -> tuple[str, int] | None:
        samples = server.scrape()
        for labels, value in samples.all("gunicorn_worker_requests_in_progress"):
            if value:
                [(info, _)] = samples.all("gunicorn_worker_info", worker_id=labels["worker_id"])
                return labels["worker_id"], int(info["pid"])
        return None

    return eventually(probe, "a worker is at a request")


def booked(server: Server, expected: Exits) -> Samples:
    """The page once it has exactly these ends.

    gunicorn may send SIGTERM twice. If the second one comes after Python has taken down its signal handlers, the worker
    dies of it, right before its end.
    """

    def probe() -> Samples:
        samples = server.scrape()
        found: Exits = {}
        for (reason, detail), value in exits(samples).items():
            told = reason in ("reload", "scale_down", "shutdown") and detail == "SIGTERM"
            key = reason, "0" if told else detail
            found[key] = found.get(key, 0) + value
        assert found == expected, found
        return samples

    return eventually(probe, f"the ends {expected}")


def obituaries(server: Server, count: int) -> list[tuple[str, str, str]]:
    """Pid, how it ended and in the middle of what, of each line about a death in the log, once there are so many."""

    def probe() -> list[tuple[str, str, str]]:
        found = LINE.findall(server.log)
        assert len(found) >= count, found
        return [("", "", ""), *found]

    found = eventually(probe, f"{count} deaths are in the log")[1:]
    assert len(found) == count, found
    return found
