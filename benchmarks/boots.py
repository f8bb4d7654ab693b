"""Time to start and to reload 64 workers, what a worker's boot takes, and the memory of workers and master.

The servers run one after the other, in rounds: two at a time would wait for each other.
"""

from __future__ import annotations

import contextlib
import json
import math
import signal
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks import gunicorn23
from benchmarks.counts import page_of, statsd_sink, total
from benchmarks.machine import pss
from benchmarks.options import Options
from benchmarks.running import REPORT, check_loaded
from benchmarks.server import PYTHON, free_port, gunicorn
from benchmarks.variants import (
    BY_HAND,
    BY_STATSD,
    EXPORTER,
    HOOKS,
    NOTHING,
    ON_23,
    OURS,
    PLAIN,
    Variant,
    on_gunicorn_23,
)
from benchmarks.waiting import DEADLINE_SECONDS, until

WORKERS, ROUNDS, HUPS = 64, 3, 2
RELOAD_SECONDS = 60.0
"""The longest that a reload may take. The master of gunicorn-prometheus-exporter may hang for ever."""
IMPORTS = Variant("imports only", "import gunicorn, prometheus_client, psutil\n")
"""Bare gunicorn whose config file imports the three dependencies of this package."""
BOOTS = """
import time

workers = WORKERS
preload_app = PRELOAD
timeout = 300

def post_worker_init(worker):
    report(worker)
    with open("boots", "a") as file:
        file.write(f"{time.process_time()} {time.monotonic()}\\n")

"""


@dataclass(frozen=True)
class Boots:
    """What one start of one server has come to.

    Attributes:
        start: seconds from the start of the master until all workers serve.
        reload: seconds from a HUP until all new workers serve; None: not in time.
        boot_cpu: milliseconds of CPU of a worker from its fork until it serves.
        worker_memory: MB of a worker (PSS).
        master_memory: MB of the master (PSS).
    """

    start: float
    reload: float | None
    boot_cpu: float
    worker_memory: float
    master_memory: float


@dataclass(frozen=True)
class Booted:
    """All rounds of one variant. Rounds at the same place in two lists were run one after the other."""

    group: str
    variant: str
    preload: bool
    rounds: list[Boots]


@dataclass(frozen=True)
class AllBoots:
    """All variants with so many sync workers."""

    workers: int
    reloads: int
    booted: list[Booted]


class Server:
    """A gunicorn whose workers write down when they have booted, and what that took."""

    def __init__(self, folder: Path, master: int, workers: int, started: float) -> None:
        self.folder = folder
        self.master = psutil.Process(master)
        self.workers = workers
        self.started = started

    def lines(self) -> list[tuple[float, float]]:
        """Return CPU seconds and monotonic time of each worker that has booted."""
        file = self.folder / "boots"
        lines = file.read_text().splitlines() if file.exists() else []
        return [(float(cpu), float(at)) for cpu, at in map(str.split, lines)]

    def booted(self, generation: int, seconds: float = DEADLINE_SECONDS) -> list[tuple[float, float]]:
        """Wait until the workers of this generation are there, alone. Return their lines."""
        first = generation * self.workers
        until(lambda: len(self.lines()) >= first + self.workers, "workers boot", seconds)
        until(lambda: len(self.master.children()) == self.workers, "the ones before are gone", seconds)
        return self.lines()[first : first + self.workers]

    def reload(self, generation: int) -> float:
        """Return the seconds from a HUP until all new workers serve."""
        start = time.monotonic()
        self.master.send_signal(signal.SIGHUP)
        return max(at for _, at in self.booted(generation, RELOAD_SECONDS)) - start

    def figures(self, reloads: int, *, may_hang: bool) -> Boots:
        """Return what start and reloads took. Raise if it does not reload and may not hang."""
        boots = self.booted(0)
        start = max(at for _, at in boots) - self.started
        cpu = statistics.median(cpu for cpu, _ in boots)
        memory = statistics.mean(pss(child.pid) for child in self.master.children())
        master = pss(self.master.pid)
        try:
            took = statistics.median(self.reload(number + 1) for number in range(reloads))
        except TimeoutError:
            if not may_hang:
                raise
            return Boots(start, None, cpu * 1e3, memory, master)
        return Boots(start, took, cpu * 1e3, memory, master)


@contextlib.contextmanager
def server(variant: Variant, workers: int, *, preload: bool, is_gunicorn_23: bool, statsd: int) -> Iterator[Server]:
    """Run a server with so many sync workers."""
    port = free_port()
    report = REPORT.replace("post_worker_init", "report")
    config = report + BOOTS.replace("WORKERS", str(workers)).replace("PRELOAD", str(preload)) + variant.config
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "metrics").mkdir()
        environ = {key: value.replace("METRICS_PORT", str(port)) for key, value in variant.environ.items()}
        if variant.name != HOOKS:
            environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder / "metrics")
        if "GUNICORN_WORKERS" in environ:
            environ["GUNICORN_WORKERS"] = str(workers)
        config = config.replace("METRICS_PORT", str(port)).replace("STATSD_PORT", str(statsd))
        python = gunicorn23.interpreter() if is_gunicorn_23 else PYTHON
        started = time.monotonic()
        with gunicorn(folder, config, environ=environ, python=python) as (process, _):
            running = Server(folder, process.pid, workers, started)
            yield running
            found = json.loads((folder / "loaded.json").read_text())
            check_loaded(variant.name, found["loaded"], found["hooks"])
            if variant.name == HOOKS:
                until(lambda: total(page_of(port), "gunicorn_workers") == workers, f"{workers} workers on the page", 30)


def measure(options: Options) -> AllBoots:
    """Measure all variants, in rounds."""
    workers, hups = options.pick(WORKERS, 4), options.pick(HUPS, 1)
    group = on_gunicorn_23("PrometheusWorker")
    cases = [
        *((PLAIN, variant, False) for variant in (NOTHING, IMPORTS, OURS, BY_HAND, BY_STATSD)),
        *((PLAIN, variant, True) for variant in (NOTHING, IMPORTS, OURS, BY_HAND)),
        *((ON_23, variant, False) for variant in group.variants),
    ]
    found: list[list[Boots]] = [[] for _ in cases]
    with statsd_sink() as sink:
        for turn in range(options.number_of_rounds(ROUNDS)):
            order = list(range(len(cases)))
            for at in order[::-1] if turn % 2 else order:
                name, variant, preload = cases[at]
                is_23 = name == ON_23
                with server(variant, workers, preload=preload, is_gunicorn_23=is_23, statsd=sink.port) as running:
                    figures = running.figures(hups, may_hang=variant.name == EXPORTER)
                found[at].append(figures)
                print(
                    f"  {name:26} {variant.name:28} {'preloaded' if preload else '':10} start {figures.start:5.2f} s, "
                    f"reload {figures.reload or math.nan:5.2f} s, boot {figures.boot_cpu:5.1f} ms, worker "
                    f"{figures.worker_memory:5.2f} MB, master {figures.master_memory:5.1f} MB",
                    flush=True,
                )
    return AllBoots(
        workers,
        hups,
        [
            Booted(name, variant.name, preload, rounds)
            for (name, variant, preload), rounds in zip(cases, found, strict=True)
        ],
    )
