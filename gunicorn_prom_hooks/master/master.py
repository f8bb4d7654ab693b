"""The master's side as a whole: leases before forks, departures after them, and the view that is scraped."""

from __future__ import annotations

import math
import os
import platform
import time
from typing import Any, Final

from gunicorn import __version__ as gunicorn_version
from gunicorn.workers.base_async import AsyncWorker
from gunicorn.workers.sync import SyncWorker

from .. import _version
from ..guard import Guard
from ..scoreboard.directory import CorruptDirectory
from ..scoreboard.families import ERROR_HANDLING, FAILED, MAX_PATHS, OTHER, REQUESTS, UNMATCHED, WEBSOCKETS
from ..scoreboard.layout import EXIT_MARK, MAX_LABEL_BYTES
from ..scoreboard.leases import Leases
from ..scoreboard.reader import InFlight
from ..scoreboard.slot import Slot
from ..scoreboard.tally import EndpointCap, copy_slot
from ..settings import Settings
from .deaths import Deaths
from .forklock import ForkLock
from .roster import Member, Roster

BY_ENDPOINT: Final = (REQUESTS, FAILED, ERROR_HANDLING, WEBSOCKETS)
IN_SIGNAL_HANDLER: Final = int(gunicorn_version.split(".")[0]) < 24
"""Whether ``child_exit`` runs in the handler of SIGCHLD: no waiting there for who is at the books, it may be us."""
WAIT_SECONDS: Final = 0.5
CELLS_PER_ENDPOINT: Final = 1024
DIRECTORY_BYTES_PER_ENDPOINT: Final = 4096
SPARE: Final = 65536
"""Size of a slot: so much per endpoint, and so much more. Only what is touched becomes memory."""


class Master:
    """One per master process; lives through every reload.

    Args:
        server: gunicorn's arbiter.
    """

    def __init__(self, server: Any, settings: Settings, guard: Guard) -> None:
        self.pid = os.getpid()
        self._since = time.time()
        self.server = server
        self.lock = ForkLock(self._in_child)
        self.settings = settings
        self._guard = guard
        self._deaths = Deaths(server.log, guard, settings.max_endpoints)
        self._reloads = 0
        self._roster = Roster(Leases(self._new_slot, self._fits), self._ended)
        self._cap = EndpointCap(
            settings.max_endpoints,
            {
                family.number: family.labels.index("endpoint")
                for family in (REQUESTS, FAILED, ERROR_HANDLING, WEBSOCKETS)
            },
            frozenset({OTHER, UNMATCHED}),
            OTHER,
        )
        self._opening: Any = None
        self._application: Any = None
        self._exporter: Any = None
        self._serving: Settings | None = None
        self._tried: Settings | None = None

    def begin(self) -> None:
        """The first thing, before the application is loaded."""
        if self.settings.app_metrics:
            # Late: prometheus_client reads the environment when it is imported, and this is what sets it.
            from ..app_metrics.application import begin

            self._application = begin(self.server, self.settings, self._guard, self.lock.hold)

    def configure(self, settings: Settings) -> None:
        """Takes over the settings of a reload. The exporter follows in ``serve``."""
        self.settings = settings
        self._cap.limit = settings.max_endpoints
        self._deaths.limit_endpoints(settings.max_endpoints)

    def resized(self, workers: int) -> None:
        """Notes how many workers gunicorn wants: while there are more, it tells the oldest ones to leave."""
        too_many = len(self.server.WORKERS) - workers
        if too_many > 0:
            with self.lock.hold():
                self._roster.tell("scale_down", too_many)
        self._deaths.tell()

    def reloaded(self) -> None:
        """Notes that gunicorn has read its configuration anew: it replaces all workers that there are."""
        with self.lock.hold():
            self._reloads += 1
            self._roster.tell("reload")

    def message(self, level: str) -> None:
        """Counts a message to gunicorn's error log."""
        self._deaths.ends.count(level)

    def listen(self, text: object, args: Any) -> None:
        """Takes note of a message of gunicorn's own."""
        self._deaths.ends.listen(text, args)

    def serve(self, *, again: bool = False) -> None:
        """Starts the exporter, or has it go on as the settings now say, at another address if need be.

        Args:
            again: looks anew at what lies outside of the settings: names of addresses, files of certificates.
        """
        settings = self.settings
        if settings is self._tried and not again:
            return
        self._tried = settings
        if not settings.port:
            self.close()
            return
        # Late: importing the package must not import prometheus_client, which reads the environment only once.
        from .exporter import Exporter
        from .opening import Opening

        if self._opening is None:  # one for all exporters: collectors remember what must not go backwards
            application = self._application and self._application.collect
            self._opening = Opening(self.view, self.lock.hold, self._guard, self.server.log, application)
        before, serving = self._exporter, self._serving
        access = self._opening.access(settings, None if before is None else before.access)
        if access is None:
            self.close()
            return
        if before is not None:
            before.access = access
        if serving is not None and (serving.address, serving.port) == (settings.address, settings.port):
            self._serving = settings
            return
        address, log = settings.address, self.server.log
        try:
            exporter = Exporter(access, self.is_ready, self.lock, self._guard, log, address, settings.port)
        except OSError as error:
            log.error("gunicorn_prom_hooks: address %r cannot be used: %s; a reload tries again", address, error)
            return
        self.close()
        self._serving, self._exporter = settings, exporter
        exporter.start()
        self._opening.warn(exporter)

    def is_ready(self) -> bool:
        """Whether a worker has booted, is to stay, and has been heard of lately. Takes no lock: any thread may ask."""
        timeout = float(self.server.timeout)
        for member in self._roster.members():
            running = set(member.states) == {"booting", "running"} and not self._is_stopping(member)
            age = _heartbeat_age(member.worker) if timeout else 0.0
            if running and age is not None and (not timeout or age < timeout):
                return True
        return False

    def exiting(self) -> None:
        """The last thing: books the deaths that are still to be booked, and ends the exporter.

        A worker that is still there has been sent SIGKILL a moment ago, and gunicorn waits for it no more.
        """
        with self.lock.hold():
            self._settle()
            for member in self._roster.members():
                if not member.lease.slot.header[EXIT_MARK]:
                    self._deaths.ends.killed(member.worker.pid)
                self._roster.left(member.worker)
            self._settle()
        self._deaths.tell()
        self.close()
        if self._application is not None:
            self._application.close()

    def close(self) -> None:
        """Ends the exporter."""
        exporter, self._exporter, self._serving = self._exporter, None, None
        if exporter is not None:
            exporter.stop()

    def forking(self, worker: Any) -> None:
        """Gives a slot to a worker that is about to be forked."""
        if self._application is not None:
            try:
                self._application.forking()
            except OSError:
                self._guard.failed("app_metrics")
        with self.lock.hold():
            self._settle(forking=True)
            if self._roster.member(worker) is None:
                self._roster.arrive(worker, self.settings.worker_label)
        self._deaths.tell()

    def left(self, worker: Any) -> None:
        """Notes that a worker has ended, and books it, at once unless somebody else is at the books."""
        self._roster.left(worker)
        with self.lock.try_hold(0.0 if IN_SIGNAL_HANDLER else WAIT_SECONDS) as held:
            if held:
                self._settle()
        self._deaths.tell()

    def member(self, worker: Any) -> Member | None:
        """The worker's entry; asked by the worker itself, right after the fork."""
        return self._roster.member(worker)

    def view(self) -> Any:
        """The server at this moment, for the collectors. Called with the lock held."""
        from ..collectors.view import View

        self._settle()
        server = self.server
        slots = [copy_slot(reader) for reader in self._roster.readers]
        return View(
            pid=self.pid,
            since=self._since,
            now=time.time(),
            clock=time.monotonic(),
            workers=[self._worker_view(member) for member in self._roster.members()],
            departed=list(self._roster.departed.values()),
            slots=slots,
            rename=self._cap,
            ledger=self._deaths.ledger.copy(),
            messages=dict(self._deaths.ends.messages),
            reloads=self._reloads,
            errors=dict(self._guard.counts),
            folded=lambda: len(self._cap.folded),
            target=server.num_workers or 0,
            timeout=float(server.timeout),
            listeners=list(server.LISTENERS),
            dirty_arbiter_pid=int(getattr(server, "dirty_arbiter_pid", 0)),
            build={
                "version": _version.__version__,
                "gunicorn": gunicorn_version,
                "python": platform.python_version(),
                "worker_class": server.cfg.worker_class_str,
            },
        )

    def _worker_view(self, member: Member) -> Any:
        from ..collectors.view import WorkerView

        worker = member.worker
        return WorkerView(
            worker_id=member.worker_id,
            lease=member.lease,
            pid=worker.pid if isinstance(worker.pid, int) else None,
            worker_class=type(worker).__name__,
            capacity=_capacity(worker),
            states=member.states,
            heartbeat_age=_heartbeat_age(worker),
            stopping=self._is_stopping(member),
            in_flight=_in_flight(member),
            untracked=member.lease.reader.untracked(),
        )

    def _is_stopping(self, member: Member) -> bool:
        return bool(member.told or member.worker.aborted or self._deaths.ends.stopping)

    def _settle(self, *, forking: bool = False) -> None:
        self._roster.settle({worker.age for worker in list(self.server.WORKERS.values())}, forking=forking)
        self._deaths.look(self._roster.members())

    def _ended(self, member: Member, when: float, reported: bool) -> None:
        self._deaths.ended(member, when, reported=reported)
        if self._application is not None:
            self._application.worker_gone(member.lease.number, member.worker.pid)

    def become_worker(self, member: Member) -> None:
        """This process is now the worker that this entry is about."""
        if self._application is not None:
            self._application.become_worker(member.lease.number)

    def _new_slot(self) -> Slot:
        endpoints = self.settings.max_endpoints
        directory = SPARE + DIRECTORY_BYTES_PER_ENDPOINT * endpoints + MAX_PATHS * (MAX_LABEL_BYTES + 64)
        return Slot(SPARE + CELLS_PER_ENDPOINT * endpoints, directory)

    def _fits(self, slot: Slot) -> bool:
        return len(slot.cells) >= SPARE + CELLS_PER_ENDPOINT * self.settings.max_endpoints

    def _in_child(self) -> None:
        if self._exporter is not None:
            self._exporter.close_in_child()
            self._exporter = None


def _in_flight(member: Member) -> list[InFlight]:
    try:
        return member.lease.reader.in_flight()
    except CorruptDirectory:  # the collectors will say so
        return []


def _capacity(worker: Any) -> float:
    """Requests that the worker can serve at a time; infinite for an event loop that takes whatever comes."""
    if hasattr(worker, "tpool"):
        return float(worker.cfg.threads)
    if isinstance(worker, SyncWorker):
        return 1.0
    return float(worker.worker_connections) if isinstance(worker, AsyncWorker) else math.inf


def _heartbeat_age(worker: Any) -> float | None:
    """Seconds since the worker touched its heartbeat file, whose times gunicorn sets on the monotonic clock.

    Until the first touch the file has the wall-clock time of its making: no heartbeat yet. The file is closed by the
    time the worker's end is booked.
    """
    try:
        age = time.monotonic() - worker.tmp.last_update()
    except (OSError, ValueError):
        return None
    return float(age) if age >= 0.0 else None
