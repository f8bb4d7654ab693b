"""gunicorn's dirty workers: how many there are, their memory and their CPU time."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psutil
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from ..model.server_snapshot import ServerSnapshot

_MODES = ("user", "system")


class DirtyWorkers:
    """Adds up the CPU time that dirty workers use from look to look, so that those that have gone stay in the sum.

    A dirty worker is a child of the dirty arbiter, which forks nothing else; what applications fork are its
    grandchildren.

    Args:
        process: from a pid to a psutil process.
    """

    def __init__(self, process: Callable[[int], psutil.Process] = psutil.Process) -> None:
        self._process = process
        self._last: dict[psutil.Process, tuple[float, float]] = {}
        """CPU time at the last look. Two handles are equal if pid and time of creation are."""
        self._seconds = [0.0 for _ in _MODES]

    def __call__(self, view: ServerSnapshot) -> Iterator[Metric]:
        """Number, memory, CPU; nothing where there is no dirty arbiter."""
        if not view.dirty_arbiter_pid:
            return
        number, resident = self._look(view.dirty_arbiter_pid)
        yield GaugeMetricFamily("gunicorn_dirty_workers", "Live dirty workers.", value=number)
        yield GaugeMetricFamily("gunicorn_dirty_memory_bytes", "Resident memory of all dirty workers.", value=resident)
        cpu = CounterMetricFamily(
            "gunicorn_dirty_cpu_seconds", "CPU time of all dirty workers, past and present.", labels=("mode",)
        )
        for mode, seconds in zip(_MODES, self._seconds, strict=True):
            cpu.add_metric((mode,), seconds)
        yield cpu

    def _look(self, arbiter: int) -> tuple[int, int]:
        """How many are alive, and their resident memory."""
        try:
            children = self._process(arbiter).children()
        except psutil.Error:
            return 0, 0
        for child in self._last.keys() - set(children):
            if not child.is_running():  # one that lives, but is missed this time, must not count anew the next
                del self._last[child]
        number = resident = 0
        for child in children:
            try:
                with child.oneshot():
                    times = child.cpu_times()
                    self._add(child, (times.user, times.system))  # a zombie still has those
                    if child.status() != psutil.STATUS_ZOMBIE:
                        resident += child.memory_info().rss
                        number += 1
            except psutil.Error:
                continue
        return number, resident

    def _add(self, child: psutil.Process, now: tuple[float, float]) -> None:
        last = self._last.get(child, (0.0, 0.0))
        self._last[child] = now
        for mode, seconds in enumerate(now):
            self._seconds[mode] += max(0.0, seconds - last[mode])
