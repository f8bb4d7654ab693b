"""The exporter: a thread of the master that holds the metrics port and answers scrapes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from ..collectors import Page
from ..guard import Guard
from ..native import new_lock, original
from .connections import Connections
from .forklock import ForkLock
from .http import Exchange, refusal

RETRY_SECONDS: Final = 1.0
STOP_SECONDS: Final = 2.0
BACKLOG: Final = 128


class Exporter:
    """Serves a page on one address until it is stopped. A port that is taken is tried again until it is free.

    Args:
        page: what is rendered.
        lock: held while the page is rendered, and while anything is logged.
        log: gunicorn's logger.

    Raises:
        OSError: the address is a name that nobody knows.
    """

    def __init__(self, page: Page, lock: ForkLock, guard: Guard, log: Any, address: str, port: int) -> None:
        self.address = address
        self.port = port
        self._page = page
        self._lock = lock
        self._guard = guard
        self._log = log
        self._listener: Any = None
        self._connections: Connections | None = None
        # Here and not in the thread: looking up a name takes locks of the C library that a fork must not copy.
        self._candidates = original("socket", "getaddrinfo")(address, port, 0, original("socket", "SOCK_STREAM"))
        self._wake_read, self._wake_write = os.pipe()
        self._done = new_lock()

    @property
    def where(self) -> str:
        """The address and port, as in a URL."""
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"

    def start(self) -> None:
        """Binds, and starts the thread; a real one, whatever gevent has made of the threading module."""
        error = self._bind()
        if error is not None:
            self._say(
                "warning",
                "gunicorn_prom_hooks: no metrics at %s yet: %s; trying again every second, the server goes on",
                self.where,
                error.strerror or error,
            )
        self._done.acquire()
        original("_thread", "start_new_thread")(self._run, ())

    def stop(self) -> None:
        """Ends the thread and closes its sockets. Waits for it, but not for long."""
        with contextlib.suppress(OSError):
            os.write(self._wake_write, b"x")
        if self._done.acquire(timeout=STOP_SECONDS):
            self._close_pipe()

    def close_in_child(self) -> None:
        """Lets go of the port and the clients in a forked child, where there is no such thread."""
        if self._connections is not None:
            self._connections.close()
        elif self._listener is not None:
            self._listener.close()
        self._close_pipe()

    def _close_pipe(self) -> None:
        for fd in (self._wake_read, self._wake_write):
            with contextlib.suppress(OSError):
                os.close(fd)

    def _run(self) -> None:
        try:
            while self._listener is not None or self._bind_patiently():
                if self._serve():
                    return
        finally:
            self._done.release()

    def _serve(self) -> bool:
        """Serves until it is stopped. False if it failed, with the port given up, to be bound again."""
        self._connections = Connections(self._listener, self._wake_read, self._lock, self._answer)
        try:
            self._connections.serve()
            return True
        except Exception:  # noqa: BLE001 - whatever it is, there is to be an exporter
            self._failed("exporter")
            return False
        finally:
            self._connections.close()
            self._connections = self._listener = None

    def _bind_patiently(self) -> bool:
        """Makes the listening socket. False if the exporter was stopped before the port was free."""
        poll = original("select", "poll")()
        poll.register(self._wake_read, original("select", "POLLIN"))
        while not poll.poll(RETRY_SECONDS * 1000):
            with self._lock.hold():
                if self._bind() is None:
                    return True
        return False

    def _bind(self) -> OSError | None:
        """Binds the first address that can be bound; the error of the last one if none can."""
        error: OSError | None = None
        for candidate in self._candidates:
            error = self._bind_one(*candidate)
            if error is None:
                self._say("info", "gunicorn_prom_hooks: metrics at http://%s/metrics", self.where)
                return None
        return error

    def _bind_one(self, family: int, kind: int, protocol: int, _: str, sockaddr: object) -> OSError | None:
        try:
            listener = original("socket", "socket")(family, kind, protocol)
        except OSError as error:  # no IPv6 here
            return error
        try:
            listener.setsockopt(original("socket", "SOL_SOCKET"), original("socket", "SO_REUSEADDR"), 1)
            listener.setblocking(False)
            listener.bind(sockaddr)
            listener.listen(BACKLOG)
        except OSError as error:
            listener.close()
            return error
        self._listener = listener
        return None

    def _say(self, level: str, message: str, *args: object) -> None:
        try:
            getattr(self._log, level)(message, *args)
        except Exception:  # noqa: BLE001 - the user's logger may fail; the exporter must not for that
            self._guard.failed("log")

    def _answer(self, raw: bytes) -> bytes:
        try:
            return Exchange(raw, self._encode).answer
        except Exception:  # noqa: BLE001 - one bad scrape must not end the thread
            self._failed("scrape")
            return refusal(HTTPStatus.INTERNAL_SERVER_ERROR)

    def _encode(self, encoder: Callable[[Collector], bytes]) -> bytes:
        with self._lock.hold():
            view = self._page.look()
        return encoder(_Collected(list(self._page.collect_from(view))))

    def _failed(self, where: str) -> None:
        with self._lock.hold():
            self._guard.failed(where)


class _Collected(Collector):
    """Families that have been collected: making text of them needs no lock, and takes longer than collecting."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        """The families."""
        return self._families
