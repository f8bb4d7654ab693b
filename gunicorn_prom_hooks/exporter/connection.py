"""The connection of one client: request received so far, response still to be sent, and eviction."""

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
"""Bytes sent to one client before the loop serves the others."""
HEAD_SECONDS: Final = 5.0
BODY_SECONDS: Final = 20.0
LINGER_SECONDS: Final = 2.0
"""Limits for receiving the request (TLS handshake included), for the response, and for the close after it."""


class State(Enum):
    """State of a connection: reads the request, waits for rendering, writes the response, or waits for the close."""

    READING = 0
    WAITING = 1
    WRITING = 2
    LINGERING = 3


class Client:
    """A client's connection. No call blocks.

    Args:
        sock: non-blocking.
        peer: address as returned by ``accept``.
        transport: TLS or plain.
    """

    def __init__(self, sock: Any, peer: Any, transport: Transport) -> None:
        self.sock = sock
        self.peer_key = peer_key(peer)
        self.state = State.READING
        self.since = time.monotonic()
        """Monotonic time at which the state was entered, in seconds."""
        self.deadline = self.since + HEAD_SECONDS
        self.head = bytearray()
        self.key: RenderKey | None = None
        self.head_only = False
        self.watched = 0
        """Events that the socket is polled for."""
        self.body = b""
        """Body of the response, shared between clients with the same one."""
        self._transport = transport
        self._parts: deque[memoryview] = deque()
        self._encrypted = memoryview(b"")

    @property
    def wants_to_write(self) -> bool:
        """Return whether bytes are to be sent."""
        return bool(self._encrypted or self._parts)

    def read(self) -> bool:
        """Receive bytes; return False at the end of the stream.

        Raises:
            OSError: the connection is broken, or nothing has arrived yet.
        """
        data = self.sock.recv(RECEIVE_BYTES)
        if not data:
            return False
        if self.state is State.READING:
            try:
                self.head += self._transport.feed(data)
            finally:
                self._encrypted = memoryview(bytes(self._encrypted) + self._transport.outgoing())
                with contextlib.suppress(OSError):
                    self._flush()
        return True

    def wait(self, key: RenderKey) -> None:
        """Enter the state WAITING, for the rendering of ``key``."""
        self._enter(State.WAITING, BODY_SECONDS)
        self.key = key
        self.head.clear()

    def answer(self, reply: Reply) -> None:
        """Enter the state WRITING, with the response to send."""
        self._enter(State.WRITING, BODY_SECONDS)
        self.key = None
        self.head.clear()
        self._parts.append(memoryview(reply.head))
        if not self.head_only and reply.body:
            self.body = reply.body
            self._parts.append(memoryview(reply.body))

    def write(self) -> None:
        """Send as much as possible; after the last byte close the sending side and linger.

        Raises:
            OSError: the connection is broken, or the kernel takes no bytes at the moment.
        """
        budget = TURN_BYTES
        while budget > 0:
            if not self._encrypted:
                if not self._parts:
                    if self.state is State.WRITING:
                        self._linger()
                    return
                part = self._parts.popleft()
                piece, rest = part[: self._transport.piece_bytes], part[self._transport.piece_bytes :]
                if rest:
                    self._parts.appendleft(rest)
                self._encrypted = self._transport.encrypt(piece)
            budget -= self._flush()

    def _flush(self) -> int:
        sent = int(self.sock.send(self._encrypted)) if self._encrypted else 0
        self._encrypted = self._encrypted[sent:]
        return sent

    def _linger(self) -> None:
        # Closing with unread bytes resets the connection, and the client could lose the response.
        self._enter(State.LINGERING, LINGER_SECONDS)
        self.body = b""
        close_notify = self._transport.finish()
        if close_notify:
            with contextlib.suppress(BlockingIOError):
                self.sock.send(close_notify)
        self.sock.shutdown(unpatched("socket", "SHUT_WR"))

    def _enter(self, state: State, seconds: float) -> None:
        self.state = state
        self.since = time.monotonic()
        self.deadline = self.since + seconds


def peer_key(peer: Any) -> str:
    """Return the key for per-client limits: the IPv4 address, or the /64 prefix of an IPv6 address."""
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
    all of them wait and the new peer has fewer connections. A new client never evicts one whose peer has fewer
    connections than its own: else many that wait would evict each other client between connection and request.

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
        victim = min(slow, key=lambda client: (-peers[client.peer_key], client.since))
        return victim if peers[victim.peer_key] >= peers[new_peer] else None
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
