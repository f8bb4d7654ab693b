"""What the master does about a worker exit: it reads the worker's slot and the log, counts the exit and logs a line."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from ..errors import ErrorReporter
from ..model.counts import InFlightRequest
from ..model.exits import ExitReason, ExitRecord
from ..paths import escape_unprintable
from ..shm.layout import ABORT_AT, EXIT_CAUSE, EXIT_MARK, RUNNING_AT, RUNNING_CLOCK, STACKS, STACKS_ASKED
from ..shm.stack_file import StackFile
from .exit_log import ExitLogParser
from .exit_reason import ExitFacts, ExitStats
from .oom import OomKills
from .workers import TrackedWorker, unix_time

if TYPE_CHECKING:
    from ..app_metrics.setup import ApplicationMetrics

MAX_NAMED: Final = 3
"""Requests named in a log line, the oldest ones."""
MAX_LINES: Final = 200
"""Lines that wait to be logged. The oldest are dropped."""


class WorkerExits:
    """Records worker exits.

    Args:
        log: gunicorn's logger.
        errors: counts internal failures.
        max_endpoints: number of different endpoints that killed requests may have.
        stacks: the stacks that workers wrote before they were aborted.
    """

    def __init__(self, log: Any, errors: ErrorReporter, max_endpoints: int, stacks: StackFile) -> None:
        self._stacks = stacks
        self.exit_log = ExitLogParser()
        self.oom = OomKills()
        self.exit_stats = ExitStats(self.oom, max_endpoints)
        self.app_metrics: ApplicationMetrics | None = None
        """Removes an exited worker's live gauges. Set once the application's metrics are set up."""
        self._log = log
        self._lines: deque[tuple[str, str]] = deque(maxlen=MAX_LINES)
        """Level and text."""
        self._errors = errors

    def observe(self, workers: Iterable[TrackedWorker]) -> None:
        """Note the workers that have booted since the last call, and the kernel's count of OOM kills."""
        self.oom.update()
        for tracked in workers:
            self._note_boot(tracked)

    def record_exit(self, tracked: TrackedWorker, clock: float, *, reported: bool) -> None:
        """Record the exit of a worker whose slot is still as the worker left it.

        Args:
            tracked: the worker.
            clock: monotonic seconds of the exit.
            reported: gunicorn has reported the exit; otherwise the process is just gone.
        """
        self._note_boot(tracked)
        requests, untracked = self._interrupted_requests(tracked)
        header = tracked.lease.slot.header
        facts = self._facts(tracked, clock, reported=reported)
        how = self.exit_stats.count(facts, [(request.method, request.path) for request in requests], untracked)
        expected = how[0].is_expected or (how[0] is ExitReason.SIGNAL and facts.orderly and facts.status == 0)
        notable = bool(requests or untracked or not expected)
        pid = tracked.worker.pid if isinstance(tracked.worker.pid, int) else None
        self.exit_stats.keep(
            ExitRecord(unix_time(clock), clock, tracked.worker_id, pid, *how, requests, untracked), notable=notable
        )
        stacks = self._stacks.take(tracked.lease.number) if header[STACKS] == STACKS_ASKED else ""
        if stacks and (tracked.worker.aborted or header[ABORT_AT]):
            line = f"gunicorn_prom_hooks: worker (pid:{pid}) aborted; stacks of its threads:\n{stacks}"
            self._lines.append(("error", line))
        if notable:
            line = exit_line(tracked.worker.pid, tracked.worker_id, how, requests, untracked, clock)
            self._lines.append(("warning" if expected else "error", line))
        if self.app_metrics is not None:
            self.app_metrics.worker_exited(tracked.lease.number)

    def write_log_lines(self) -> None:
        """Log the lines about recorded exits. In the main thread, without the fork lock.

        Under gevent's monkey patches a lock of the logging module that another thread waits for is given to it by the
        main thread. So the main thread must not wait for a lock that the other thread holds.
        """
        while self._lines:
            level, line = self._lines.popleft()
            try:
                getattr(self._log, level)("%s", line)
            except Exception:  # noqa: BLE001 - the user's logger may fail; the server must not fail with it
                self._errors.report("log")

    def _facts(self, tracked: TrackedWorker, clock: float, *, reported: bool) -> ExitFacts:
        header = tracked.lease.slot.header
        mark = header[EXIT_MARK] if 1.0 <= header[EXIT_MARK] <= 256.0 else 0.0
        status = self.exit_log.take(tracked.worker.pid, tracked.lease.since)
        if status is None and mark:
            status = int(mark) - 1
        elif status is None and reported and self.exit_log.is_observing:
            status = 0  # gunicorn logs any other
        return ExitFacts(
            status=status,
            aborted=bool(tracked.worker.aborted),
            booted=tracked.booted,
            orderly=bool(mark),
            cause=header[EXIT_CAUSE],
            stop_reason=ExitReason.SHUTDOWN if self.exit_log.stopping else tracked.stop_reason,
            lifetime=max(0.0, clock - tracked.lease.since),
        )

    def _interrupted_requests(self, tracked: TrackedWorker) -> tuple[list[InFlightRequest], int]:
        """Return the requests in progress at the exit, and the number of further ones without an entry.

        Requests that the worker had answered but not counted are counted.
        """
        try:
            tracked.lease.reader.commit_pending()
            return tracked.lease.reader.interrupted_requests(), tracked.lease.reader.untracked().number
        except Exception:  # noqa: BLE001 - something else has written into the slot; the exit is recorded anyway
            self._errors.report("slot")
            return [], 0

    def _note_boot(self, tracked: TrackedWorker) -> None:
        if tracked.booted:
            return
        header = tracked.lease.slot.header
        if header[RUNNING_AT]:
            tracked.booted = True
            self.exit_stats.boots.observe(max(0.0, header[RUNNING_CLOCK] - tracked.lease.since))


def exit_line(
    pid: object,
    worker_id: str,
    how: tuple[ExitReason, str],
    requests: Sequence[InFlightRequest],
    untracked: int,
    now: float,
) -> str:
    """Return the log line about a worker exit: one line of printable text.

    Args:
        pid: of the worker.
        worker_id: the label.
        how: reason and detail.
        requests: those in progress, oldest first.
        untracked: number of further requests in progress.
        now: monotonic seconds of the exit.
    """
    named = [
        f"{escape_unprintable(method)} {escape_unprintable(path)} ({max(0.0, now - start):.3f} s)"
        for start, method, path in requests[:MAX_NAMED]
    ]
    others = len(requests) - len(named) + untracked
    if others:
        named.append(f"{others} other request{'s' if others > 1 else ''}")
    what = f"in progress: {', '.join(named)}" if named else "no request in progress"
    return f"gunicorn_prom_hooks: worker {worker_id} (pid:{pid}) exited: {how[0]} ({how[1]}); {what}"
