"""Ten scrapes a second, in both formats: each one parses, and no aggregated counter goes backwards."""

from __future__ import annotations

import contextlib
import http.client
import math
import queue
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

INTERVAL: Final = 0.1
OPENMETRICS: Final = "application/openmetrics-text;version=1.0.0"
AGES: Final = frozenset(
    {
        "gunicorn_worker_oldest_request_seconds",
        "gunicorn_worker_heartbeat_age_seconds",
        "gunicorn_worker_uptime_seconds",
        "gunicorn_worker_event_loop_blocked_seconds",
    }
)
"""Never negative, nor longer than the run."""
IN_PROGRESS: Final = frozenset({"gunicorn_worker_requests_in_progress", "gunicorn_requests_in_progress"})
ADDRESS: Final = "127.0.0.2"
"""Of the scraper: not the one of the hostile clients, since the exporter limits clients by address."""
Key = tuple[str, frozenset[tuple[str, str]]]
Values = dict[Key, float]


def parse(body: str, content_type: str) -> list[Metric]:
    """Return the families of a page, with prometheus_client's parser of its format.

    Raises:
        ValueError: the page does not parse.
    """
    parser: Callable[[str], Iterable[Metric]] = parse_openmetrics if "openmetrics" in content_type else parse_text
    return list(parser(body))


def master_of(families: Iterable[Metric]) -> str:
    """Return the pid of the master that a page is of."""
    return next(s.labels["master"] for f in families if f.name == "gunicorn_build_info" for s in f.samples)


@dataclass
class Checks:
    """What each page is compared with: the last values of all counters, by master.

    Attributes:
        problems: what was found.
        last: the last value of each counter, by master. Workers' own series too: no worker has another's id.
        aggregated: the counters that are sums over all workers, by master. They never go away.
    """

    problems: list[str] = field(default_factory=list)
    last: dict[str, Values] = field(default_factory=dict)
    aggregated: dict[str, set[Key]] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)

    def page(self, families: list[Metric], *, lenient: bool = False) -> Values:
        """Check one page. Return its values.

        Args:
            families: of the page.
            lenient: whether series may be missing, as while files cannot be opened.
        """
        master = master_of(families)
        last = self.last.setdefault(master, {})
        aggregated = self.aggregated.setdefault(master, set())
        values: Values = {}
        incomplete = lenient
        for family in families:
            is_counter = family.type in ("counter", "histogram", "summary")
            for sample in family.samples:
                key = sample.name, frozenset(sample.labels.items())
                if key in values:
                    self.problems.append(f"twice on the page: {sample.name}{sample.labels}")
                values[key] = sample.value
                longest = time.monotonic() - self.started + 1000.0 if sample.name in AGES else math.inf
                if sample.name in AGES | IN_PROGRESS and not 0.0 <= sample.value < longest:
                    self.problems.append(f"impossible: {sample.name}{sample.labels} {sample.value}")
                if sample.name == "gunicorn_exporter_collector_success" and not sample.value:
                    incomplete = True
                    if not lenient:
                        self.problems.append(f"a collector has failed: {sample.labels['collector']}")
                if not is_counter or sample.name.endswith("_created"):
                    continue
                if sample.value < last.get(key, 0.0):
                    self.problems.append(
                        f"backwards in master {master}: {sample.name}{sample.labels} {last[key]} to {sample.value}"
                    )
                last[key] = sample.value
                if "worker_id" not in sample.labels:
                    aggregated.add(key)
        missing = [] if incomplete else sorted(str(key) for key in aggregated - values.keys())
        if missing:
            self.problems.append(f"gone from master {master}: {len(missing)} series, such as {missing[0]}")
        requests_ = sum(v for (name, _), v in values.items() if name == "gunicorn_requests_total")
        durations = sum(v for (name, _), v in values.items() if name == "gunicorn_request_duration_seconds_count")
        if requests_ != durations:
            self.problems.append(f"{requests_} requests, {durations} durations on one page")
        return values


class Scraper:
    """A thread that scrapes. What failed while it was allowed to is no problem.

    Args:
        port: of the metrics.
        allowed: returns why a scrape may fail that took from the first to the second moment; empty: it may not.
        lenient: returns whether series may be missing from a page of this time.
    """

    def __init__(
        self, port: int, allowed: Callable[[float, float], str], lenient: Callable[[float, float], bool]
    ) -> None:
        self.checks = Checks()
        self.scrapes = 0
        self.failed: list[tuple[float, float, str]] = []
        self.sizes: list[tuple[float, str, int]] = []
        """Moment, master, and bytes of each page in the text format."""
        self.longest = 0.0
        self._port, self._allowed, self._lenient = port, allowed, lenient
        self._stop = threading.Event()
        self._pages: queue.SimpleQueue[tuple[float, float, str, str] | None] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._run), threading.Thread(target=self._check)]

    def start(self) -> None:
        """Begin to scrape."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> list[str]:
        """Stop. Return the problems."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        problems = list(self.checks.problems)
        problems += [
            f"scrape at {start - self.checks.started:.1f} s failed: {what}"
            for start, end, what in self.failed
            if not self._allowed(start, end)
        ]
        return problems

    def _run(self) -> None:
        number = 0
        due = time.monotonic()
        while not self._stop.is_set():
            self._scrape(number)
            number += 1
            due = max(due + INTERVAL, time.monotonic() - INTERVAL)
            self._stop.wait(max(0.0, due - time.monotonic()))
        self._pages.put(None)

    def _check(self) -> None:
        while (page := self._pages.get()) is not None:
            start, end, content_type, body = page
            try:
                families = parse(body, content_type)
            except Exception as error:  # noqa: BLE001 - whatever the parser raises, the page is not right
                self.checks.problems.append(f"does not parse: {error!r}")
                continue
            self.checks.page(families, lenient=self._lenient(start, end))
            if "openmetrics" not in content_type:
                self.sizes.append((end, master_of(families), len(body)))

    def _scrape(self, number: int) -> None:
        path = "/" if number % 10 == 9 else "/metrics"
        headers = {"Accept": OPENMETRICS if number % 2 else "text/plain", "Connection": "close"}
        start = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=20, source_address=(ADDRESS, 0))
        try:
            with contextlib.closing(connection):
                connection.request("GET", path, headers=headers)
                response = connection.getresponse()
                body = response.read().decode()
        except (OSError, http.client.HTTPException) as error:
            self.failed.append((start, time.monotonic(), repr(error)))
            return
        end = time.monotonic()
        if response.status != 200:
            self.failed.append((start, end, f"status {response.status}"))
            return
        self.scrapes += 1
        self.longest = max(self.longest, end - start)
        if path != "/":
            self._pages.put((start, end, response.headers["Content-Type"], body))
