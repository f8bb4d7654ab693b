"""One run: a server, clients, scrapes and faults, and what was found."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil
from prometheus_client.metrics_core import Metric

from tests.helpers.servers import eventually
from tests.soak import totals
from tests.soak.faults import Faults
from tests.soak.growth import Sampler
from tests.soak.load import Load
from tests.soak.plan import Fault, Plan
from tests.soak.scrapes import Scraper, parse
from tests.soak.server import WAIT, SoakServer, alive

NO_PAGE: Final = frozenset({Fault.PORT, Fault.DESCRIPTORS})
"""Faults during which a scrape may fail. An upgrade counts as PORT from the end of the old master on."""
LOCK: Final = "gunicorn-masters.lock"
"""The only file that stays in a directory that the user has named."""
NO_FILES: Final = frozenset({Fault.DISK, Fault.DESCRIPTORS})
"""Faults during which the application's metrics cannot get files."""


@dataclass
class Ports:
    """Ports of one run; no metrics: gunicorn without this package."""

    app: int
    metrics: int | None
    spare: int


@dataclass
class Result:
    """What a run has shown.

    Attributes:
        problems: what was not as it must be.
        failures: of clients, by kind.
        requests: sent.
        done: how often each fault was done.
        skipped: faults that cannot be done here, with the reason.
        figures: what a report names.
    """

    problems: list[str] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    requests: int = 0
    done: Counter[str] = field(default_factory=Counter)
    skipped: dict[str, str] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)


def run(plan: Plan, folder: Path, ports: Ports) -> Result:
    """Execute a plan. Everything that is not right is in the result; an exception is one more problem."""
    result = Result()
    server = SoakServer(folder, plan, ports.app, ports.metrics)
    try:
        _run(plan, server, ports, result)
    except Exception as error:  # noqa: BLE001 - reported like everything else
        result.problems.append(f"the run has ended with {type(error).__name__}: {error}")
    finally:
        server.kill()
    return result


def _run(plan: Plan, server: SoakServer, ports: Ports, result: Result) -> None:
    server.start()
    load, faults = Load(ports.app, f"{plan.seed} {plan.worker}"), Faults(server, plan, ports.spare)
    sampler, scraper = Sampler(server), None
    if ports.metrics is not None:
        scraper = Scraper(
            ports.metrics,
            lambda start, end: faults.during(NO_PAGE, start, end),
            lambda start, end: bool(faults.during(NO_FILES, start, end)),
        )
    started = time.monotonic()
    with contextlib.ExitStack() as stack:
        if scraper is not None:
            scraper.start()
            stack.callback(lambda: result.problems.extend(scraper.stop()))
        sampler.start()
        stack.callback(lambda: result.problems.extend(sampler.stop([] if scraper is None else scraper.sizes)))
        load.start()
        stack.callback(load.stop)
        faults.start()
        faults.join()
    result.problems += faults.problems
    result.done, result.skipped = faults.done, faults.skipped
    result.failures, result.requests = load.record.failures(), len(load.record.outcomes)
    result.figures = _figures(server, sampler, scraper, time.monotonic() - started)
    eventually(server.answers, "the application answers after all faults", WAIT)
    server.end(server.master)
    result.problems += _left_behind(server)
    if ports.metrics is not None:
        result.problems += _differences(server, load, faults)


def _figures(server: SoakServer, sampler: Sampler, scraper: Scraper | None, seconds: float) -> dict[str, float]:
    """Return what a report names, of the last master."""
    found = {"seconds": seconds, "masters": float(len(server.masters))}
    last = str(server.master.pid)
    for (master, kind), usage in sampler.usage.items():
        if master == last and usage.values:
            found[kind] = usage.values[-1][1]
    if scraper is not None:
        found.update(scrapes=scraper.scrapes, longest=scraper.longest, failed=len(scraper.failed))
    return found


def _left_behind(server: SoakServer) -> list[str]:
    """Return what the server has left: processes and, with this package, files."""
    problems = []
    folder = str(server.folder)
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.cwd() == folder and alive(process):
                problems.append(f"process {process.pid} is left: {process.cmdline()}")
    if server.metrics_port is not None:
        names = {path.name for path in server.disk.path.rglob("*") if path.is_file()} - {LOCK}
        if names:
            problems.append(f"files are left: {sorted(names)[:5]}")
    return problems


def _differences(server: SoakServer, load: Load, faults: Faults) -> list[str]:
    """Compare the totals of clients, application, gunicorn's log and all masters."""
    pages: list[list[Metric]] = []
    problems = []
    for master in server.masters:
        file = server.folder / f"final-{master.pid}"
        if file.exists():
            pages.append(parse(file.read_text(), "text/plain"))
        else:
            problems.append(f"master {master.pid} has left no final page")
    total, log = totals.Pages(pages), server.server.log
    begun = totals.read_begun((server.folder / "requests").read_text())
    problems += totals.request_problems(load.record, begun, log, total, may_lose=server.plan.worker == "tornado")
    problems += totals.exit_problems(log, total, faults.done[Fault.ABRT.value] + faults.done[Fault.HANG.value])
    problems += totals.application_problems(
        begun, log, total, lambda start, end: bool(faults.during(NO_FILES, start, end))
    )
    problems += totals.final_problems(total, _tolerated(faults.done))
    return problems


def _tolerated(done: Counter[str]) -> Iterator[str]:
    """Yield the failures of the package that these faults cause."""
    if done[Fault.DISK.value] or done[Fault.DESCRIPTORS.value]:
        yield "app_metrics"
    if done[Fault.DESCRIPTORS.value]:
        yield from ("collector", "exporter", "thread", "scrape")
