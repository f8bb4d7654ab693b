"""From a view of the server to what the status page says of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from prometheus_client.metrics_core import Metric

from ..collectors import backlog
from ..collectors.processes import WorkerProcesses
from ..model.server_snapshot import ServerSnapshot
from . import inputs, page_data, sections
from .history import Counted, Past

T = TypeVar("T")


class Snapshots:
    """Takes snapshots, and remembers some of the past for the rates.

    Args:
        processes: memory and CPU of workers.
        queues: the accept queues.
    """

    def __init__(
        self,
        processes: Callable[[ServerSnapshot], Iterable[Metric]] | None = None,
        queues: Callable[[ServerSnapshot], Iterable[Metric]] = backlog.collect,
    ) -> None:
        self._processes = processes or WorkerProcesses()
        self._queues = queues
        self._past = Past()

    def take(self, view: ServerSnapshot) -> page_data.Snapshot:
        """What there is to say of this view."""
        processes = _part(lambda: inputs.figures(self._processes(view))) or {}
        queues = _part(lambda: inputs.figures(self._queues(view))) or {}
        durations = _part(lambda: inputs.durations(view))
        failures = _part(lambda: inputs.failures(view))
        before = self._past.before(view.clock)
        uptime = max(1.0, view.clock - view.since)
        period = page_data.Rates(uptime if before is None else view.clock - before.clock, before is None)
        before = before or Counted(view.clock - uptime, 0.0, 0.0, {}, {})
        counted = _part(lambda: inputs.counted(view, _known(durations), _known(failures), processes))
        if counted is not None:
            self._past.keep(counted)
        return page_data.Snapshot(
            time=round(view.now, 3),
            rates=page_data.Rates(round(period.seconds, 3), period.since_start),
            server=_part(lambda: sections.server(view)),
            listeners=_part(lambda: sections.listeners(view, queues)),
            load=_part(lambda: sections.load(view)),
            traffic=_part(lambda: sections.traffic(_known(durations), _known(failures), before, period)),
            workers=_part(lambda: sections.workers(view, processes, before, period)),
            endpoints=_part(lambda: sections.endpoints(_known(durations), _known(failures), before, period)),
            deaths=_part(lambda: sections.deaths(view)),
        )


def _part(make: Callable[[], T]) -> T | None:
    try:
        return make()
    except Exception:  # noqa: BLE001 - a part that fails is not available, and the others are
        return None


def _known(value: T | None) -> T:
    if value is None:
        raise ValueError("not available")
    return value
