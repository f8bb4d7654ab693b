"""Latency of an application while its server is scraped ten times a second, and while it is not."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from benchmarks.counting import STATUSES, Counted, counted
from benchmarks.counts import WrongCountError
from benchmarks.load import load
from benchmarks.machine import Cores, cores, pinned
from benchmarks.options import Options
from benchmarks.scrapes import HOOKS_200, fetch
from benchmarks.variants import BY_HAND, HOOKS, RECIPE

WORKERS, ENDPOINTS, ROUNDS, SECONDS = 8, 50, 5, 3
PERIOD_SECONDS = 0.1


@dataclass(frozen=True)
class Latency:
    """Latency in ms, requests per second, and scrapes that were answered."""

    p50: float
    p99: float
    throughput: float
    scrapes: int


@dataclass(frozen=True)
class WhileScraped:
    """Loads of one server in turn, without scrapes and with."""

    variant: str
    quiet: list[Latency]
    scraped: list[Latency]


@dataclass(frozen=True)
class Scraped:
    """Both servers, with so many workers and series."""

    workers: int
    endpoints: int
    statuses: int
    seconds: int
    per_second: float
    servers: list[WhileScraped]


class Scraper:
    """A thread that scrapes ten times a second, or as often as there is an answer."""

    def __init__(self, port: int) -> None:
        self.scrapes = 0
        self._port = port
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Scraper:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        due = time.monotonic()
        while not self._ended.is_set():
            fetch(self._port)
            self.scrapes += 1
            due = max(due + PERIOD_SECONDS, time.monotonic())
            self._ended.wait(due - time.monotonic())


def latency(running: Counted, where: Cores, seconds: int, *, scraped: bool) -> Latency:
    """Load the application, and scrape meanwhile or not."""
    if not scraped:
        found = load(running.port, seconds, cores=[where.load])
        return Latency(found.p50, found.p99, found.requests / found.seconds, 0)
    with Scraper(running.metrics_port) as scraper:
        found = load(running.port, seconds, cores=[where.load])
    if not scraper.scrapes:
        raise WrongCountError("nothing was scraped")
    return Latency(found.p50, found.p99, found.requests / found.seconds, scraper.scrapes)


def measure(options: Options) -> Scraped:
    """Load both servers in turn, without scrapes and with."""
    where, seconds = cores(), options.pick(SECONDS, 1)
    workers, endpoints = options.pick(WORKERS, 2), options.pick(ENDPOINTS, 5)
    on = (where.server,)
    found = {name: WhileScraped(name, [], []) for name in (HOOKS, RECIPE)}
    with (
        pinned(where.load),
        counted(HOOKS_200, workers, endpoints, cores=on) as hooks,
        counted(BY_HAND, workers, endpoints, cores=on) as recipe,
    ):
        for _ in range(options.number_of_rounds(ROUNDS)):
            for name, running in ((HOOKS, hooks), (RECIPE, recipe)):
                found[name].quiet.append(latency(running, where, seconds, scraped=False))
                found[name].scraped.append(latency(running, where, seconds, scraped=True))
    for name, both in found.items():
        print(f"  {name:20} p99 {both.quiet[-1].p99:6.1f} ms, while scraped {both.scraped[-1].p99:6.1f} ms", flush=True)
    return Scraped(workers, endpoints, len(STATUSES), seconds, 1 / PERIOD_SECONDS, list(found.values()))
