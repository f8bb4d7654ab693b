"""The sections of the report, in its order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks import app_generations, app_metrics, boots, loop, page, peers, scraped, scrapes, turns, worker
from benchmarks.options import Options


@dataclass(frozen=True)
class Section:
    """A benchmark.

    Attributes:
        name: of its module, and in the results.
        title: what it measures.
        measure: returns its figures.
        figures: the type of these.
    """

    name: str
    title: str
    measure: Callable[[Options], Any]
    figures: Any


SECTIONS = (
    Section("peers", "CPU, throughput, latency and memory beside other exporters", peers.measure, peers.Peers),
    Section("turns", "Extra CPU per request, in turn inside one worker", turns.measure, turns.Turns),
    Section("worker", "Both request hooks, timed inside a worker", worker.measure, worker.InWorker),
    Section("loop", "Both request hooks in a tight loop", loop.measure, loop.Loop),
    Section("boots", "Start and reload of many workers, memory", boots.measure, boots.AllBoots),
    Section("scrapes", "Scrapes by workers, endpoints and generations", scrapes.measure, scrapes.Scrapes),
    Section("scraped", "Latency of the application while scraped", scraped.measure, scraped.Scraped),
    Section("page", "Large pages", page.measure, list[page.Page]),
    Section(
        "app_metrics", "The application's metrics: reading and counting", app_metrics.measure, app_metrics.AppMetrics
    ),
    Section(
        "app_generations",
        "The application's metrics over generations of workers",
        app_generations.measure,
        app_generations.AppGenerations,
    ),
)
