"""What must not grow: memory, descriptors, threads, files and the page."""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil

from tests.soak.server import SoakServer

INTERVAL: Final = 0.25
WARM_UP: Final = 3.0
"""Seconds of a master that are not looked at: its first fork, scrape and upgrade."""
SHORTEST: Final = 6.0
"""Seconds that a master must have been observed for, to be compared with itself."""
MORE: Final = {"memory": 6_000_000.0, "descriptors": 3.0, "threads": 1.0, "files": 24.0, "page": 30_000.0}
"""How much more a master may have in its last third than in its first, each at its least.

Files are those of both masters in an upgrade, which may take all of the last third.
"""
MOST: Final = {"descriptors": 20.0, "threads": 8.0}
"""How much a master may have in its last third, at its least: for one that was not observed for long."""
FILES_PER_WORKER, OTHER_FILES = 2, 24
"""A counter's and a histogram's for each worker alive at a time; those of the masters of an upgrade, and locks."""


@dataclass
class Usage:
    """Values of one kind of a master, with their moments."""

    values: list[tuple[float, float]] = field(default_factory=list)

    def growth(self) -> tuple[float, float] | None:
        """Return the least values of the first and of the last third; None if it was not observed for long enough.

        The least one: what a connection, a scrape or a fork takes is given back.
        """
        if not self.values or self.values[-1][0] - self.values[0][0] < WARM_UP + SHORTEST:
            return None
        first, last = self.values[0][0] + WARM_UP, self.values[-1][0]
        third = (last - first) / 3
        early = [value for at, value in self.values if first <= at <= first + third]
        late = [value for at, value in self.values if at >= last - third]
        return (min(early), min(late)) if early and late else None


def grown(usage: dict[tuple[str, str], Usage]) -> list[str]:
    """Return what has grown, by master and kind."""
    problems = []
    for (master, kind), values in usage.items():
        least = values.growth()
        if least is not None and least[1] > min(least[0] + MORE[kind], MOST.get(kind, math.inf)):
            problems.append(f"{kind} of master {master} has grown from {least[0]:,.0f} to {least[1]:,.0f}")
    return problems


class Sampler:
    """A thread that looks at the server from outside."""

    def __init__(self, server: SoakServer) -> None:
        self.usage: dict[tuple[str, str], Usage] = defaultdict(Usage)
        self.most_workers = 0
        self.most_files = 0
        self._server = server
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, sizes: list[tuple[float, str, int]]) -> list[str]:
        """Stop. Return what has grown, the page included, whose sizes are given with moment and master."""
        self._stop.set()
        self._thread.join()
        for at, master, size in sizes:
            self.usage[master, "page"].values.append((at, size))
        problems = grown(self.usage)
        # An upgrade has two directories, of which each keeps the files of its own workers.
        limit = FILES_PER_WORKER * self.most_workers + OTHER_FILES
        if self.most_files > limit:
            problems.append(f"{self.most_files} files for at most {self.most_workers} workers at a time")
        return problems

    def _run(self) -> None:
        while not self._stop.is_set():
            master = self._server.master
            with contextlib.suppress(psutil.Error):
                at = time.monotonic()
                found = {
                    "memory": master.memory_info().rss,
                    "descriptors": master.num_fds() - len(master.children()),  # gunicorn has a file for each worker
                    "threads": master.num_threads(),
                }
                for kind, value in found.items():
                    self.usage[str(master.pid), kind].values.append((at, value))
            self.most_workers = max(self.most_workers, len(self._server.workers()))
            files = files_in(self._server.disk.path)
            self.usage[str(master.pid), "files"].values.append((time.monotonic(), files))
            self.most_files = max(self.most_files, files)
            self._stop.wait(INTERVAL)


def files_in(folder: Path) -> int:
    """Return the number of files below a folder."""
    return sum(len(files) for _, _, files in os.walk(folder))
