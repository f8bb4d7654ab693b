"""What several unit tests need: gunicorn's own sync worker around our request hooks, and what they recorded."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace, TracebackType
from typing import Any

from gunicorn.config import Config
from gunicorn.glogging import Logger
from gunicorn.http.parser import RequestParser
from gunicorn.http.wsgi import create
from gunicorn.workers.sync import SyncWorker

from gunicorn_prom_hooks.errors import ErrorReporter
from gunicorn_prom_hooks.model.counts import Labels, Rename, Tally
from gunicorn_prom_hooks.shm.aggregate import SlotsCopy, WorkerTotals
from gunicorn_prom_hooks.shm.allocator import Lease, SlotAllocator
from gunicorn_prom_hooks.shm.index import Entry, SeriesIndex
from gunicorn_prom_hooks.shm.reader import SlotReader
from gunicorn_prom_hooks.shm.schema import COUNTS, REQUESTS, Family
from gunicorn_prom_hooks.shm.slot import Slot
from gunicorn_prom_hooks.worker.recording.event_loop_hooks import many_at_a_time
from gunicorn_prom_hooks.worker.recording.exceptions import watch_error_handling
from gunicorn_prom_hooks.worker.recording.labels import Resolve
from gunicorn_prom_hooks.worker.recording.recorder import Recorder
from gunicorn_prom_hooks.worker.recording.sync_hooks import Hooks, one_at_a_time
from gunicorn_prom_hooks.worker.recording.threaded_hooks import one_per_thread

App = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
MakeHooks = Callable[[Recorder, Resolve | None, ErrorReporter], Hooks]
KINDS: tuple[MakeHooks, ...] = (one_at_a_time, one_per_thread, many_at_a_time)
"""The hooks of a sync, a gthread and a gevent worker."""
GET = b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n"
HAMMERED = GET % b"/items/7"
DEFAULTS = Config()


def same(family: int, labels: Labels) -> Labels:
    """Return the labels unchanged. It is a ``Rename``."""
    return labels


def totals(allocator: SlotAllocator) -> Tally:
    """Return the sums over all slots."""
    return allocator.copy(allocator.update()).totals(same)


def own(allocator: SlotAllocator, lease: Lease) -> WorkerTotals:
    """Return the counts of the worker that has this lease."""
    return allocator.copy(allocator.update()).of_worker(lease.number, lease.baseline, same)


def shared_memory() -> int:
    """Return the bytes of shared memory in this process's resident memory."""
    return 1024 * int(Path("/proc/self/status").read_text().split("RssShmem:")[1].split()[0])


def tally(*slots: Slot, rename: Rename = same) -> Tally:
    """Return the sum of what is counted in free slots."""
    index = SeriesIndex(frozenset())
    readers = [SlotReader(slot, number, index) for number, slot in enumerate(slots)]
    for reader in readers:
        reader.update()
    return SlotsCopy(readers, [], index, None).totals(rename)


def entries(slot: Slot) -> list[Entry]:
    """Return all entries of the slot's directory."""
    return SlotReader(slot).update()


def values(reader: SlotReader) -> list[float]:
    """Return the cells of the entries that the reader has parsed."""
    return list(reader.cells.cast("d"))


def new_slot() -> Slot:
    """Return a slot with room for all that a test records."""
    return Slot(65536, 262144)


def answers(status: str = "200 OK", body: bytes = b"ok", *headers: tuple[str, str]) -> App:
    """Return an application that gives this answer to every request."""

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(body))), *headers])
        return [body]

    return app


def raises(error: BaseException) -> App:
    """Return an application that raises before it answers."""

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        raise error

    return app


