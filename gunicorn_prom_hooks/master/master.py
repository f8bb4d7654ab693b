"""The master: leases a slot before each fork, records worker exits, and takes the snapshot for a scrape."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, Final

from .._gunicorn import CHILD_EXIT_IN_SIGNAL_HANDLER, live_worker_ages
from ..concurrency import ForkLock
from ..errors import ErrorReporter
from ..inherited_descriptors import close_inherited, transients
from ..model.exits import ExitReason
from ..model.server_snapshot import PageOptions, ServerSnapshot
from ..settings import Settings
from ..shm.aggregate import EndpointCap
from ..shm.allocator import SlotAllocator
from ..shm.layout import EXIT_MARK, MAX_LABEL_BYTES, STACKS, STACKS_ARMED
from ..shm.schema import ERROR_HANDLING, FAILED, MAX_PATHS, OTHER, REQUESTS, UNMATCHED, WEBSOCKETS, duration_buckets
from ..shm.slot import Slot, SlotMaker
from ..shm.stack_file import StackFile
from .exits import WorkerExits
from .exporter_start import ExporterStarter
from .stack_requests import StackRequests
from .workers import TrackedWorker, WorkerRegistry

if TYPE_CHECKING:
    from ..app_metrics.setup import ApplicationMetrics

BY_ENDPOINT: Final = (REQUESTS, FAILED, ERROR_HANDLING, WEBSOCKETS)
REPORT_SECONDS: Final = 1.0
"""Time within which gunicorn logs and reports the exit of a worker that it has reaped."""
UNMARK_SECONDS: Final = 5.0
"""Time beyond gunicorn's timeouts after which a worker that is still there is not one that gunicorn has stopped."""
EXIT_WAIT_SECONDS: Final = 0.0 if CHILD_EXIT_IN_SIGNAL_HANDLER else 0.5
"""Time that ``worker_exited`` waits for the fork lock. In a signal handler the interrupted code may hold it."""
STARTUP_ONLY: Final = ("app_metrics", "duration_buckets")
"""Settings that a reload does not change, and logs. ``multiproc_dir`` may be in ``raw_env``, which is read later."""
CELLS_PER_ENDPOINT: Final = 1024
DIRECTORY_BYTES_PER_ENDPOINT: Final = 4096
SPARE: Final = 65536
"""Size of a slot: so much per endpoint, and so much more. Only pages that are written become memory."""


