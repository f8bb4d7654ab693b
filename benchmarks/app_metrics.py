"""The application's own metrics beside prometheus_client's multiprocess mode: a scrape, and counting in a worker."""

from __future__ import annotations

import gc
import os
import random
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from prometheus_client import Counter, Histogram, generate_latest, values
from prometheus_client.metrics_core import Metric
from prometheus_client.mmap_dict import MmapedDict, mmap_key
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from benchmarks.counts import WrongCountError
from benchmarks.options import Options
from gunicorn_prom_hooks.app_metrics.reading.merge import MultiprocessFiles
from gunicorn_prom_hooks.app_metrics.recording.store import Store
from gunicorn_prom_hooks.app_metrics.recording.value_class import value_class
from gunicorn_prom_hooks.app_metrics.shared_path import SharedPath
from gunicorn_prom_hooks.settings import MULTIPROC_DIR

IDENTITIES = 64
LABEL_SETS = 100
BOUNDS = ("0.005", "0.01", "0.025", "0.05", "0.075", "0.1", "0.25", "0.5", "0.75", "1.0", "2.5", "5.0", "7.5", "10.0")
REPEATS = 15
CALLS = 20_000


def keys(label_set: int) -> list[str]:
    """The keys of a histogram of 15 buckets, in the order in which prometheus_client makes them."""
    labels, values = ["endpoint"], [f"/items/{label_set}"]
    documentation = "Duration of requests."
    return [
        mmap_key("app_seconds", "app_seconds_sum", labels, values, documentation),
        *(
            mmap_key("app_seconds", "app_seconds_bucket", [*labels, "le"], [*values, le], documentation)
            for le in (*BOUNDS, "+Inf")
        ),
    ]


class Application:
    """Processes with the same histogram, each with its file; shuffled, each has met the labels in its own order."""

    def __init__(self, folder: str, *, shuffled: bool) -> None:
        self._random = random.Random(1)
        self._files: list[Any] = []
        for identity in range(IDENTITIES):
            file: Any = MmapedDict(str(Path(folder, f"histogram_{identity}.db")))  # type: ignore[no-untyped-call]
            order = list(range(LABEL_SETS))
            if shuffled:
                self._random.shuffle(order)
            for label_set in order:
                for key in keys(label_set):
                    file.write_value(key, float(self._random.randrange(1000)), 0.0)
            self._files.append(file)

    def work(self) -> None:
        """Changes values in all files."""
        for file in self._files:
            for key in keys(self._random.randrange(LABEL_SETS)):
                file.write_value(key, float(self._random.randrange(1000)), 0.0)

    def close(self) -> None:
        for file in self._files:
            file.close()


class Ours:
    """Our reader as a collector."""

    def __init__(self, folder: str) -> None:
        self._files = MultiprocessFiles(folder, print)

    def collect(self) -> list[Metric]:
        return self._files.collect()


def milliseconds(make: Callable[[], Collector], application: Application, repeats: int) -> float:
    """Milliseconds per page; the least of many repeats, since whatever else runs can only add."""
    took = []
    for _ in range(repeats):
        application.work()
        collector = make()
        gc.collect()
        start = time.perf_counter()
        generate_latest(collector)
        took.append((time.perf_counter() - start) * 1e3)
    return min(took)


@dataclass(frozen=True)
class Reading:
    """Milliseconds of a page of the application's metrics.

    Attributes:
        shuffled: whether each process has met the labels in an order of its own.
        collector: MultiProcessCollector.
        first: the first scrape of this package.
        later: its later scrapes.
        text: the part of these that generate_latest takes for the text.
    """

    shuffled: bool
    collector: float
    first: float
    later: float
    text: float


@dataclass(frozen=True)
class Counting:
    """Nanoseconds of a call in a worker.

    Attributes:
        values: where they are kept.
        counter: of ``Counter.inc``.
        histogram: of ``Histogram.observe``, with 15 buckets.
    """

    values: str
    counter: float
    histogram: float


@dataclass(frozen=True)
class AppMetrics:
    """Both, with so many processes and label sets."""

    processes: int
    label_sets: int
    buckets: int
    reading: list[Reading]
    counting: list[Counting]


def read(repeats: int, *, shuffled: bool) -> Reading:
    """Measure pages, and compare them."""
    with tempfile.TemporaryDirectory() as folder:
        application = Application(folder, shuffled=shuffled)
        theirs: Any = MultiProcessCollector(None, folder)  # type: ignore[no-untyped-call]
        ours = Ours(folder)
        compare(theirs, ours)
        original = milliseconds(lambda: theirs, application, repeats)
        first = milliseconds(lambda: Ours(folder), application, repeats)
        later = milliseconds(lambda: ours, application, repeats)
        text = milliseconds(Fixed(ours.collect()).itself, application, repeats)
        compare(theirs, ours)
        application.close()
    print(f"  MultiProcessCollector {original:7.1f} ms, hooks {later:7.1f} ms: {later / original:.3f}", flush=True)
    return Reading(shuffled, original, first, later, text)


def compare(theirs: Any, ours: Ours) -> None:
    """Raise unless both pages are the same."""
    if sorted(generate_latest(theirs).splitlines()) != sorted(generate_latest(ours).splitlines()):
        raise WrongCountError("the pages differ")


class Fixed:
    """Families that were collected before."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        return self._families

    def itself(self) -> Collector:
        return self


def nanoseconds(call: Callable[[], object]) -> float:
    """Nanoseconds per call; the least of many repeats."""
    took = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        for _ in range(CALLS):
            call()
        took.append((time.perf_counter() - start) / CALLS * 1e9)
    return min(took)


def count() -> list[Counting]:
    """Measure what one call costs with each kind of values."""
    found = []
    before = values.ValueClass
    with tempfile.TemporaryDirectory() as folder:
        store = Store(SharedPath(folder), lambda: folder, lambda: "s0", lambda: None, announced=False)
        store.become_worker()
        os.environ[MULTIPROC_DIR] = folder
        kinds: dict[str, Any] = {
            "in memory": values.MutexValue,
            "prometheus_client's files": values.MultiProcessValue(),  # type: ignore[no-untyped-call]
            "files of this package": value_class(store),
        }
        for name, kind in kinds.items():
            values.ValueClass = kind
            counter, histogram = Counter("a", "A.", registry=None), Histogram("b", "B.", registry=None)
            call = Counting(name, nanoseconds(counter.inc), nanoseconds(partial(histogram.observe, 0.3)))
            found.append(call)
            print(f"  {name:30} {call.counter:6.0f} ns {call.histogram:8.0f} ns", flush=True)
        del os.environ[MULTIPROC_DIR]
    values.ValueClass = before
    return found


def measure(options: Options) -> AppMetrics:
    """Measure counting and reading."""
    repeats = options.pick(REPEATS, 2)
    reading = [read(repeats, shuffled=shuffled) for shuffled in (False, True)]
    return AppMetrics(IDENTITIES, LABEL_SETS, len(BOUNDS) + 1, reading, count())
