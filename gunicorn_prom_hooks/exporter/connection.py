"""One client of the exporter: its request so far, then what is still to be sent to it."""

from __future__ import annotations

import contextlib
import time
from collections import Counter, deque
from collections.abc import Collection
from enum import Enum
from ipaddress import ip_address
from typing import Any, Final

from ..concurrency import unpatched
from .http import RenderKey, Reply
from .tls import Transport

MAX_HEAD_BYTES: Final = 16 * 1024
RECEIVE_BYTES: Final = 16 * 1024
TURN_BYTES: Final = 512 * 1024
"""What is sent to one client before it is the others' turn."""
HEAD_SECONDS: Final = 5.0
BODY_SECONDS: Final = 20.0
LINGER_SECONDS: Final = 2.0
"""How long a client has for its request, the TLS handshake included, for the answer, and for closing after it."""


class State(Enum):
    """What a client is at: to send its request, to wait for the answer, to take it, or done with it."""

    READING = 0
    WAITING = 1
    WRITING = 2
    LINGERING = 3


class Client:
    """A connection and what has come of it. All calls return at once.

    Args:
        sock: non-blocking.
        peer: address as ``accept`` gives it.
        channel: TLS, or none.
    """

    def __init__(self, sock: Any, peer: Any, transport: Transport) -> None:
        self.sock = sock
        self.peer_key = peer_key(peer)
        self.state = State.READING
        self.since = time.monotonic()
        """When it came to be in this state."""
        self.deadline = self.since + HEAD_SECONDS
        self.head = bytearray()
        self.key: RenderKey | None = None
        self.head_only = False
        self.watched = 0
        """What it is polled for."""
        self.body = b""
        """Of the answer, shared with others that have the same one."""
        self._transport = transport
        self._parts: deque[memoryview] = deque()
        self._sealed = memoryview(b"")

    @property
    def wants_to_write(self) -> bool:
        """Whether something is to be sent."""
        return bool(self._sealed or self._parts)

    def read(self) -> bool:
        """Takes what has come. False if nothing more will.

        Raises:
            OSError: the connection is broken, or there is nothing yet.
        """
        data = self.sock.recv(RECEIVE_BYTES)
        if not data:
            return False
        if self.state is State.READING:
            try:
                self.head += self._transport.feed(data)
            finally:
                self._sealed = memoryview(bytes(self._sealed) + self._transport.outgoing())
                with contextlib.suppress(OSError):
                    self._flush()
        return True

    def wait(self, key: RenderKey) -> None:
        """What it wants is to be rendered."""
        self._enter(State.WAITING, BODY_SECONDS)
        self.key = key
        self.head.clear()

    def answer(self, reply: Reply) -> None:
        """What is to be sent to it."""
        self._enter(State.WRITING, BODY_SECONDS)
        self.key = None
        self.head.clear()
        self._parts.append(memoryview(reply.head))
        if not self.head_only and reply.body:
            self.body = reply.body
            self._parts.append(memoryview(reply.body))

    def write(self) -> None:
        """Sends as much as goes; after the last byte says so, and lingers.

        Raises:
            OSError: the connection is broken, or nothing goes at the moment.
        """
        budget = TURN_BYTES
        while budget > 0:
            if not self._sealed:
                if not self._parts:
                    if self.state is State.WRITING:
                        self._linger()
                    return
                part = self._parts.popleft()
                piece, rest = part[: self._transport.piece_bytes], part[self._transport.piece_bytes :]
                if rest:
                    self._parts.appendleft(rest)
                self._sealed = self._transport.encrypt(piece)
            budget -= self._flush()

    def _flush(self) -> int:
        sent = int(self.sock.send(self._sealed)) if self._sealed else 0
        self._sealed = self._sealed[sent:]
        return sent

    def _linger(self) -> None:
        # To close with bytes unread would reset the connection, and the client could lose the answer.
        self._enter(State.LINGERING, LINGER_SECONDS)
        self.body = b""
        farewell = self._transport.finish()
        if farewell:
            with contextlib.suppress(BlockingIOError):
                self.sock.send(farewell)
        self.sock.shutdown(unpatched("socket", "SHUT_WR"))

    def _enter(self, state: State, seconds: float) -> None:
        self.state = state
        self.since = time.monotonic()
        self.deadline = self.since + seconds


def peer_key(peer: Any) -> str:
    """Whom a peer's address stands for: of IPv6 the network, since whoever has one address there has all of them."""
    try:
        address = ip_address(str(peer[0]).partition("%")[0])
    except (ValueError, TypeError, IndexError):
        return ""
    if address.version == 4:
        return str(address)
    return str(address.ipv4_mapped or int(address) >> 64)


def next_to_evict(clients: Collection[Client], new_peer: str = "") -> Client | None:
    """Return the client to close for a new one, or None if the new one has to be closed.

    Clients that have their response are closed first, the oldest before the others. Next come clients that send their
    request or take their response: of those from the peer with most connections, the one that has done so for
    longest. So each client has some time, however many connect. Clients waiting for a response are evicted only if
    all of them wait and the new peer has fewer connections.

    Args:
        clients: all open connections.
        new_peer: ``peer_key`` of the new client.
    """
    lingering = [client for client in clients if client.state is State.LINGERING]
    if lingering:
        return min(lingering, key=lambda client: client.since)
    peers = Counter(client.peer_key for client in clients)
    slow = [client for client in clients if client.state is not State.WAITING]
    if slow:
        return min(slow, key=lambda client: (-peers[client.peer_key], client.since))
    crowded = [client for client in clients if peers[client.peer_key] > peers[new_peer] + 1]
    return max(crowded, key=lambda client: (peers[client.peer_key], client.since)) if crowded else None


def over_memory_limit(clients: Collection[Client], limit: int) -> list[Client]:
    """Return the clients to close so that no more than ``limit`` bytes of response bodies are kept.

    A body counts once, however many clients it goes to. The oldest are closed first, the newest never.
    """
    readers: dict[int, list[Client]] = {}
    for client in sorted(clients, key=lambda client: client.deadline):
        if client.body:
            readers.setdefault(id(client.body), []).append(client)
    groups = list(readers.values())
    held = sum(len(group[0].body) for group in groups)
    evicted = []
    for group in groups[:-1]:
        if held <= limit:
            break
        held -= len(group[0].body)
        evicted += group
    return evicted
