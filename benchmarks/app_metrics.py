"""A scrape of the application's own metrics: prometheus_client's MultiProcessCollector and our reader."""

from __future__ import annotations

import gc
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prometheus_client import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.mmap_dict import MmapedDict, mmap_key
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from gunicorn_prom_hooks.app_metrics.merge import MultiprocessFiles

IDENTITIES = 64
LABEL_SETS = 100
BOUNDS = ("0.005", "0.01", "0.025", "0.05", "0.075", "0.1", "0.25", "0.5", "0.75", "1.0", "2.5", "5.0", "7.5", "10.0")
REPEATS = 15
MOST = 1 / 3


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


def milliseconds(make: Callable[[], Collector], application: Application) -> float:
    """Milliseconds per page; the least of many repeats, since whatever else runs can only add."""
    took = []
    for _ in range(REPEATS):
        application.work()
        collector = make()
        gc.collect()
        start = time.perf_counter()
        generate_latest(collector)
        took.append((time.perf_counter() - start) * 1e3)
    return min(took)


def measure(*, shuffled: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        application = Application(folder, shuffled=shuffled)
        theirs: Any = MultiProcessCollector(None, folder)  # type: ignore[no-untyped-call]
        ours = Ours(folder)
        if sorted(generate_latest(theirs).splitlines()) != sorted(generate_latest(ours).splitlines()):
            raise SystemExit("the pages differ")
        original = milliseconds(lambda: theirs, application)
        first = milliseconds(lambda: Ours(folder), application)
        later = milliseconds(lambda: ours, application)
        text = milliseconds(Fixed(ours.collect()).itself, application)
        if sorted(generate_latest(theirs).splitlines()) != sorted(generate_latest(ours).splitlines()):
            raise SystemExit("the pages differ")
        application.close()
    print(f"  MultiProcessCollector {original:7.1f} ms")
    print(f"  ours, first scrape    {first:7.1f} ms")
    print(f"  ours, later scrapes   {later:7.1f} ms   of these {text:.1f} ms are generate_latest's own")
    print(f"  later : MultiProcessCollector = {later / original:.3f}   (at most {MOST:.2f})")


class Fixed:
    """Families that were collected before."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        return self._families

    def itself(self) -> Collector:
        return self


def main() -> None:
    size = f"{IDENTITIES} processes, {LABEL_SETS} label sets of a histogram with {len(BOUNDS) + 1} buckets"
    for shuffled in (False, True):
        order = "each process in its own order" if shuffled else "all in the same order"
        print(f"generate_latest, {size}, {order}")
        measure(shuffled=shuffled)


if __name__ == "__main__":
    main()
