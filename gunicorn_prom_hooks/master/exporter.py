"""The exporter: a thread of the master that holds the metrics port and answers scrapes."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from ipaddress import IPv6Address, ip_address
from typing import Any, Final, NamedTuple

from ..guard import Guard
from ..native import new_lock, original
from .auth import Credentials
from .connections import Connections, Service
from .forklock import ForkLock
from .http import Exchange, Reply, Wish, refusal
from .pages import Pages
from .rendering import Renderings
from .tls import Channel, Plain, Tls
from .waker import Waker

RETRY_SECONDS: Final = 1.0
STOP_SECONDS: Final = 2.0
BACKLOG: Final = 1024
SEND_BUFFER_BYTES: Final = 256 * 1024
"""The kernel would give each client that does not read several megabytes."""


class Access(NamedTuple):
    """Who gets what, and how. A reload replaces it as a whole.

    Attributes:
        credentials: what a client has to send.
        context: TLS; None for plain HTTP.
        pages: what there is to see.
    """

    credentials: Credentials
    context: ssl.SSLContext | None
    pages: Pages

    @property
    def is_open(self) -> bool:
        """Whether anybody may read, and everybody in between too."""
        return self.context is None and not self.credentials.wanted


class Exporter:
    """Serves pages on one address until it is stopped. A port that is taken is tried again until it is free.

    Attributes:
        access: who gets what; may be replaced at any time, and counts from the next request or connection on.

    Args:
        ready: whether the server can take requests; called without the lock.
        lock: held while anything is logged, and while a client is accepted.
        log: gunicorn's logger.

    Raises:
        OSError: the address is a name that nobody knows.
    """

    def __init__(
        self,
        access: Access,
        ready: Callable[[], bool],
        lock: ForkLock,
        guard: Guard,
        log: Any,
        address: str,
        port: int,
    ) -> None:
        self.access = access
        self.address = address
        self.port = port
        self._ready = ready
        self._lock = lock
        self._guard = guard
        self._log = log
        self._listener: Any = None
        self._connections: Connections | None = None
        # Here and not in the thread: looking up a name takes locks of the C library that a fork must not copy.
        self._candidates = original("socket", "getaddrinfo")(address, port, 0, original("socket", "SOCK_STREAM"))
        self._waker = Waker()
        self._stopping = False
        self._done = new_lock()

    @property
    def where(self) -> str:
        """The address and port, as in a URL."""
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"

    @property
    def url(self) -> str:
        """Where the metrics are."""
        return f"{'http' if self.access.context is None else 'https'}://{self.where}/metrics"

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        return all(_is_loopback(sockaddr[0]) for *_, sockaddr in self._candidates)

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
        """Ends the thread and closes its sockets. A rendering in progress is not waited for."""
        self._stopping = True
        self._waker.wake()
        if self._done.acquire(timeout=STOP_SECONDS):
            self._waker.close()

    def close_in_child(self) -> None:
        """Lets go of the port and the clients in a forked child, where there is no such thread."""
        if self._connections is not None:
            self._connections.close()
        elif self._listener is not None:
            self._listener.close()
        self._waker.close_in_child()

    def _run(self) -> None:
        try:
            while self._listener is not None or self._bind_patiently():
                if self._serve():
                    return
        finally:
            self._done.release()

    def _serve(self) -> bool:
        """Serves until it is stopped. False if it failed, with the port given up, to be bound again."""
        renderings = Renderings(self._render, self._waker.wake)
        service = Service(self._channel, self._answer, renderings, lambda: self._stopping)
        self._connections = Connections(self._listener, self._waker, self._lock, service)
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
        poll.register(self._waker.fd, original("select", "POLLIN"))
        while not self._stopping:
            poll.poll(RETRY_SECONDS * 1000)
            self._waker.drain()  # of a rendering that was on its way when the port was given up
            with self._lock.hold():
                if not self._stopping and self._bind() is None:
                    return True
        return False

    def _bind(self) -> OSError | None:
        """Binds the first address that can be bound; the error of the last one if none can."""
        error: OSError | None = None
        for candidate in self._candidates:
            error = self._bind_one(*candidate)
            if error is None:
                self._say("info", "gunicorn_prom_hooks: metrics at %s", self.url)
                return None
        return error

    def _bind_one(self, family: int, kind: int, protocol: int, _: str, sockaddr: object) -> OSError | None:
        try:
            listener = original("socket", "socket")(family, kind, protocol)
        except OSError as error:  # no IPv6 here
            return error
        try:
            listener.setsockopt(original("socket", "SOL_SOCKET"), original("socket", "SO_REUSEADDR"), 1)
            listener.setsockopt(original("socket", "SOL_SOCKET"), original("socket", "SO_SNDBUF"), SEND_BUFFER_BYTES)
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

    def _channel(self) -> Channel:
        context = self.access.context
        return Plain() if context is None else Tls(context, self._lock.hold)

    def _render(self, wishes: Iterable[Wish]) -> Mapping[Wish, Reply]:
        return self.access.pages.render(wishes)

    def _answer(self, raw: bytes) -> tuple[Reply | Wish, bool]:
        access = self.access
        try:
            exchange = Exchange(
                raw,
                access.credentials,
                self._ready,
                status_paths=access.pages.paths,
                local_only=self.is_local and access.is_open,
            )
        except Exception:  # noqa: BLE001 - one bad scrape must not end the thread
            self._failed("scrape")
            return refusal(HTTPStatus.INTERNAL_SERVER_ERROR), False
        return exchange.outcome, exchange.head_only

    def _failed(self, where: str) -> None:
        with self._lock.hold():
            self._guard.failed(where)


def _is_loopback(host: object) -> bool:
    try:
        address = ip_address(str(host).partition("%")[0])
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback
