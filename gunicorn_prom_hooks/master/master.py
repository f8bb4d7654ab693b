"""The master's side as a whole: leases before forks, departures after them, and the view that is scraped."""

from __future__ import annotations

import os
import time
from typing import Any, Final

from gunicorn import __version__ as gunicorn_version

from ..errors import ErrorReporter
from ..fork_lock import ForkLock
from ..inherited_descriptors import close_inherited
from ..model.exits import ExitReason
from ..settings import Settings
from ..shm.aggregate import EndpointCap
from ..shm.allocator import SlotAllocator
from ..shm.layout import EXIT_MARK, MAX_LABEL_BYTES, STACKS, STACKS_ARMED
from ..shm.schema import ERROR_HANDLING, FAILED, MAX_PATHS, OTHER, REQUESTS, UNMATCHED, WEBSOCKETS
from ..shm.slot import Slot, SlotMaker
from ..shm.stack_file import Stacks
from .exits import WorkerExits
from .stack_requests import StackRequests
from .workers import TrackedWorker, WorkerRegistry

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

    def __init__(self, server: Any, settings: Settings, errors: ErrorReporter) -> None:
        self.pid = os.getpid()
        self._since = time.monotonic()
        self.server = server
        self.lock = ForkLock(self._in_child)
        self.settings = settings
        self._errors = errors
        self._reloads = 0
        self._slots = SlotMaker()
        self._stacks = Stacks()
        self._workers = WorkerRegistry(SlotAllocator(self._new_slot, self._fits), self._ended)
        self._deaths = WorkerExits(server.log, errors, settings.max_endpoints, self._stacks)
        self._hangs = StackRequests(self._workers.members, self._stacks)
        self._cap = EndpointCap(
            settings.max_endpoints,
            {family.number: family.labels.index("endpoint") for family in BY_ENDPOINT},
            frozenset({OTHER, UNMATCHED}),
            OTHER,
        )
        self._application: Any = None
        self._serving: Any = None
        self._tried: Settings | None = None

    def begin(self) -> None:
        """The first thing, before the application is loaded."""
        if self.settings.app_metrics:
            # Late: prometheus_client reads the environment when it is imported, and this is what sets it.
            from ..app_metrics.setup import begin

            self._application = begin(self.server, self.settings, self._errors, self.lock.hold)

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
                self._workers.tell(ExitReason.SCALE_DOWN, too_many)
        self._deaths.tell()

    def reloaded(self) -> None:
        """Notes that gunicorn has read its configuration anew: it replaces all workers that there are."""
        with self.lock.hold():
            self._reloads += 1
            self._workers.tell(ExitReason.RELOAD)

    def message(self, level: str) -> None:
        """Counts a message to gunicorn's error log."""
        self._deaths.ends.count(level)

    def listen(self, text: object, args: Any) -> None:
        """Takes note of a message of gunicorn's own, before it is logged."""
        self._deaths.ends.listen(text, args)
        self._hangs.listen(text, args)

    def serve(self, *, again: bool = False) -> None:
        """Starts the exporter, or has it go on as the settings now say, at another address if need be.

        Args:
            again: looks anew at what lies outside of the settings: names of addresses, files of certificates.
        """
        settings = self.settings
        if settings is self._tried and not again:
            if self._serving is not None:
                self._serving.revive()
            return
        self._tried = settings
        if not settings.port:
            self.close()
            return
        if self._serving is None:
            # Late: importing the package must not import prometheus_client, which reads the environment only once.
            from ..exporter.manager import Serving
            from ..exporter.opening import Opening
            from . import snapshot  # noqa: F401 - so that no scrape imports it, with the lock held

            lock, errors, log = self.lock, self._errors, self.server.log
            opening = Opening(self.view, lock, errors, log, self._application and self._application.collect)
            self._serving = Serving(opening, self.is_ready, lock, errors, log)
        self._serving.serve(settings)

    def is_ready(self) -> bool:
        """Whether a worker has booted, is to stay, and has been heard of lately. Takes no lock: any thread may ask."""
        timeout = float(self.server.timeout)
        for member in self._workers.members():
            running = set(member.states) == {"booting", "running"} and not self._is_stopping(member)
            age = member.heartbeat_age if timeout else 0.0
            if running and age is not None and (not timeout or age < timeout):
                return True
        return False

    def exiting(self) -> None:
        """At the end of the server: books the deaths that are still to be booked.

        A worker that is still there has been sent SIGKILL a moment ago, and gunicorn waits for it no more.
        """
        with self.lock.hold():
            self._settle()
            for member in self._workers.members():
                if not member.lease.slot.header[EXIT_MARK]:
                    self._deaths.ends.killed(member.worker.pid)
                self._workers.left(member.worker)
            self._settle()
        self._deaths.tell()

    def close_all(self) -> None:
        """The last thing: ends the exporter, and leaves nothing behind."""
        self.close()
        if self._application is not None:
            self._application.close()

    def close(self) -> None:
        """Ends the exporter."""
        if self._serving is not None:
            self._serving.close()

    def forking(self, worker: Any, *, look: bool = True) -> None:
        """Gives a slot to a worker that is about to be forked, once, however often the hook is reached.

        Args:
            worker: gunicorn's.
            look: go through all other workers, and the application's files, whose directory is there in any case.
                Between the forks of a reload as little as can be is done: what the master touches is copied once per
                fork.
        """
        if self._workers.member(worker) is not None:
            return
        if self._application is not None:
            try:
                self._application.forking(look=look)
            except Exception:  # noqa: BLE001 - the worker is to have its slot for all that
                self._errors.report("app_metrics")
        with self.lock.hold():
            self._workers.book(forking=True)
            if look:
                self._settle()
            self._workers.arrive(worker, self.settings.worker_label)
        self._deaths.tell()

    def left(self, worker: Any) -> None:
        """Notes that a worker has ended, and books it, at once unless somebody else is at the books."""
        self._workers.left(worker)
        with self.lock.try_hold(0.0 if IN_SIGNAL_HANDLER else WAIT_SECONDS) as held:
            if held:
                self._settle()
        self._deaths.tell()

    def member(self, worker: Any) -> TrackedWorker | None:
        """The worker's entry; asked by the worker itself, right after the fork."""
        return self._workers.member(worker)

    def view(self) -> Any:
        """The server at this moment, for the collectors. It holds the lock for as long as the copying takes."""
        # Late, as in ``serve``.
        from .snapshot import look

        corrupt = self._workers.leases.update(self.lock.hold)
        with self.lock.hold():
            self._settle()
            return look(
                self.server,
                self._workers,
                self._deaths,
                self._cap,
                self._errors,
                self._is_stopping,
                corrupt=corrupt,
                since=self._since,
                reloads=self._reloads,
            )

    def _is_stopping(self, member: TrackedWorker) -> bool:
        return bool(member.stop_reason or member.worker.aborted or self._deaths.ends.stopping)

    def _settle(self) -> None:
        self._workers.settle({worker.age for worker in list(self.server.WORKERS.values())})
        self._deaths.look(self._workers.members())

    def _ended(self, member: TrackedWorker, clock: float, reported: bool) -> None:
        self._deaths.ended(member, clock, reported=reported)
        if self._application is not None:
            self._application.worker_gone(member.lease.number)

    def become_worker(self, member: TrackedWorker) -> None:
        """This process is now the worker that this entry is about."""
        try:
            if self._stacks.arm(member.lease.number):
                member.lease.slot.header[STACKS] = STACKS_ARMED
        except (OSError, RuntimeError, ValueError):
            self._errors.report("stacks")
        if self._application is not None:
            self._application.become_worker(member.lease.number, has_predecessor=not member.lease.is_new)

    def _new_slot(self) -> Slot:
        endpoints = self.settings.max_endpoints
        directory = SPARE + DIRECTORY_BYTES_PER_ENDPOINT * endpoints + MAX_PATHS * (MAX_LABEL_BYTES + 64)
        return self._slots.make(SPARE + CELLS_PER_ENDPOINT * endpoints, directory)

    def _fits(self, slot: Slot) -> bool:
        return len(slot.cells) >= SPARE + CELLS_PER_ENDPOINT * self.settings.max_endpoints

    def _in_child(self) -> None:
        close_inherited()
        self._stacks.disarm()  # if it is a worker that has forked this process
        if self._serving is not None:
            self._serving.close_in_child()
