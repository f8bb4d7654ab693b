"""The listening sockets of the exporter: one per address of the configured name."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from ipaddress import IPv6Address, ip_address
from typing import Any, Final, NamedTuple

from ..concurrency import unpatched

RETRY_SECONDS: Final = 1.0
"""Time between two attempts to bind an address."""
BACKLOG: Final = 1024
SEND_BUFFER_BYTES: Final = 256 * 1024
"""Without it the kernel would buffer several megabytes for each client that does not read."""


class Candidate(NamedTuple):
    """An address to bind: family, type and protocol of the socket, and the address as ``bind`` takes it."""

    family: int
    kind: int
    protocol: int
    sockaddr: Any

    @property
    def where(self) -> str:
        """Return address and port, as in a URL."""
        return where(self.sockaddr[0], self.sockaddr[1])


class Attempt(NamedTuple):
    """The result of one call of ``Listeners.bind``.

    Attributes:
        bound: addresses whose socket listens since this call.
        failed: addresses without a socket, and the error of each.
    """

    bound: list[Candidate]
    failed: list[tuple[Candidate, OSError]]


class Listeners:
    """The listening sockets of all addresses. An address that is taken or absent does not affect the others.

    Attributes:
        open: listening sockets by file descriptor, non-blocking and not patched by gevent.

    Args:
        candidates: the addresses; one that comes twice is bound once.
    """

    def __init__(self, candidates: Iterable[Candidate]) -> None:
        self.open: dict[int, Any] = {}
        self._candidates = list(dict.fromkeys(candidates))
        self._bound: dict[Candidate, Any] = {}
        self._next_try = 0.0

    @classmethod
    def of_name(cls, address: str, port: int) -> Listeners:
        """Return the listeners of a name or an address.

        Not for threads: looking up a name takes locks of the C library that a fork must not copy.

        Raises:
            OSError: the name has no address.
        """
        found = unpatched("socket", "getaddrinfo")(address, port, 0, unpatched("socket", "SOCK_STREAM"))
        return cls(Candidate(family, kind, protocol, sockaddr) for family, kind, protocol, _, sockaddr in found)

    @property
    def is_single(self) -> bool:
        """Return whether there is only one address."""
        return len(self._candidates) == 1

    @property
    def is_local(self) -> bool:
        """Return whether all addresses are loopback addresses."""
        return all(_is_loopback(candidate.sockaddr[0]) for candidate in self._candidates)

    @property
    def next_try(self) -> float | None:
        """Return the monotonic time of the next call of ``bind``, in seconds; None if every address is bound."""
        return self._next_try if len(self._bound) < len(self._candidates) else None

    def bind(self) -> Attempt:
        """Try each address that has no socket yet."""
        attempt = Attempt([], [])
        for candidate in self._candidates:
            if candidate in self._bound:
                continue
            try:
                sock = self._listen(candidate)
            except OSError as error:
                attempt.failed.append((candidate, error))
            else:
                self._bound[candidate] = self.open[sock.fileno()] = sock
                attempt.bound.append(candidate)
        self._next_try = time.monotonic() + RETRY_SECONDS
        return attempt

    def close(self) -> None:
        """Close every socket. In a forked child too."""
        for sock in list(self._bound.values()):
            with contextlib.suppress(Exception):
                sock.close()
        self._bound.clear()
        self.open.clear()
        self._next_try = time.monotonic() + RETRY_SECONDS

    def _listen(self, candidate: Candidate) -> Any:
        family, kind, protocol, sockaddr = candidate
        sock = unpatched("socket", "socket")(family, kind, protocol)  # an OSError where there is no such family
        try:
            level = unpatched("socket", "SOL_SOCKET")
            sock.setsockopt(level, unpatched("socket", "SO_REUSEADDR"), 1)
            sock.setsockopt(level, unpatched("socket", "SO_SNDBUF"), SEND_BUFFER_BYTES)
            if self._shares_wildcard(candidate):
                sock.setsockopt(unpatched("socket", "IPPROTO_IPV6"), unpatched("socket", "IPV6_V6ONLY"), 1)
            sock.setblocking(False)
            sock.bind(sockaddr)
            sock.listen(BACKLOG)
        except BaseException:
            sock.close()
            raise
        return sock

    def _shares_wildcard(self, candidate: Candidate) -> bool:
        """Return whether this is ``::`` beside addresses of IPv4, whose port it would take.

        Alone, ``::`` keeps the system's default: on Linux it then accepts IPv4 as well.
        """
        others = [other for other in self._candidates if other.family != candidate.family]
        return candidate.family == unpatched("socket", "AF_INET6") and candidate.sockaddr[0] == "::" and bool(others)


def where(address: str, port: int) -> str:
    """Return address and port as in a URL."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _is_loopback(host: object) -> bool:
    try:
        address = ip_address(str(host).partition("%")[0])
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback
