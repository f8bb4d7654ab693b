"""Builds the data of the status page from a snapshot of the server."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from ..collectors.listeners import ListenerQueue, read_listeners
from ..collectors.processes import ProcessUsage, WorkerProcesses
from ..collectors.requests import read_failures, read_requests
from ..model.server_snapshot import ServerSnapshot
from . import page_data, sections
from .history import History, TotalsSample

T = TypeVar("T")


class NotAvailable(Exception):
    """A part of the page needs another one that has failed."""


def ignore_failure() -> None:
    """Do nothing about a failure."""


class StatusBuilder:
    """Builds the data of the status page, and keeps samples of the totals for the rates and the latency.

    Args:
        processes: reads memory and CPU of workers, by worker_id.
        queues: reads the connections of each listener.
        failed: called for each part that fails, while the exception is handled.
    """

    def __init__(
        self,
        processes: Callable[[ServerSnapshot], Mapping[str, ProcessUsage]] | None = None,
        queues: Callable[[ServerSnapshot], Sequence[ListenerQueue]] = read_listeners,
        *,
        failed: Callable[[], None] = ignore_failure,
    ) -> None:
        self._processes = processes or WorkerProcesses().read
        self._queues = queues
        self._failed = failed
        self._history = History()

    def build(self, snapshot: ServerSnapshot) -> page_data.StatusData:
        """Return the data of the page. A part that fails is None, and the others are there."""
        processes = self._part(lambda: self._processes(snapshot)) or {}
        queues = self._part(lambda: self._queues(snapshot)) or ()
        requests = self._part(lambda: read_requests(snapshot).by_endpoint)
        failures = self._part(lambda: read_failures(snapshot))
        before = self._history.before(snapshot.clock)
        uptime = max(1.0, snapshot.clock - snapshot.since)
        period = page_data.Rates(uptime if before is None else snapshot.clock - before.clock, before is None)
        before = before or TotalsSample(snapshot.clock - uptime, 0.0, 0.0, {}, {}, {})
        sample = self._part(lambda: sections.sample(snapshot, _known(requests), _known(failures), processes))
        if sample is not None:
            self._history.add(sample)
        return page_data.StatusData(
            time=round(snapshot.now, 3),
            rates=page_data.Rates(round(period.seconds, 3), period.since_start),
            server=self._part(lambda: sections.server(snapshot)),
            listeners=self._part(lambda: sections.listeners(snapshot, queues)),
            load=self._part(lambda: sections.load(snapshot)),
            traffic=self._part(lambda: sections.traffic(_known(requests), _known(failures), before, period)),
            workers=self._part(lambda: sections.workers(snapshot, processes, before, period)),
            endpoints=self._part(
                lambda: sections.endpoints(_known(requests), _known(failures), before, period, snapshot.buckets.bounds)
            ),
            exits=self._part(lambda: sections.exits(snapshot)),
        )

    def _part(self, make: Callable[[], T]) -> T | None:
        """Return the result of this function, None if it fails. A part whose input has failed is not reported again."""
        try:
            return make()
        except NotAvailable:
            return None
        except Exception:  # noqa: BLE001 - a part that fails is not available, and the others are
            self._failed()
            return None


def _known(value: T | None) -> T:
    """Return the value, which is not None.

    Raises:
        NotAvailable: it is None.
    """
    if value is None:
        raise NotAvailable
    return value
