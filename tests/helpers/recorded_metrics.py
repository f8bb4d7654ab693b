"""An application's metrics as the value class records them, and their reader."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import Counter, Histogram, values

from gunicorn_prom_hooks.app_metrics.recording.store import Store
from gunicorn_prom_hooks.app_metrics.recording.value_class import value_class
from gunicorn_prom_hooks.app_metrics.shared_path import SharedPath
from tests.helpers.app_metrics import Reader

DEADLINE_SECONDS = 60.0


class App:
    """A process of the application: a store, and metrics that are made of it."""

    def __init__(self, folder: Path, identity: str = "s0", *, announced: bool = False, worker: bool = True) -> None:
        self.folder = folder
        self.identity = identity
        self.failures = 0
        self.place = SharedPath(str(folder))
        self.ensure: Callable[[], object] = lambda: None
        self.store = Store(self.place, self._folder, lambda: self.identity, self._failed, announced=announced)
        values.ValueClass = value_class(self.store)  # put back by the fixture
        if worker:
            self.store.become_worker()

    def _folder(self) -> str:
        self.ensure()
        return str(self.folder)

    def _failed(self) -> None:
        self.failures += 1

    def successor(self) -> App:
        """End the process. Return its successor, which has its files."""
        self.store._close()
        return App(self.folder, self.identity)

    def page(self) -> dict[str, float]:
        """Return the values of samples without labels, by name, over all processes."""
        return Reader(self.folder).values()

    def total(self, name: str) -> float:
        """Return the sum of the samples with this name."""
        return sum(s.value for family in Reader(self.folder).collect() for s in family.samples if s.name == name)


def read(metric: Any) -> dict[str, float]:
    """Return the values that this process reads of a metric."""
    return {
        f"{sample.name}{sample.labels.get('le', '')}": sample.value
        for family in metric.collect()
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def counter(name: str = "orders", *labels: str) -> Any:
    return Counter(name, "Help.", labels, registry=None)


def histogram(name: str = "seconds", buckets: tuple[float, ...] = (1.0, 2.0)) -> Any:
    return Histogram(name, "Help.", registry=None, buckets=buckets)


def whole(folder: Path) -> set[str]:
    """Return the names of the files that have a disk block for each byte."""
    return {path.name for path in folder.glob("*.db") if path.stat().st_blocks * 512 >= path.stat().st_size > 0}


def missing() -> Iterator[Callable[..., Any]]:
    """Yield replacements of posix_fallocate that fail as on systems without it."""
    for number in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):

        def refuse(*_: object, number: int = number) -> None:
            raise OSError(number, os.strerror(number))

        yield refuse


class Disk:
    """A disk that has room for so many bytes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, room: int, number: int = errno.ENOSPC) -> None:
        self.room = room
        self._number = number
        self._real = os.posix_fallocate
        monkeypatch.setattr(os, "posix_fallocate", self._fallocate)

    def _fallocate(self, descriptor: int, start: int, length: int) -> None:
        needed = start + length - os.fstat(descriptor).st_blocks * 512
        if needed > self.room:
            raise OSError(self._number, os.strerror(self._number))
        self.room -= max(needed, 0)
        self._real(descriptor, start, length)
