"""A server of one variant: started, counted, and checked for what is loaded in it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks import gunicorn23
from benchmarks.counts import StatsdSink, WrongCountError, check_count, files_of, page_of, total
from benchmarks.load import Load, load
from benchmarks.machine import Cores, workers_cpu
from benchmarks.server import PYTHON, free_port, gunicorn
from benchmarks.variants import BARE, EMPTY, HOOKS, STATSD, Group, Variant
from benchmarks.waiting import until

LOST_DATAGRAMS = 0.1
"""The share that the sink may miss."""
REPORT = """
def post_worker_init(worker):
    import json
    import sys
    loaded = [name for name in ("gunicorn_prom_hooks", "prometheus_client") if name in sys.modules]
    hooks = [getattr(worker.cfg, name).__module__ for name in ("pre_request", "post_request")]
    with open("loaded.json", "w") as file:
        json.dump({"loaded": loaded, "hooks": hooks}, file)

"""


@dataclass
class Running:
    """A server of one variant.

    Attributes:
        group: that the variant belongs to.
        variant: that it is.
        folder: where it runs.
        master: pid of the master.
        port: of the application.
        metrics_port: of its metrics, if it has any.
        sink: where datagrams go to.
        cores: of the server and the load.
    """

    group: Group
    variant: Variant
    folder: Path
    master: int
    port: int
    metrics_port: int
    sink: StatsdSink
    cores: Cores

    def counted(self) -> float:
        """Return how many requests it has counted."""
        if self.variant.name == HOOKS:
            return total(page_of(self.metrics_port), self.variant.counter)
        if self.variant.name == STATSD:
            return self.sink.requests
        return total(files_of(self.folder / "metrics"), self.variant.counter)

    def load(self, seconds: int) -> tuple[Load, float]:
        """Send requests. Return what was answered, and the microseconds of CPU per request in the worker.

        Raise if the server has not counted each of them, or has counted one and should not.
        """
        before, spent = self.counted(), workers_cpu(self.master)
        found = load(self.port, seconds, cores=[self.cores.load])
        spent = workers_cpu(self.master) - spent
        what = f"{self.variant.name}, {self.group.name}"
        if self.variant.counter or self.variant.name == STATSD:
            lost = LOST_DATAGRAMS if self.variant.name == STATSD else 0.0
            # The last ones are counted after their response.
            with contextlib.suppress(TimeoutError):
                until(lambda: self.counted() - before >= found.requests, what, 2)
            check_count(what, self.counted() - before, found.requests, lost=lost)
        elif self.counted():
            raise WrongCountError(f"{what} counts requests")
        return found, spent / found.requests * 1e6

    def worker(self) -> int:
        """Return the pid of the worker."""
        [child] = psutil.Process(self.master).children()
        return child.pid


@contextlib.contextmanager
def running(
    group: Group, variant: Variant, worker_config: str, folder: Path, cores: Cores, sink: StatsdSink
) -> Iterator[Running]:
    """Run a server of the variant until the end of the block, once what is loaded in it has been checked."""
    metrics_port = free_port()

    def filled(text: str) -> str:
        return text.replace("METRICS_PORT", str(metrics_port)).replace("STATSD_PORT", str(sink.port))

    (folder / "metrics").mkdir(parents=True)
    environ = {name: filled(value) for name, value in variant.environ.items()}
    if variant.name != HOOKS:
        environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder / "metrics")
    with gunicorn(
        folder,
        REPORT + worker_config + filled(variant.config),
        app=variant.app or group.app,
        environ=environ,
        python=gunicorn23.interpreter() if group.is_gunicorn_23 else PYTHON,
        cores=[cores.server],
    ) as (process, port):
        report = json.loads((folder / "loaded.json").read_text())
        check_loaded(variant.name, report["loaded"], report["hooks"])
        yield Running(group, variant, folder, process.pid, port, metrics_port, sink, cores)


def check_loaded(name: str, loaded: list[str], hooks: list[str]) -> None:
    """Raise unless the variant has had in its worker what it is named after."""
    ours, client = "gunicorn_prom_hooks" in loaded, "prometheus_client" in loaded
    expected = {BARE: (False, False), EMPTY: (False, False), STATSD: (False, False), HOOKS: (True, True)}
    if name in expected and (ours, client) != expected[name]:
        raise WrongCountError(f"{name} has loaded {loaded}")
    if name not in expected and not client:
        raise WrongCountError(f"{name} has not loaded prometheus_client")
    if name in (BARE, STATSD) and set(hooks) != {"gunicorn.config"}:
        raise WrongCountError(f"{name} has hooks of {hooks}")
