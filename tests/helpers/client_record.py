"""A client that records its requests, chosen at random under a seed, and the responses."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from tests.helpers.servers import Samples

GONE = "499"
PLAIN_METHODS = ("GET", "GET", "GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "PROPFIND", "BREW")
STATUSES = (200, 200, 200, 201, 204, 301, 304, 400, 403, 404, 410, 429, 500, 502, 503)
CONNECTIONS = 8


@dataclass
class ClientRecord:
    """Requests and errors that the metrics must show.

    Attributes:
        requests: by method, endpoint and status.
        failed: by method, endpoint and error type.
        handled: errors that reached gunicorn's own error handling, by type.
        invalid: requests that gunicorn refused, by the type of its exception.
        surprises: answers that were not what had been asked for.
    """

    requests: Counter[tuple[str, ...]] = field(default_factory=Counter)
    failed: Counter[tuple[str, ...]] = field(default_factory=Counter)
    handled: Counter[tuple[str, ...]] = field(default_factory=Counter)
    invalid: Counter[tuple[str, ...]] = field(default_factory=Counter)
    surprises: list[str] = field(default_factory=list)

    def differences(self, samples: Samples) -> dict[str, object]:
        """Return the differences between metrics and record, by metric."""
        found: dict[str, object] = {}
        for name, record, labels in (
            ("gunicorn_requests_total", self.requests, ("method", "endpoint", "status")),
            ("gunicorn_failed_requests_total", self.failed, ("method", "endpoint", "error_type")),
            ("gunicorn_worker_error_handling_total", self.handled, ("error_type",)),
            ("gunicorn_invalid_requests_total", self.invalid, ("error_type",)),
        ):
            page: Counter[tuple[str, ...]] = Counter()
            for have, value in samples.all(name):
                page[tuple(have[label] for label in labels)] += int(value)
            if +page != +record:
                found[name] = {"page": page - record, "record": record - page}
        for name in ("gunicorn_requests_in_progress", "gunicorn_exporter_errors_total"):
            if samples.sum(name):
                found[name] = samples.all(name)
        return found


@dataclass(frozen=True)
class Server:
    """What the client has to know of the server.

    Attributes:
        port: of the application.
        bells: the folder where the application rings.
        refused: what it refuses to parse, with the status and type of its exception.
        keepalive: whether a connection takes a second request; gunicorn's sync worker closes it after the first.
        reads_on: whether the server reads what the application has left of a body, to find the next request.
        tells: whether what it refuses is told: neither gunicorn's asgi worker nor the tornado worker calls anything.
        without: exchanges that are not had with it.
        pipelines_bodies: whether it takes requests with bodies one behind the other.
        cafe: the endpoint of ``/caf%C3%A9``: an ASGI application is told the path decoded.
        late_is_handled: whether an exception in the middle of a response is one that reaches the server's handling.
    """

    port: int
    bells: Path
    refused: Mapping[bytes, tuple[int, str]]
    keepalive: bool = True
    reads_on: bool = True
    tells: bool = True
    without: Collection[str] = ()
    late_is_handled: bool = False
    pipelines_bodies: bool = True
    cafe: str = "/caf%C3%A9"


class Connection:
    """A connection, and the responses that come back on it."""

    def __init__(self, port: int, receive_buffer: int = 0) -> None:
        self.sock = socket.socket()
        self.sock.settimeout(30)
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.connect(("127.0.0.1", port))
        self._file: BinaryIO = self.sock.makefile("rb")

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()
        self.sock.close()

    def hang_up(self) -> None:
        """Reset the connection."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def response(self, method: str) -> tuple[int, bool]:
        """Return the status of the next response, 0 if there is none, and whether the connection stays."""
        status, headers = self._head()
        while 100 <= status < 200:
            status, headers = self._head()
        if method == "HEAD" or status in (0, 204, 304):
            pass
        elif "content-length" in headers:
            self._file.read(int(headers["content-length"]))
        elif headers.get("transfer-encoding") == "chunked":
            while size := int(self._file.readline() or b"0", 16):
                self._file.read(size + 2)
            self._file.readline()
        else:
            self._file.read()
        return status, bool(status) and headers.get("connection") != "close"

    def _head(self) -> tuple[int, dict[str, str]]:
        line = self._file.readline()
        headers = {}
        while (field_ := self._file.readline()) not in (b"\r\n", b""):
            name, _, value = field_.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip().lower()
        return int(line.split()[1]) if line else 0, headers


@dataclass(frozen=True)
class Asked:
    """One request: its bytes, and what it will be in the record."""

    method: str
    endpoint: str
    status: int
    data: bytes


