"""The totals at the end: the clients' record, the application's, gunicorn's log, and the final pages of all masters.

A request is known by its path. What must hold, with ``begun`` the requests that the application has recorded at their
start, ``answered`` those whose whole response a client has, and ``killed`` those that a log line names as in progress
when their worker exited:

- Each request that was begun and is not killed is counted, once. A request that is killed is not counted, unless its
  worker has answered it on its way out (error types ``abort``, ``shutdown`` and ``timeout``).
- By status, at least those that were answered and are not killed, and at most those that were begun and are not killed.
- A request that a client got no response to, and that is not killed, was not begun.
- A worker that was killed between response and count is in ``killed`` and in ``answered``: counted by the master, or
  killed, never both.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from prometheus_client.metrics_core import Metric

from tests.soak.load import LEFT, OK, Record

PATH: Final = re.compile(r"/r/\d+$")
ENDPOINTS: Final = frozenset({"/r/:id", "<unmatched>"})
"""Of the requests that the clients send. An attack, and the soak's own probe, have others."""
INTERRUPTED: Final = frozenset({"abort", "shutdown", "timeout"})
EXIT_LINE: Final = re.compile(r"gunicorn_prom_hooks: worker \S+ \(pid:\d+\) exited: \w+ \(\S+\); in progress: (.*)")
SIGNAL_LINE: Final = re.compile(r"Worker \(pid:\d+\) was sent (SIG\w+)!")
BOOT_LINE: Final = re.compile(r"Booting worker with pid: \d+")


@dataclass
class Begun:
    """What the application has recorded.

    Attributes:
        statuses: the status asked for, by path of a request of the clients.
        pids: the worker, by path.
        others: how many requests had another path.
        first: when a process first recorded anything, by pid: monotonic seconds.
        by_pid: how many requests a process has begun.
        twice: paths that were begun twice.
    """

    statuses: dict[str, int] = field(default_factory=dict)
    pids: dict[str, str] = field(default_factory=dict)
    others: int = 0
    first: dict[str, float] = field(default_factory=dict)
    by_pid: Counter[str] = field(default_factory=Counter)
    twice: list[str] = field(default_factory=list)


def read_begun(text: str) -> Begun:
    """Return the content of the application's file."""
    begun = Begun()
    for line in text.splitlines():
        pid, moment, event, *rest = line.split()
        begun.first.setdefault(pid, float(moment))
        if event != "begin":
            continue
        path, status = rest
        begun.by_pid[pid] += 1
        if not PATH.match(path):
            begun.others += 1
        elif path in begun.statuses:
            begun.twice.append(path)
        else:
            begun.statuses[path], begun.pids[path] = int(status), pid
    return begun


def killed_in(log: str) -> tuple[list[str], int]:
    """Return the paths of the clients' requests that the log names as killed, and the number of all killed ones."""
    named = [path for what in EXIT_LINE.findall(log) for path in re.findall(r"\w+ (\S+) \([\d.]+ s\)", what)]
    return [path for path in named if PATH.match(path)], len(named) + unnamed_in(log)


def unnamed_in(log: str) -> int:
    """Return how many killed requests the log does not name: those of one worker beyond 128.

    Any of them may be one of the clients': by so many the totals may be off. The flood of an attack makes them.
    """
    return sum(int(number) for number in re.findall(r"(\d+) other request", log))


class Pages:
    """The final pages of all masters, added up."""

    def __init__(self, pages: Iterable[Iterable[Metric]]) -> None:
        self._samples = [sample for page in pages for family in page for sample in family.samples]

    def sum(self, name: str, **labels: str) -> int:
        """Return the sum of all samples of this name with these labels."""
        return int(sum(value for have, value in self.by(name) if labels.items() <= have.items()))

    def by(self, name: str) -> list[tuple[dict[str, str], float]]:
        """Return labels and values of all samples of this name."""
        return [(sample.labels, sample.value) for sample in self._samples if sample.name == name]


