"""What is done about a worker's death: its slot and the master's log are read, the ledger and the log get an entry."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, Final

from ..errors import ErrorReporter
from ..model.exits import ExitReason, ExitRecord
from ..model.requests import InFlightRequest
from ..paths import escape_unprintable, normalize_path
from ..shm.aggregate import EndpointCap
from ..shm.index import clean_label
from ..shm.layout import ABORT_AT, EXIT_CAUSE, EXIT_MARK, RUNNING_AT, RUNNING_CLOCK, STACKS, STACKS_ASKED
from ..shm.schema import OTHER
from ..shm.stack_file import Stacks
from .exit_log import ExitLogParser
from .exit_reason import Death, ExitStats
from .oom import OomKills
from .workers import TrackedWorker, unix_time

MAX_NAMED: Final = 3
"""Requests named in a log line, the oldest ones."""
MAX_LINES: Final = 200
"""More than this many lines that nobody has had the time to log; the oldest are forgotten."""


class WorkerExits:
    """Books the ends of workers.

    Args:
        log: gunicorn's logger.
        errors: where failures end.
        max_endpoints: how many different endpoints killed requests may have.
        stacks: what workers that hang have written.
    """

    def __init__(self, log: Any, errors: ErrorReporter, max_endpoints: int, stacks: Stacks) -> None:
        self._stacks = stacks
        self.ends = ExitLogParser()
        self.oom = OomKills()
        self.exit_stats = ExitStats(self.oom.claim, self._endpoint)
        self._cap = EndpointCap(max_endpoints, {0: 0}, frozenset({OTHER}), OTHER, remember=False)
        self._log = log
        self._lines: deque[tuple[str, str]] = deque(maxlen=MAX_LINES)
        self._errors = errors

    def limit_endpoints(self, max_endpoints: int) -> None:
        """Takes over the setting of a reload."""
        self._cap.limit = max_endpoints

    def look(self, members: Iterable[TrackedWorker]) -> None:
        """Notes who has booted since the last look, and how often the kernel has killed for want of memory."""
        self.oom.look()
        for member in members:
            self._note_boot(member)

    def ended(self, member: TrackedWorker, clock: float, *, reported: bool) -> None:
        """Books the end of a worker whose slot is still as it left it.

        Args:
            member: the worker.
            clock: monotonic seconds of its end.
            reported: gunicorn has told; else nobody has, and it is just not there any more.
        """
        self._note_boot(member)
        requests, unnamed = self._interrupted_requests(member)
        header = member.lease.slot.header
        mark = header[EXIT_MARK] if 1.0 <= header[EXIT_MARK] <= 256.0 else 0.0
        end = self.ends.take(member.worker.pid, member.lease.since)
        if end is None and mark:
            end = int(mark) - 1
        elif end is None and reported and self.ends.listening:
            end = 0  # gunicorn logs any other
        death = Death(
            end=end,
            aborted=bool(member.worker.aborted),
            booted=member.booted,
            orderly=bool(mark),
            cause=header[EXIT_CAUSE],
            stop_reason=ExitReason.SHUTDOWN if self.ends.stopping else member.stop_reason,
            seconds=max(0.0, clock - member.lease.since),
        )
        how = self.exit_stats.book(death, [(request.method, request.path) for request in requests], unnamed)
        expected = how[0].is_expected or (how[0] is ExitReason.SIGNAL and death.orderly and death.end == 0)
        news = bool(requests or unnamed or not expected)
        pid = member.worker.pid if isinstance(member.worker.pid, int) else None
        self.exit_stats.remember(
            ExitRecord(unix_time(clock), clock, member.worker_id, pid, *how, requests, unnamed), news=news
        )
        stacks = self._stacks.take(member.lease.number) if header[STACKS] == STACKS_ASKED else ""
        if stacks and (member.worker.aborted or header[ABORT_AT]):
            line = f"gunicorn_prom_hooks: worker (pid:{pid}) aborted; this is where it was:\n{stacks}"
            self._lines.append(("error", line))
        if news:
            line = exit_line(member.worker.pid, member.worker_id, how, requests, unnamed, clock)
            self._lines.append(("warning" if expected else "error", line))

    def tell(self) -> None:
        """Logs what there is to say of those that have ended. In the main thread, and without the master's lock.

        Under gevent's monkey patches a lock of the logging module that another thread waits for is given to it by the
        main thread, which must not wait for that other thread's lock meanwhile.
        """
        while self._lines:
            level, line = self._lines.popleft()
            try:
                getattr(self._log, level)("%s", line)
            except Exception:  # noqa: BLE001 - the user's logger may fail; the server must not for that
                self._errors.report("log")

    def _interrupted_requests(self, member: TrackedWorker) -> tuple[list[InFlightRequest], int]:
        """The requests that the worker died on, and how many more. What it had answered but not counted is counted."""
        try:
            member.lease.reader.commit_pending()
            return member.lease.reader.interrupted_requests(), member.lease.reader.untracked().number
        except Exception:  # noqa: BLE001 - something else has written into the slot; the worker is dead for all that
            self._errors.report("slot")
            return [], 0

    def _note_boot(self, member: TrackedWorker) -> None:
        if member.booted:
            return
        header = member.lease.slot.header
        if header[RUNNING_AT]:
            member.booted = True
            self.exit_stats.boots.observe(max(0.0, header[RUNNING_CLOCK] - member.lease.since))

    def _endpoint(self, path: str) -> str:
        return self._cap(0, (clean_label(normalize_path(path)),))[0]


def exit_line(
    pid: object,
    worker_id: str,
    how: tuple[ExitReason, str],
    requests: Sequence[InFlightRequest],
    unnamed: int,
    now: float,
) -> str:
    """One line of plain text.

    Args:
        pid: of the worker.
        worker_id: the label.
        how: reason and detail.
        requests: those it died on, oldest first.
        unnamed: how many more there were.
        now: monotonic seconds.
    """
    named = [
        f"{escape_unprintable(request.method)} {escape_unprintable(request.path)} "
        f"({max(0.0, now - request.start):.3f} s in flight)"
        for request in requests[:MAX_NAMED]
    ]
    others = len(requests) - len(named) + unnamed
    if others:
        named.append(f"{others} other request{'s' if others > 1 else ''}")
    what = ", ".join(named) or "no request"
    return f"gunicorn_prom_hooks: worker {worker_id} (pid:{pid}) ended: {how[0]} ({how[1]}), in the middle of {what}"
