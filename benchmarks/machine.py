"""The machine that is measured on: its name, its cores, and what its kernel has counted of a process."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import psutil

MB = 1024 * 1024
PACKAGES = (
    "gunicorn",
    "prometheus_client",
    "psutil",
    "gevent",
    "uvicorn",
    "uvicorn-worker",
    "uvloop",
    "Flask",
    "fastapi",
    "starlette",
    "prometheus_flask_exporter",
    "starlette_exporter",
    "prometheus-fastapi-instrumentator",
)
"""Of which the report gives the version."""


@dataclass(frozen=True)
class Cores:
    """Where the server runs, and where the load does. Both are the same core if the machine has one only."""

    server: int
    load: int


@dataclass(frozen=True)
class Machine:
    """What figures depend on.

    Attributes:
        processor: its name.
        cores: of the machine.
        memory_gb: of the machine.
        system: name and version of the kernel.
        python: its version.
        packages: versions of the packages.
    """

    processor: str
    cores: int
    memory_gb: float
    system: str
    python: str
    packages: dict[str, str]


def cores() -> Cores:
    """Return a core for the server and one for the load."""
    usable = sorted(os.sched_getaffinity(0))
    return Cores(usable[0], usable[-1])


def on_cores(wanted: Collection[int]) -> list[str]:
    """Return what stands before a command that is to run on these cores; nothing if there are none."""
    return ["taskset", "-c", ",".join(map(str, wanted))] if wanted else []


@contextlib.contextmanager
def pinned(core: int) -> Iterator[None]:
    """Keep this thread, and those that it starts, on this core until the end of the block."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, [core])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def describe() -> Machine:
    """Return what this machine is."""
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return Machine(
        names[0] if names else platform.machine(),
        os.cpu_count() or 1,
        round(psutil.virtual_memory().total / 1024 / MB, 1),
        f"{platform.system()} {platform.release()}",
        sys.version.split()[0],
        {name: metadata.version(name) for name in PACKAGES},
    )


def cpu_seconds(pid: int) -> float:
    """Return the seconds of CPU that a process has used, those of ended threads too, from the scheduler's own clock."""
    return time.clock_gettime((~pid << 3) | 2)  # as clock_getcpuclockid(3) makes the number of that clock


def workers_cpu(master: int) -> float:
    """Return the seconds of CPU that the workers have used."""
    return sum(cpu_seconds(child.pid) for child in psutil.Process(master).children())


def pss(pid: int) -> float:
    """Return the MB of memory of a process, with its share of what it shares."""
    return float(psutil.Process(pid).memory_full_info().pss) / MB