class Client:
    """One connection after the other, each with something else on it."""

    def __init__(self, server: Server, rng: random.Random) -> None:
        self.record = ClientRecord()
        self._server = server
        self._rng = rng
        self._sent = 0

    def run(self, requests: int) -> None:
        """Send this number of requests, or a few more."""
        exchanges: tuple[tuple[Callable[[], None], int], ...] = (
            (self.one_after_the_other, 30),
            (self.pipelined, 12),
            (self.raising, 6),
            (self.late, 4),
            (self.leaving, 6),
            (self.leaving_a_large_one, 4),
            (self.leaving_an_upload, 6),
            (self.refused, 6),
            (self.refused_body, 3),
            (self.refused_body_unread, 3),
            (self.silent, 3),
        )
        actions = [
            action for action, weight in exchanges for _ in range(weight) if action.__name__ not in self._server.without
        ]
        while self._sent < requests:
            self._rng.choice(actions)()

    def plain(self) -> Asked:
        """Return a request to which the application has an answer."""
        rng = self._rng
        method, status = rng.choice(PLAIN_METHODS), rng.choice(STATUSES)
        path, endpoint = rng.choice(
            (
                ("/", "/"),
                ("/about", "/about"),
                (f"/items/{rng.randrange(1000)}", "/items/:id"),
                (f"/users/{uuid.UUID(int=rng.getrandbits(128))}/posts", "/users/:id/posts"),
                ("/caf%C3%A9", self._server.cafe),
                ("/chunks", "/chunks"),
                ("/echo", "/echo"),
            )
        )
        if path == "/chunks":
            status = 200
        head = f"{method} {path}?status={status} HTTP/1.1\r\nHost: x\r\n"
        body = b""
        if path == "/echo" or rng.random() < 0.2:
            content = rng.randbytes(rng.choice((1, 100, 5000, 30_000)))
            if rng.random() < 0.5:
                head += f"Content-Length: {len(content)}\r\n"
                body = content
            else:
                head += "Transfer-Encoding: chunked\r\n"
                half = len(content) // 2
                body = b"".join(
                    b"%X\r\n%b\r\n" % (len(part), part) for part in (content[:half], content[half:]) if part
                )
                body += b"0\r\n\r\n"
            if path == "/echo" and rng.random() < 0.3:
                head += "Expect: 100-continue\r\n"
        return Asked(method, endpoint, status, head.encode() + b"\r\n" + body)

    def saw(self, asked: Asked, status: int) -> None:
        """Record a response."""
        if status != asked.status:
            self.record.surprises.append(f"{status} to {asked.data[:200]!r}")
        endpoint = "<unmatched>" if status == 404 else asked.endpoint
        method = "<other>" if asked.method == "BREW" else asked.method
        self.record.requests[method, endpoint, str(status)] += 1
        if status >= 500:
            self.record.failed[method, endpoint, f"HTTP {status}"] += 1

    def one_after_the_other(self) -> None:
        """Send up to five requests on a connection, each after the last response. One may ask for its close."""
        with self._connection() as connection:
            for _ in range(self._rng.randint(1, 5)):
                asked = self.plain()
                last = self._rng.random() < 0.2
                goodbye = b"Host: x\r\nConnection: close\r\n" if last else b"Host: x\r\n"
                self._send(connection, asked.data.replace(b"Host: x\r\n", goodbye, 1))
                status, stays = connection.response(asked.method)
                self.saw(asked, status)
                if stays != (self._server.keepalive and not last):
                    self.record.surprises.append(f"connection stays: {stays}")
                if not stays:
                    break

    def pipelined(self) -> None:
        """Send up to six requests at once. Without keep-alive only the first one is served."""
        count = self._rng.randint(2, 6)
        many: list[Asked] = []
        while len(many) < count:
            asked = self.plain()
            if self._server.pipelines_bodies or asked.data.endswith(b" HTTP/1.1\r\nHost: x\r\n\r\n"):
                many.append(asked)
        if not self._server.keepalive:
            many = [Asked("GET", "/about", 200, b"GET /about HTTP/1.1\r\nHost: x\r\n\r\n")] * len(many)
        with self._connection() as connection:
            self._send(connection, b"".join(asked.data for asked in many))
            served = many if self._server.keepalive else many[:1]
            for asked in served:
                self.saw(asked, connection.response(asked.method)[0])
            self._sent += len(served) - 1

    def raising(self) -> None:
        """Send a request whose application raises before its response. gunicorn responds with 500."""
        self._whole("GET", "/raise", b"", 500)
        self.record.failed["GET", "/raise", "ValueError"] += 1
        self.record.handled["ValueError",] += 1

    def late(self) -> None:
        """Send a request whose application raises in its response. The status is the one that was sent."""
        self._whole("GET", "/late", b"", 200)
        self.record.failed["GET", "/late", "KeyError"] += 1
        if self._server.late_is_handled:
            self.record.handled["KeyError",] += 1

    def leaving(self) -> None:
        """Disconnect while the application waits."""
        with self._connection() as connection:
            bell = self._bell()
            self._send(connection, b"GET /leave?bell=%b HTTP/1.1\r\nHost: x\r\n\r\n" % bell.name.encode())
            self._hear(bell)
            connection.hang_up()
        self.record.requests["GET", "/leave", GONE] += 1

    def leaving_a_large_one(self) -> None:
        """Disconnect after the beginning of a large response."""
        with self._connection(receive_buffer=65536) as connection:
            self._send(connection, b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
            connection.sock.recv(1000)
            if self._rng.random() < 0.5:
                connection.hang_up()
        self.record.requests["GET", "/large", GONE] += 1

    def leaving_an_upload(self) -> None:
        """Disconnect in the middle of a request body, with a reset or without."""
        head = self._rng.choice((b"Content-Length: 100000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n186A0\r\n"))
        with self._connection() as connection:
            bell = self._bell()
            self._send(connection, b"PUT /upload?bell=%b HTTP/1.1\r\nHost: x\r\n%b" % (bell.name.encode(), head))
            connection.sock.sendall(b"x" * 50_000)
            self._hear(bell)
            if self._rng.random() < 0.5:
                connection.hang_up()
        self.record.requests["PUT", "/upload", GONE] += 1

    def refused(self) -> None:
        """Send a request that gunicorn cannot parse. It is counted as invalid, and not as a request."""
        data = self._rng.choice(list(self._server.refused))
        status, error_type = self._server.refused[data]
        with self._connection() as connection:
            if self._server.keepalive and self._rng.random() < 0.5:
                asked = Asked("GET", "/about", 200, b"GET /about HTTP/1.1\r\nHost: x\r\n\r\n")
                self._send(connection, asked.data + data)
                self.saw(asked, connection.response("GET")[0])
            else:
                self._send(connection, data)
            self._expect(connection.response("GET")[0], status, data)
        if self._server.tells:
            self.record.invalid[error_type,] += 1
            self.record.handled[error_type,] += 1

    def refused_body(self) -> None:
        """Send a body that becomes invalid while the application reads it. The request is refused, and has failed."""
        self._whole("POST", "/echo", b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n\r\n", 400)
        self.record.failed["POST", "/echo", "InvalidChunkSize"] += 1
        self.record.invalid["InvalidChunkSize",] += 1
        self.record.handled["InvalidChunkSize",] += 1

    def refused_body_unread(self) -> None:
        """Send such a body to an application that does not read it. It is refused only if the connection might stay."""
        self._whole("POST", "/about", b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n\r\n", 200)
        if self._server.reads_on:
            self.record.invalid["InvalidChunkSize",] += 1
            self.record.handled["InvalidChunkSize",] += 1

    def silent(self) -> None:
        """Open a connection without a request, or with the beginning of one. It is not counted as a request."""
        with self._connection() as connection:
            self._send(connection, self._rng.choice((b"", b"GET", b"GET / HTTP/1.1\r\nHost:")))

    def _connection(self, receive_buffer: int = 0) -> Connection:
        return Connection(self._server.port, receive_buffer)

    def _send(self, connection: Connection, data: bytes) -> None:
        self._sent += 1
        # Large bodies that the application does not read may meet a response, or a closed connection, on their way.
        if len(data) > 20_000:
            threading.Thread(target=_sendall, args=(connection.sock, data), daemon=True).start()
        else:
            _sendall(connection.sock, data)

    def _whole(self, method: str, path: str, rest: bytes, status: int) -> None:
        with self._connection() as connection:
            self._send(connection, f"{method} {path} HTTP/1.1\r\nHost: x\r\n".encode() + (rest or b"\r\n"))
            self._expect(connection.response(method)[0], status, path.encode())
        self.record.requests[method, path, str(status)] += 1

    def _expect(self, status: int, expected: int, data: bytes) -> None:
        if status != expected:
            self.record.surprises.append(f"{status} to {data[:200]!r}")

    def _bell(self) -> Path:
        return self._server.bells / f"{self._rng.getrandbits(64):x}"

    @staticmethod
    def _hear(bell: Path) -> None:
        deadline = time.monotonic() + 30
        while not bell.exists():
            assert time.monotonic() < deadline, "the application never rang"
            time.sleep(0.005)


def _sendall(sock: socket.socket, data: bytes) -> None:
    with contextlib.suppress(OSError):
        sock.sendall(data)


def load(server: Server, requests: int, seed: int) -> ClientRecord:
    """Send requests with several clients at the same time. Return their records as one."""
    clients = [Client(server, random.Random(seed + number)) for number in range(CONNECTIONS)]
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        for done in [pool.submit(client.run, requests // CONNECTIONS) for client in clients]:
            done.result()
    record = ClientRecord()
    for client in clients:
        record.requests += client.record.requests
        record.failed += client.record.failed
        record.handled += client.record.handled
        record.invalid += client.record.invalid
        record.surprises += client.record.surprises
    return record
