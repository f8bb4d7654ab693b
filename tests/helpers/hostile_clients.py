"""A hostile client, as a program: attacks the port until it is ended. ``python hostile.py ATTACK PORT``.

It says "ready" when it has done its worst once. One thread, so that it does not take more than one core itself.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator

GET = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
HELLO = bytes.fromhex("160301020001") + b"\0\1\xfc\3\3"
"""The beginning of a TLS handshake."""
MANY = 300

Sockets = list[socket.socket]


def connect(port: int) -> socket.socket:
    """Return a socket that is connecting, and does not block."""
    sock = socket.socket()
    sock.setblocking(False)
    sock.connect_ex(("127.0.0.1", port))
    return sock


def say(sock: socket.socket, data: bytes) -> bool:
    """Send as much as the socket takes. Return False if the connection is gone."""
    try:
        sock.send(data)
    except (BlockingIOError, InterruptedError):
        return True
    except OSError:
        return False
    return True


def is_closed(sock: socket.socket) -> bool:
    """Return whether the server has closed the connection without sending anything."""
    try:
        return sock.recv(1, socket.MSG_PEEK) == b""
    except (BlockingIOError, InterruptedError):
        return False
    except OSError:
        return True


def keep_open(port: int, go_on: Callable[[socket.socket], bool]) -> Iterator[None]:
    """Keep many connections open, call ``go_on`` with each in turn, and replace those that are gone."""
    socks = [connect(port) for _ in range(MANY)]
    for number in itertools.count():
        at = number % MANY
        if not go_on(socks[at]):
            socks[at].close()
            socks[at] = connect(port)
        if at == MANY - 1:
            time.sleep(0.05)
            yield


def once_each(port: int, data: bytes, *, reset: bool = False, half_close: bool = False) -> Iterator[None]:
    """Connect, send the data and disconnect, again and again."""
    socks: Sockets = []
    for number in itertools.count():
        sock = connect(port)
        if reset:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if data:
            sock.setblocking(True)
            with contextlib.suppress(OSError):
                sock.sendall(data)
        if half_close:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_WR)
        socks.append(sock)
        if len(socks) > (MANY if half_close else 0):
            socks.pop(0).close()
        if number % 100 == 99:
            yield


def slow_readers(port: int) -> Iterator[None]:
    """Request the page with the smallest receive buffer, and read nothing."""
    socks: Sockets = []
    while True:
        for _ in range(20):
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            sock.settimeout(1.0)
            with contextlib.suppress(OSError):
                sock.connect(("127.0.0.1", port))
                sock.sendall(GET)
            socks.append(sock)
        for sock in socks[:-MANY]:
            sock.close()
        del socks[:-MANY]
        time.sleep(0.02)
        if len(socks) >= MANY:
            yield


def scrapes(port: int) -> Iterator[None]:
    """Request whole pages in many formats, as fast as they come, on many connections."""
    socks: Sockets = []
    for number in itertools.count():
        sock = socket.create_connection(("127.0.0.1", port), 10)
        version = f"0.0.{number}"
        with contextlib.suppress(OSError):
            sock.sendall(GET[:-2] + f"Accept: application/openmetrics-text;version={version}\r\n\r\n".encode())
        socks.append(sock)
        if len(socks) > 30:
            with contextlib.suppress(OSError), socks.pop(0) as oldest:
                while oldest.recv(1 << 20):
                    pass
            yield


ATTACKS: dict[str, Callable[[int], Iterator[None]]] = {
    "idle": lambda port: keep_open(port, lambda sock: not is_closed(sock)),
    "slow_writers": lambda port: keep_open(port, lambda sock: not is_closed(sock) and say(sock, b"G")),
    "slow_readers": slow_readers,
    "scrapes": scrapes,
    "connect_close": lambda port: once_each(port, b""),
    "reset": lambda port: once_each(port, GET, reset=True),
    "garbage": lambda port: once_each(port, os.urandom(3000) + b"\r\n\r\n"),
    "tls_garbage": lambda port: once_each(port, HELLO + os.urandom(600)),
    "huge_headers": lambda port: once_each(port, b"GET /metrics HTTP/1.1\r\n" + b"X: " + b"x" * 60_000),
    "half_closed": lambda port: once_each(port, b"GET /metrics HTT", half_close=True),
}


def mixed(port: int) -> Iterator[None]:
    """Run all other attacks but ``scrapes`` in turn."""
    running = [attack(port) for name, attack in ATTACKS.items() if name not in ("scrapes", "mixed")]
    while True:
        for attack in running:
            next(attack)
        time.sleep(0.2)
        yield


ATTACKS["mixed"] = mixed

if __name__ == "__main__":
    for number, _ in enumerate(ATTACKS[sys.argv[1]](int(sys.argv[2]))):
        if number == 0:
            print("ready", flush=True)  # noqa: T201 - it is what the test waits for