class Recorded:
    """A slot, what writes it and what reads it."""

    def __init__(self, max_endpoints: int = 200, slot: Slot | None = None) -> None:
        self.slot = slot or new_slot()
        self.errors = ErrorReporter()
        self.recorder = Recorder(self.slot, max_endpoints)
        self.errors.publish = self.recorder.exporter_error
        self.reader = SlotReader(self.slot)

    def series(self, family: Family) -> dict[Labels, list[float]]:
        """Return all series of a family that are not zero."""
        return tally(self.slot).series(family.number)

    def counts(self, family: Family) -> dict[Labels, float]:
        """Return the first cell of each series of a family that is not zero."""
        return {labels: cells[0] for labels, cells in self.series(family).items()}

    def in_progress(self) -> int:
        """Return the number of requests in progress, in the in-flight table and beyond it."""
        return len(self.reader.in_flight()) + self.reader.untracked().number

    def requests(self) -> dict[Labels, float]:
        """Return the requests by method, endpoint and status."""
        found: dict[Labels, float] = {}
        for labels, cells in self.series(REQUESTS).items():
            found[labels[:3]] = found.get(labels[:3], 0.0) + sum(cells[COUNTS])
        return found


class Bench(Recorded):
    """gunicorn's sync worker with our hooks in its configuration, serving socket pairs in this very process."""

    def __init__(
        self,
        resolve: Resolve | None = None,
        *,
        make: MakeHooks = one_at_a_time,
        max_endpoints: int = 200,
        slot: Slot | None = None,
    ) -> None:
        super().__init__(max_endpoints, slot)
        cfg = Config()
        cfg.set("loglevel", "critical")
        pre_request, post_request = make(self.recorder, resolve, self.errors)
        cfg.set("pre_request", pre_request)
        cfg.set("post_request", post_request)
        self.worker: Any = SyncWorker(1, os.getpid(), [], None, 30, cfg, Logger(cfg))  # type: ignore[arg-type]
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        watch_error_handling(self.worker, self.recorder, self.errors)

    def __enter__(self) -> Bench:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._listener.close()
        self.worker.tmp._tmp.close()

    def send(self, raw: bytes, app: App, *, client_leaves: bool = False) -> bytes:
        """Handle one connection with these bytes in the worker. Return the bytes that are sent back."""
        client, server = socket.socketpair()
        with client, server:
            client.sendall(raw)
            if client_leaves:
                client.close()
            else:
                client.shutdown(socket.SHUT_WR)
            self.worker.wsgi = app
            self.worker.handle(self._listener, server, ("127.0.0.1", 1))
            return b"" if client_leaves else b"".join(iter(lambda: client.recv(65536), b""))

    def get(self, path: bytes, app: App) -> bytes:
        """Return the response to a GET request."""
        return self.send(GET % path, app)


def interruption(handler: str, heartbeat_age: float = 0.0, timeout: int = 30) -> SystemExit:
    """Return the exception that ``handle_abort`` or ``handle_quit`` of gunicorn's workers raises.

    The last heartbeat of the worker is ``heartbeat_age`` seconds old. ``timeout`` is the setting of gunicorn.
    """
    cfg = Config()
    cfg.set("timeout", timeout)
    cfg.set("loglevel", "critical")
    worker: Any = SyncWorker(1, os.getpid(), [], None, 15, cfg, Logger(cfg))  # type: ignore[arg-type]
    worker.tmp.close()
    worker.tmp = SimpleNamespace(last_update=lambda: time.monotonic() - heartbeat_age)
    try:
        getattr(worker, handler)(0, None)
    except SystemExit as raised:
        return raised
    raise AssertionError("the handler has returned")


class Sink:
    """A socket that takes everything."""

    def sendall(self, data: bytes, flags: int = 0) -> None:
        """Ignore the data."""


def handled(raw: bytes = HAMMERED, status: str = "200 OK") -> tuple[Any, Any, Any]:
    """Return gunicorn's request, environ and response of a request that was answered with two bytes."""
    request = next(RequestParser(DEFAULTS, iter([raw]), ("127.0.0.1", 1)))
    sink: Any = Sink()
    response, environ = create(request, sink, ("127.0.0.1", 1), ("127.0.0.1", 80), DEFAULTS)
    response.start_response(status, [("Content-Type", "text/plain"), ("Content-Length", "2")])
    response.write(b"ok")
    response.close()
    return request, environ, response
