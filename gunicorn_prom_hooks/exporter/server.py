"""The exporter: a thread of the master that holds the metrics port and answers scrapes."""

from __future__ import annotations

import errno
import ssl
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from socket import SocketType
from typing import Any, Final, NamedTuple

from ..concurrency import ForkLock, WakeupPipe, new_lock, unpatched
from ..errors import ErrorReporter
from .auth import Credentials
from .bound_sockets import RETRY_SECONDS, Attempt, Listeners, where
from .event_loop import Connections, Service
from .handlers import Renderer
from .http import RenderKey, Reply, RequestParser, error_response
from .render_queue import RenderQueue
from .tls import Plain, Tls, Transport

STOP_SECONDS: Final = 2.0
CLOSE: Final = SocketType.close
"""``close`` of the operating system's sockets, which those of Python and of gevent are derived from."""
_ABSENT: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})
"""Errors of an address that this machine does not have, IPv6 where it is switched off."""


class ExporterConfig(NamedTuple):
    """Who gets what, and how. A reload replaces it as a whole.

    Attributes:
        credentials: what a client has to send.
        context: TLS; None for plain HTTP.
        renderer: renders metrics and status page.
    """

    credentials: Credentials
    context: ssl.SSLContext | None
    renderer: Renderer

    @property
    def is_unprotected(self) -> bool:
        """Whether anybody may read, and everybody in between too."""
        return self.context is None and not self.credentials.wanted


class Exporter:
    """Serves pages at one name or address until it is stopped.

    A port that is taken is tried again every second. Without its thread it does not listen: ``start`` is to be called
    again where ``is_running`` is false.

    Attributes:
        config: who gets what; may be replaced at any time, and counts from the next request or connection on.

    Args:
        ready: whether the server can take requests; called without the lock.
        fork_lock: held while anything is logged, and while a client is accepted.
        log: gunicorn's logger.

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
        self._told: set[str] = set()
        """What has been logged as missing and has not come since: addresses, and the thread."""
        self._connections: Connections | None = None
        self._wakeup_pipe: WakeupPipe | None = None
        self._stopping = False
        self._running = new_lock()
        """Held by the thread, from before it is started."""

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        return self._listeners.is_local

    @property
    def is_running(self) -> bool:
        """Whether the thread is there."""
        return bool(self._running.locked())

    def start(self) -> None:
        """Bind, and start the thread; a real one, whatever gevent has made of the threading module.

        Where the system has no thread to give the port is closed again, and one line says so.
        """
        if self.is_running:
            return
        self._running.acquire()
        try:
            self._wakeup_pipe = self._wakeup_pipe or WakeupPipe()
            attempt = self._listeners.bind()
            unpatched("_thread", "start_new_thread")(self._run, (self._wakeup_pipe,))
        except Exception as error:  # noqa: BLE001 - no thread, memory or file descriptor; the server needs none of ours
            self._listeners.close()
            self._running.release()
            self._cannot_start(error)
        else:
            self._told.discard("thread")
            self._tell(attempt)

    def stop(self) -> None:
        """End the thread and close its sockets. A rendering in progress is not waited for."""
        self._stopping = True
        if self._wakeup_pipe is not None:
            self._wakeup_pipe.wake()
            if self._running.acquire(timeout=STOP_SECONDS):
                self._running.release()
                self._wakeup_pipe.close()

    def close_in_child(self) -> None:
        """Let go of the port and the clients in a forked child, where there is no such thread.

        Every worker does it. Each function that is called there has memory copied that is shared until then: hence the
        methods in C, without a function around them.
        """
        if self._connections is not None:
            for sock in self._connections.sockets():
                CLOSE(sock)
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
            self._running.release()

    def _serve(self, wakeup_pipe: WakeupPipe) -> bool:
        """Serve until it is stopped. False if it failed, with the port given up, to be bound again."""
        try:
            render_queue = RenderQueue(self._render, wakeup_pipe.wake, self._failed)
            service = Service(self._transport, self._answer, render_queue, lambda: self._stopping, self._bind_again)
            self._connections = Connections(self._listeners, wakeup_pipe, self._fork_lock, service)
            self._connections.serve()
            return True
        except Exception:  # noqa: BLE001 - whatever it is, there is to be an exporter
            self._failed("exporter")
            return self._stopping
        finally:
            if self._connections is not None:
                self._connections.close()
            self._connections = None
            self._listeners.close()

    def _bind_again(self) -> None:
        """Try the addresses that have no socket. With the lock held."""
        self._tell(self._listeners.bind())

    def _tell(self, attempt: Attempt) -> None:
        """Log what is served since this attempt, and, once, what is not."""
        named = self._listeners.is_single or (not attempt.failed and len(attempt.bound) == len(self._listeners.open))
        missing = {self.where if named else candidate.where: error for candidate, error in attempt.failed}
        for place, error in missing.items():
            if place not in self._told:
                self._told.add(place)
                absent = error.errno in _ABSENT and bool(self._listeners.open)
                self._say(
                    "info" if absent else "warning",
                    "gunicorn_prom_hooks: no metrics at %s yet: %s; trying again every second, the server goes on",
                    place,
                    error.strerror or error,
                )
        numeric = [candidate.where for candidate in attempt.bound]
        self._told.difference_update(numeric, [self.where] if numeric else ())
        for place in [self.where] if named and numeric else numeric:
            self._say("info", "gunicorn_prom_hooks: metrics at %s", self._url(place))

    def _cannot_start(self, error: Exception) -> None:
        self._errors.counts["exporter"] += 1
        if "thread" not in self._told:
            self._told.add("thread")
            self._say(
                "error",
                "gunicorn_prom_hooks: no metrics at %s: the exporter cannot start: %s; the next fork or reload tries "
                "again, the server goes on",
                self.where,
                error,
            )

    def _url(self, place: str) -> str:
        return f"{'http' if self.config.context is None else 'https'}://{place}/metrics"

    def _say(self, level: str, message: str, *args: object) -> None:
        try:
            getattr(self._log, level)(message, *args)
        except Exception:  # noqa: BLE001 - the user's logger may fail; the exporter must not for that
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
        except Exception:  # noqa: BLE001 - one bad scrape must not end the thread
            self._failed("scrape")
            return error_response(HTTPStatus.INTERNAL_SERVER_ERROR), False
        return parser.outcome, parser.head_only

    def _failed(self, where: str) -> None:
        with self._fork_lock.hold():
            self._errors.report(where)