class Master:
    """The state of one master process, kept through every reload. It is a ``SnapshotSource`` for the exporter.

    Args:
        server: gunicorn's arbiter.
        settings: the user's.
        errors: counts internal failures.
    """

    def __init__(self, server: Any, settings: Settings, errors: ErrorReporter) -> None:
        self.pid = os.getpid()
        self._since = time.monotonic()
        self._started = time.time()
        self.server = server
        self.fork_lock = ForkLock(self._in_child)
        self.settings = settings
        self.buckets = duration_buckets(settings.duration_buckets)
        self._startup = {name: getattr(settings, name) for name in STARTUP_ONLY}
        self._errors = errors
        self._reloads = 0
        self._slot_maker = SlotMaker()
        self._stacks = StackFile()
        self._exits = WorkerExits(server.log, errors, settings.max_endpoints, self._stacks)
        self._workers = WorkerRegistry(SlotAllocator(self._new_slot, self._fits), self._exits)
        self._stack_requests = StackRequests(self._workers, self._stacks)
        self._cap = EndpointCap(
            settings.max_endpoints,
            {family.number: family.labels.index("endpoint") for family in BY_ENDPOINT},
            frozenset({OTHER, UNMATCHED}),
            OTHER,
        )
        self._app_metrics: ApplicationMetrics | None = None
        self.exporter = ExporterStarter(self, self.fork_lock, errors)

    def start_app_metrics(self) -> None:
        """Set up the application's metrics, before anything else and before the application is loaded."""
        if self.settings.app_metrics:
            # Late: prometheus_client reads the environment when it is imported, and this is what sets it.
            from ..app_metrics.setup import begin

            self._app_metrics = begin(self.server, self.settings, self._errors, self.fork_lock)
            self._exits.app_metrics = self._app_metrics

    def apply_settings(self, settings: Settings) -> None:
        """Apply the settings of a reload. The exporter follows in ``update_exporter``."""
        self.settings = settings
        self._cap.limit = settings.max_endpoints
        self._exits.exit_stats.limit_endpoints(settings.max_endpoints)
        # Last: the user's logger may fail.
        for name in STARTUP_ONLY:
            if getattr(settings, name) != self._startup[name]:
                self.server.log.warning("gunicorn_prom_hooks: setting %s is read at startup only: not changed", name)

    def note_resize(self, target: int) -> None:
        """Note the number of workers that gunicorn wants. While there are more, it stops the oldest ones."""
        excess = len(self.server.WORKERS) - target
        if excess > 0:
            with self.fork_lock.hold():
                self._workers.mark_stopping(ExitReason.SCALE_DOWN, excess)
        self._exits.write_log_lines()

    def note_reload(self) -> None:
        """Note that gunicorn has read its configuration again: it replaces all workers."""
        with self.fork_lock.hold():
            self._reloads += 1
            self._workers.mark_stopping(ExitReason.RELOAD)

    def count_message(self, level: str) -> None:
        """Count a message to gunicorn's error log. In any thread, and in signal handlers."""
        self._exits.exit_log.count_message(level)

    def observe_message(self, text: object, args: Any) -> None:
        """Read a message of gunicorn's own, before it is logged. In any thread, and in signal handlers."""
        self._exits.exit_log.observe(text, args)
        self._stack_requests.observe(text, args)

    def update_exporter(self, *, read_files: bool = False) -> None:
        """Start the exporter, or give it the current settings; see ``ExporterStarter.update``."""
        self.exporter.update(self.settings, self.server.log, self._app_metrics, read_files=read_files)

    def is_ready(self) -> bool:
        """Return whether a worker runs, is to stay, and has sent a heartbeat within gunicorn's timeout.

        Takes no lock: callable in any thread.
        """
        timeout = float(self.server.timeout)
        if self._exits.exit_log.stopping:
            return False
        for tracked in self._workers.live():
            is_running = set(tracked.states) == {"booting", "running"} and not tracked.is_stopping
            age = tracked.heartbeat_age if timeout else 0.0
            if is_running and age is not None and (not timeout or age < timeout):
                return True
        return False

    def record_final_exits(self) -> None:
        """Record the exits that are not yet recorded, at the end of the server.

        A worker that is still there was sent SIGKILL a moment ago, and gunicorn does not wait for it.
        """
        with self.fork_lock.hold():
            self._reconcile()
            for tracked in self._workers.live():
                if not tracked.lease.slot.header[EXIT_MARK]:
                    self._exits.exit_log.add_sigkill(tracked.worker.pid)
                self._workers.queue_exit(tracked.worker)
            self._reconcile()
        self._exits.write_log_lines()

    def close(self) -> None:
        """Stop the exporter, and remove the files of the application's metrics."""
        self.exporter.close()
        if self._app_metrics is not None:
            self._app_metrics.close()

    def before_fork(self, worker: Any, *, check_all: bool = True) -> None:
        """Lease a slot to a worker that is about to be forked, once, however often the hook is reached.

        Args:
            worker: gunicorn's worker object.
            check_all: look at all other workers, and at the application's files. Their directory is made in any case.
                Between the forks of a reload this is left out: each fork copies the memory that the master touches.
        """
        if self._workers.get(worker) is not None:
            return
        if self._app_metrics is not None:
            try:
                self._app_metrics.before_fork(check_all=check_all)
            except Exception:  # noqa: BLE001 - the worker gets its slot nevertheless
                self._errors.report("app_metrics")
        held = self.fork_lock.acquire()
        try:
            self._workers.record_queued_exits(forking=True)
            if check_all:
                self._reconcile()
            self._workers.add(worker, self.settings.worker_label)
        finally:
            if held:
                self.fork_lock.release()
        self._exits.write_log_lines()

    def worker_exited(self, worker: Any) -> None:
        """Note that a worker has exited, and record it, now unless another thread holds the lock."""
        self._workers.queue_exit(worker)
        with self.fork_lock.try_hold(EXIT_WAIT_SECONDS) as held:
            if held:
                self._reconcile()
        self._exits.write_log_lines()

    def tracked_worker(self, worker: Any) -> TrackedWorker | None:
        """Return the worker's entry; called by the worker, right after the fork."""
        return self._workers.get(worker)

    def take_snapshot(self) -> ServerSnapshot:
        """Return a copy of the server's state. The fork lock is held only while it is copied."""
        # Late, as in ``ExporterStarter.update``.
        from .snapshot import take_snapshot

        settings = self.settings
        corrupt = self._workers.allocator.update(self.fork_lock.hold)
        with self.fork_lock.hold():
            self._reconcile(REPORT_SECONDS)
            return take_snapshot(
                self.server,
                self._workers,
                self._exits,
                self._cap,
                self._errors,
                corrupt=corrupt,
                since=self._since,
                started=self._started,
                reloads=self._reloads,
                buckets=self.buckets,
                options=PageOptions(
                    settings.labels,
                    settings.size_histograms,
                    settings.created_timestamps,
                    settings.worker_label == "slot",
                ),
            )

    def become_worker(self, tracked: TrackedWorker) -> None:
        """Prepare what is inherited from the master, in the process that is now this worker."""
        try:
            if self._stacks.arm(tracked.lease.number):
                tracked.lease.slot.header[STACKS] = STACKS_ARMED
        except Exception:  # noqa: BLE001 - the worker is measured without stacks
            self._errors.report("stacks")
        if self._app_metrics is not None:
            try:
                self._app_metrics.become_worker(tracked.lease.number, has_predecessor=not tracked.lease.is_new)
            except Exception:  # noqa: BLE001 - and without the application's metrics
                self._errors.report("app_metrics")

    def check_stacks(self, worker: Any) -> None:
        """Give up the stacks of this worker if its own code has closed their file. In the worker."""
        tracked = self._workers.get(worker)
        try:
            if self._stacks.disarm_if_closed() and tracked is not None:
                tracked.lease.slot.header[STACKS] = 0.0
        except Exception:  # noqa: BLE001 - its requests are recorded nevertheless
            self._errors.report("stacks")

    def _reconcile(self, grace: float = 0.0) -> None:
        self._workers.reconcile(live_worker_ages(self.server), grace=grace)
        server = self.server
        if server.num_workers is not None and len(server.WORKERS) <= server.num_workers:
            # A worker that gunicorn has stopped has ended by then, but for one that serves a long request.
            self._workers.unmark_scaled_down(max(server.cfg.graceful_timeout, server.timeout) + UNMARK_SECONDS)
        self._exits.observe(self._workers.live())

    def _new_slot(self) -> Slot:
        endpoints = self.settings.max_endpoints
        directory = SPARE + DIRECTORY_BYTES_PER_ENDPOINT * endpoints + MAX_PATHS * (MAX_LABEL_BYTES + 64)
        return self._slot_maker.make(SPARE + CELLS_PER_ENDPOINT * endpoints, directory)

    def _fits(self, slot: Slot) -> bool:
        return len(slot.cells) >= SPARE + CELLS_PER_ENDPOINT * self.settings.max_endpoints

    def _in_child(self) -> None:
        # Every worker runs this, and each function that it calls copies memory that was shared until then.
        if self._errors.unpublished:
            self._errors.unpublished.clear()  # the parent's
        try:
            if transients:
                close_inherited()
            if self._stacks.is_armed:
                self._stacks.disarm()  # a worker has forked this process
        except Exception:  # noqa: BLE001 - the port is closed nevertheless
            self._errors.report("fork")
        if self.exporter.manager is not None:
            try:
                self.exporter.manager.close_in_child()
            except Exception:  # noqa: BLE001 - a fork must succeed
                self._errors.report("fork")