def request_problems(record: Record, begun: Begun, log: str, pages: Pages, *, may_lose: bool = False) -> list[str]:
    """Compare requests.

    Args:
        record: of the clients.
        begun: the application's file.
        log: of the server.
        pages: the final pages.
        may_lose: whether a worker may exit with a response that it has not sent, as gunicorn's tornado worker does.
    """
    problems = []

    def check(right: object, what: str) -> None:
        if not right:
            problems.append(what)

    named, all_killed = killed_in(log)
    killed, started = set(named), set(begun.statuses)
    counted: Counter[int] = Counter()
    for labels, value in pages.by("gunicorn_requests_total"):
        if labels["endpoint"] in ENDPOINTS:
            counted[int(labels["status"]) if labels["status"].isdigit() else 0] += int(value)
    interrupted = sum(
        int(value)
        for labels, value in pages.by("gunicorn_failed_requests_total")
        if labels["error_type"] in INTERRUPTED and labels["endpoint"] in ENDPOINTS
    )
    check(not begun.twice, f"begun twice: {begun.twice[:3]}")
    check(len(killed) == len(named), f"killed twice: {[path for path, n in Counter(named).items() if n > 1][:3]}")
    on_page = pages.sum("gunicorn_killed_requests_total")
    check(on_page == all_killed, f"{on_page} killed requests on the pages, {all_killed} in the log")
    total = counted.total()
    expected, unnamed = len(started - killed), unnamed_in(log)
    check(
        expected - unnamed <= total - interrupted <= expected,
        f"counted {total}, {interrupted} of them interrupted; begun and not killed: {expected}, {unnamed} unnamed",
    )
    answered = record.paths(OK)
    check(answered <= started, f"answered and not begun: {sorted(answered - started)[:3]}")
    for status in sorted({*record.asked.values(), *counted} - {0, 499, 500}):
        least = sum(1 for path in answered - killed if record.asked[path] == status)
        most = sum(1 for path in started - killed if begun.statuses[path] == status)
        check(
            least - unnamed <= counted[status] <= most + interrupted,
            f"status {status}: counted {counted[status]}, at least {least}, at most {most}, {interrupted} interrupted",
        )
    failed = {path for path, outcome in record.outcomes.items() if outcome not in (OK, LEFT)}
    lost = failed & started - killed
    unsent = pages.sum("gunicorn_worker_exits_total") if may_lose else 0
    check(
        len(lost) <= counted[499] + counted[500] + unsent + unnamed,
        f"{len(lost)} requests without a response are counted as answered, such as "
        f"{[(path, record.outcomes[path]) for path in sorted(lost)[:3]]}; "
        f"{counted[499]} with status 499, {counted[500]} with 500",
    )
    check(not (wrong := record.paths("wrong body")), f"wrong bodies: {sorted(wrong)[:3]}")
    return problems


def exit_problems(log: str, pages: Pages, aborts: int) -> list[str]:
    """Compare worker exits with gunicorn's own log.

    gunicorn does not wait for the workers that it kills at the end of a shutdown: these exits are not in its log.
    Nor is SIGABRT if the worker could run its handler, which exits with a code. A worker that is killed right after its
    fork has not logged its start.
    """
    problems = []
    exits: Counter[str] = Counter()
    unlogged = Counter({"SIGABRT": aborts})
    for labels, value in pages.by("gunicorn_worker_exits_total"):
        exits[labels["detail"]] += int(value)
        if labels["detail"] == "SIGKILL" and labels["reason"] in ("shutdown", "timeout"):
            unlogged["SIGKILL"] += int(value)
    booted, exited = len(BOOT_LINE.findall(log)), exits.total()
    by_signal = sum(number for detail, number in exits.items() if detail.startswith("SIG"))
    if not booted <= exited <= booted + by_signal:
        problems.append(f"{booted} workers have booted, {exited} exits are counted")
    sent = Counter(SIGNAL_LINE.findall(log))
    for name in sorted({*sent, *(detail for detail in exits if detail.startswith("SIG"))}):
        if not exits[name] - unlogged[name] <= sent[name] <= exits[name]:
            problems.append(f"{sent[name]} exits by {name} in gunicorn's log, {exits[name]} counted")
    return problems


def application_problems(begun: Begun, log: str, pages: Pages, exempt: Callable[[float, float], bool]) -> list[str]:
    """Compare the application's counter, as its process started while files could not be made, with its own file.

    Args:
        begun: the application's file.
        log: of the server.
        pages: the final pages.
        exempt: returns whether a process that started between two moments may keep its values in its memory.
    """
    counted = pages.sum("soak_started_total")
    most = sum(begun.by_pid.values())
    pids = {pid for pid, first in begun.first.items() if exempt(first - 3.0, first + 1.0)}
    in_memory = sum(number for pid, number in begun.by_pid.items() if pid in pids)
    _, killed = killed_in(log)
    least = most - in_memory - killed
    if least <= counted <= most:
        return []
    return [f"the application has counted {counted} on the pages; at least {least}, at most {most} in its file"]


def final_problems(pages: Pages, tolerated: Iterable[str]) -> list[str]:
    """Check what is left on the final pages: no request in progress, no failure of the package but those tolerated."""
    problems = []
    for name in ("gunicorn_requests_in_progress", "gunicorn_workers"):
        if pages.sum(name):
            problems.append(f"{name} is {pages.sum(name)} on the final pages")
    allowed = tuple(tolerated)
    for labels, value in pages.by("gunicorn_exporter_errors_total"):
        if value and not labels["where"].startswith(allowed):
            problems.append(f"{value:.0f} failures of the exporter's {labels['where']}")
    return problems
