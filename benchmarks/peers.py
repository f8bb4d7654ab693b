"""CPU per request, throughput, latency and memory of each variant, in rounds of all variants in turn."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.counts import StatsdSink, statsd_sink
from benchmarks.load import CONNECTIONS
from benchmarks.machine import Cores, cores, pinned, pss
from benchmarks.options import Options
from benchmarks.running import Running, running
from benchmarks.variants import WORKERS, Group, Variant, Worker

STARTS, ROUNDS, SECONDS = 2, 4, 1
"""Starts of all servers of a kind of worker, rounds of loads after each, and how long a load is.

Two processes of the same program differ by a percent or two for as long as they live. Hence several starts.
"""


@dataclass(frozen=True)
class Round:
    """One load of one server.

    Attributes:
        cpu: microseconds of CPU in the worker per request.
        throughput: requests per second.
        p99: ms.
        requests: that were answered, and counted by what counts.
    """

    cpu: float
    throughput: float
    p99: float
    requests: int


@dataclass(frozen=True)
class Peer:
    """What one variant has come to with one kind of worker.

    Attributes:
        worker: kind of worker.
        group: application and gunicorn.
        variant: what measures.
        rounds: of one load each, in the order in which they were run.
        worker_memory: MB of the worker after a load, of a server that runs alone (PSS).
        master_memory: MB of its master.
    """

    worker: str
    group: str
    variant: str
    rounds: list[Round]
    worker_memory: float
    master_memory: float


@dataclass(frozen=True)
class Peers:
    """All variants with all kinds of workers. Rounds at the same place in two lists were run one after the other."""

    starts: int
    seconds: int
    connections: int
    cores: Cores
    peers: list[Peer]


def of_worker(worker: Worker) -> Iterator[tuple[Group, Variant]]:
    """Yield what is measured with a kind of worker."""
    for group in worker.groups:
        for variant in group.variants:
            yield group, variant


def memory(
    worker: Worker, group: Group, variant: Variant, where: Cores, sink: StatsdSink, seconds: int
) -> tuple[float, float]:
    """Return the MB of worker and master of a server that runs alone: what is shared is shared by these two only."""
    with (
        tempfile.TemporaryDirectory() as folder,
        running(group, variant, worker.config, Path(folder), where, sink) as server,
    ):
        server.load(seconds)
        return pss(server.worker()), pss(server.master)


def rounds(
    worker: Worker, where: Cores, sink: StatsdSink, number: int, seconds: int, *, warm: bool
) -> list[list[Round]]:
    """Start a server of each variant, and load one after the other, in rounds. Return the rounds of each."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        servers: list[Running] = [
            stack.enter_context(running(group, variant, worker.config, Path(folder, str(at)), where, sink))
            for at, (group, variant) in enumerate(of_worker(worker))
        ]
        found: list[list[Round]] = [[] for _ in servers]
        for turn in range(0 if warm else 1, number + 1):
            order = list(range(len(servers)))
            if turn % 2:
                order.reverse()
            for at in order:
                load, cpu = servers[at].load(seconds)
                if turn:  # the first one warms up
                    found[at].append(Round(cpu, load.requests / load.seconds, load.p99, load.requests))
    return found


def measure(options: Options) -> Peers:
    """Measure all variants with all kinds of workers."""
    where = cores()
    starts, number, seconds = options.pick(STARTS, 1), options.number_of_rounds(ROUNDS), options.pick(SECONDS, 1)
    peers = []
    with pinned(where.load), statsd_sink() as sink:
        for worker in WORKERS:
            if not options.includes(worker.name):
                continue
            found: list[list[Round]] = [[] for _ in of_worker(worker)]
            for _ in range(starts):
                for figures, more in zip(
                    found, rounds(worker, where, sink, number, seconds, warm=not options.quick), strict=True
                ):
                    figures.extend(more)
            for (group, variant), figures in zip(of_worker(worker), found, strict=True):
                both = memory(worker, group, variant, where, sink, seconds)
                peers.append(Peer(worker.name, group.name, variant.name, figures, *both))
                middle = sorted(one.cpu for one in figures)[len(figures) // 2]
                print(f"  {worker.name:8} {group.name:26} {variant.name:34} {middle:7.1f} µs", flush=True)
    return Peers(starts, seconds, CONNECTIONS, where, peers)
