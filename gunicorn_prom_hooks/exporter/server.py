"""The exporter: a thread of the master that listens on the metrics port and answers scrapes."""

from __future__ import annotations

import errno
import ssl
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from socket import SocketType
from typing import Any, Final, NamedTuple

from ..concurrency import ForkLock, WakeupPipe, new_lock, start_thread, unpatched
from ..errors import ErrorReporter
from .auth import Credentials
from .bound_sockets import RETRY_SECONDS, Attempt, Listeners, where
from .event_loop import Connections, Service
from .http import RenderKey, Reply, RequestParser, error_response
from .render_queue import RenderQueue
from .renderer import Renderer
from .tls import Plain, Tls, Transport

STOP_SECONDS: Final = 2.0
CLOSE: Final = SocketType.close
"""``close`` of the C socket class, from which the sockets of Python and of gevent are derived."""
_ABSENT: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})
"""Errors for an address that this machine does not have, as IPv6 where it is disabled."""


class ExporterConfig(NamedTuple):
    """Configuration of the exporter. A reload replaces it as a whole.

    Attributes:
        credentials: credentials that a client has to send.
        context: TLS context; None for plain HTTP.
        renderer: renders metrics and status page.
    """

    credentials: Credentials
    context: ssl.SSLContext | None
    renderer: Renderer

    @property
    def is_unprotected(self) -> bool:
        """Return whether neither TLS nor credentials are required."""
        return self.context is None and not self.credentials.wanted


class Exporter:
    """HTTP server of the metrics, at one name or address, until it is stopped.

    A port that is taken is tried again every second. Without its thread it does not listen. ``start`` has to be
    called again while ``is_running`` is false.

    Attributes:
        config: may be replaced at any time; takes effect with the next request or connection.

    Args:
        ready: returns whether the server can take requests; called without the lock.
        fork_lock: held while anything is logged, and while a client is accepted.
        log: logger of the server.

    Raises:
        OSError: the address is a name that has no address.
    """

    def __init__(
        self,
        config: ExporterConfig,
        ready: Callable[[], bool],
        fork_lock: ForkLock,
        errors: ErrorReporter,
        log: Any,
        address: str,
        port: int,
    ) -> None:
        self.config = config
        self.where = where(address, port)
        self._ready = ready
        self._fork_lock = fork_lock
        self._errors = errors
        self._log = log
        self._listeners = Listeners.of_name(address, port)
        self._logged_missing: set[str] = set()
        """Addresses, and the thread, logged as missing and still missing."""
        self._connections: Connections | None = None
        self._wakeup_pipe: WakeupPipe | None = None
        self._stopping = False
        self._running = new_lock()
        """Held from before the thread starts until it ends."""

    @property
    def is_local(self) -> bool:
        """Return whether it listens on loopback addresses only."""
        return self._listeners.is_local

    @property
    def is_running(self) -> bool:
        """Return whether the thread is running."""
        return bool(self._running.locked())

    def start(self) -> None:
        """Bind, and start the thread, which is not patched by gevent.

        If no thread can be started, the port is closed again, and one line is logged.
        """
        if self.is_running:
            return
        self._running.acquire()
        try:
            self._wakeup_pipe = self._wakeup_pipe or WakeupPipe()
            attempt = self._listeners.bind()
            start_thread(self._run, self._wakeup_pipe)
        except Exception as error:  # noqa: BLE001 - no thread, memory or file descriptor: the server runs without the exporter
            self._listeners.close()
            self._running.release()
            self._log_start_failure(error)
        else:
            self._logged_missing.discard("thread")
            self._log_attempt(attempt)

    def stop(self) -> None:
        """End the thread and close its sockets. A rendering in progress is not waited for.

        After ``STOP_SECONDS`` the thread is left to itself, and ``is_running`` stays true until it has ended.
        """
        self._stopping = True
        if self._wakeup_pipe is not None:
            self._wakeup_pipe.wake()
            if self._running.acquire(timeout=STOP_SECONDS):
                self._running.release()
                self._wakeup_pipe.close()

    def close_in_child(self) -> None:
        """Close the sockets of the port and of the clients in a forked child, which has no exporter thread.

        Every worker does it. Each Python function called there copies memory that was shared until then. So the
        methods in C are called directly.
        """
        if self._connections is not None:
            for client in self._connections.open.values():  # no worker keeps a scrape open
                CLOSE(client.sock)
        for sock in self._listeners.open.values():
            CLOSE(sock)
        if self._wakeup_pipe is not None:
            self._wakeup_pipe.close_in_child()

    def _run(self, wakeup_pipe: WakeupPipe) -> None:
        try:
            while not self._serve(wakeup_pipe):
                unpatched("time", "sleep")(RETRY_SECONDS)
        finally:
            self._listeners.close()
            if self._stopping:  # ``stop`` may have given up
                wakeup_pipe.close()
            self._running.release()

    def _serve(self, wakeup_pipe: WakeupPipe) -> bool:
        """Serve until the exporter is stopped; return False after a failure, with the port closed for a new bind."""
        try:
            render_queue = RenderQueue(self._render, wakeup_pipe.wake, self._failed)
            service = Service(self._transport, self._answer, render_queue, lambda: self._stopping, self._bind_again)
            self._connections = Connections(self._listeners, wakeup_pipe, self._fork_lock, service)
            self._connections.serve()
            return True
        except Exception:  # noqa: BLE001 - the exporter starts again after any failure
            self._failed("exporter")
            return self._stopping
        finally:
            if self._connections is not None:
                self._connections.close()
            self._connections = None
            self._listeners.close()

    def _bind_again(self) -> None:
        """Try to bind the addresses without a socket. The caller holds the lock."""
        self._log_attempt(self._listeners.bind())

    def _log_attempt(self, attempt: Attempt) -> None:
        """Log the addresses bound by this attempt, and, once, those that could not be bound."""
        named = self._listeners.is_single or (not attempt.failed and len(attempt.bound) == len(self._listeners.open))
        missing = {self.where if named else candidate.where: error for candidate, error in attempt.failed}
        for place, error in missing.items():
            if place not in self._logged_missing:
                self._logged_missing.add(place)
                absent = error.errno in _ABSENT and bool(self._listeners.open)
                self._write_log(
                    "info" if absent else "warning",
                    "gunicorn_prom_hooks: no metrics at %s yet: %s; trying again every second, the server goes on",
                    place,
                    error.strerror or error,
                )
        numeric = [candidate.where for candidate in attempt.bound]
        self._logged_missing.difference_update(numeric, [self.where] if numeric else ())
        for place in [self.where] if named and numeric else numeric:
            self._write_log("info", "gunicorn_prom_hooks: metrics at %s", self._url(place))

    def _log_start_failure(self, error: Exception) -> None:
        self._errors.count("exporter")
        if "thread" not in self._logged_missing:
            self._logged_missing.add("thread")
            self._write_log(
                "error",
                "gunicorn_prom_hooks: no metrics at %s: the exporter cannot start: %s; the next fork or reload tries "
                "again, the server goes on",
                self.where,
                error,
            )

    def _url(self, place: str) -> str:
        return f"{'http' if self.config.context is None else 'https'}://{place}/metrics"

    def _write_log(self, level: str, message: str, *args: object) -> None:
        try:
            getattr(self._log, level)(message, *args)
        except Exception:  # noqa: BLE001 - a failing user logger must not stop the exporter
            self._errors.report("log")

    def _transport(self) -> Transport:
        context = self.config.context
        return Plain() if context is None else Tls(context, self._fork_lock)

    def _render(self, keys: Iterable[RenderKey]) -> Mapping[RenderKey, Reply]:
        return self.config.renderer.render(keys)

    def _answer(self, raw: bytes) -> tuple[Reply | RenderKey, bool]:
        config = self.config
        try:
            parser = RequestParser(
                raw,
                config.credentials,
                self._ready,
                status_paths=config.renderer.paths,
                local_only=self.is_local and config.is_unprotected,
            )
        except Exception:  # noqa: BLE001 - one failing request must not end the thread
            self._failed("scrape")
            return error_response(HTTPStatus.INTERNAL_SERVER_ERROR), False
        return parser.outcome, parser.head_only

    def _failed(self, where: str) -> None:
        with self._fork_lock.hold():
            self._errors.report(where)
