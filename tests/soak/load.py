"""Clients, each with requests of its own under the seed, and what became of each request."""

from __future__ import annotations

import contextlib
import http.client
import random
import socket
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

CLIENTS: Final = 8
STATUSES: Final = (*(200,) * 12, 201, 404, 503)
TIMEOUT: Final = 40.0
"""Seconds after which a client gives up. Every fault is over before that."""
OK, LEFT, KEPT, WRONG = "ok", "left", "closed while kept", "wrong body"
"""KEPT: a connection was kept and the server closed it, as it may between two requests."""
NO_RESPONSE: Final = "no response"
"""The connection was closed or reset: which of both, is decided by how much a worker had read when it was killed."""
NOT_FAILED: Final = frozenset({OK, LEFT, KEPT})


@dataclass
class Record:
    """What the clients saw.

    Attributes:
        asked: the status asked for, by path.
        outcomes: what became of the request, by path.
    """

    asked: dict[str, int] = field(default_factory=dict)
    outcomes: dict[str, str] = field(default_factory=dict)

    def failures(self) -> Counter[str]:
        """Return the failed requests by kind of failure."""
        return Counter(outcome for outcome in self.outcomes.values() if outcome not in NOT_FAILED)

    def paths(self, outcome: str) -> set[str]:
        """Return the requests with this outcome."""
        return {path for path, found in self.outcomes.items() if found == outcome}


class Load:
    """Clients in threads, from ``start`` to ``stop``."""

    def __init__(self, port: int, seed: str) -> None:
        self.record = Record()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=_Client(port, number, f"{seed} {number}", self.record, self._stop).run)
            for number in range(CLIENTS)
        ]

    def start(self) -> None:
        """Begin to send."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Send no more, and wait for the last responses."""
        self._stop.set()
        for thread in self._threads:
            thread.join()


class _Client:
    def __init__(self, port: int, number: int, seed: str, record: Record, stop: threading.Event) -> None:
        self._port, self._number, self._record, self._stop = port, number, record, stop
        self._rng = random.Random(seed)
        self._sent = 0

    def run(self) -> None:
        actions = (*(self._fresh,) * 4, *(self._kept,) * 3, self._post, self._leave)
        while not self._stop.is_set():
            self._rng.choice(actions)()
            self._stop.wait(self._rng.uniform(0.0, 0.03))

    def _path(self) -> str:
        path = f"/r/{self._number}{self._sent:07}"
        self._sent += 1
        return path

    def _ask(
        self,
        connection: http.client.HTTPConnection,
        *,
        body: bytes | None = None,
        chunked: bool = False,
        kept: bool = False,
    ) -> bool:
        """Send one request and read the response. Return whether another one may follow."""
        rng, path = self._rng, self._path()
        status, size = rng.choice(STATUSES), rng.choice((0, 1, 500, 5_000, 100_000))
        seconds = rng.choice((0, 0.005, 0.02, 0.05, 0.1))
        self._record.asked[path] = status
        url = f"{path}?status={status}&size={size}&seconds={seconds}"
        sent_before = connection.sock is not None
        try:
            connection.request(
                "GET" if body is None else "POST",
                url,
                body=iter((body[:100], body[100:])) if body is not None and chunked else body,
                headers={} if kept else {"Connection": "close"},
                encode_chunked=chunked,
            )
            response = connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            outcome = _kind_of(error)
            if sent_before and outcome == NO_RESPONSE:
                outcome = KEPT
            self._record.outcomes[path] = outcome
            return False
        if response.status != status:
            self._record.outcomes[path] = f"status {response.status}"
        else:
            self._record.outcomes[path] = OK if content == path.encode() + b" " + b"x" * size else WRONG
        return not response.will_close

    def _fresh(self) -> None:
        with contextlib.closing(self._connection()) as connection:
            self._ask(connection)

    def _kept(self) -> None:
        with contextlib.closing(self._connection()) as connection:
            for _ in range(self._rng.randint(2, 6)):
                if not self._ask(connection, kept=True):
                    return

    def _post(self) -> None:
        with contextlib.closing(self._connection()) as connection:
            body = self._rng.randbytes(self._rng.choice((200, 20_000)))
            self._ask(connection, body=body, chunked=self._rng.random() < 0.5)

    def _leave(self) -> None:
        """Send a request and disconnect at once, or after a moment."""
        path, moment = self._path(), self._rng.choice((0.0, 0.005, 0.02))
        self._record.asked[path], self._record.outcomes[path] = 200, LEFT
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._port), TIMEOUT) as sock:
            sock.sendall(f"GET {path}?seconds=0.01 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            self._stop.wait(moment)

    def _connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self._port, timeout=TIMEOUT)


def _kind_of(error: Exception) -> str:
    """Return the kind of failure, in words that both servers share."""
    if isinstance(error, ConnectionRefusedError):
        return "refused"
    if isinstance(error, (ConnectionResetError, BrokenPipeError)):
        return NO_RESPONSE
    if isinstance(error, http.client.IncompleteRead):
        return "incomplete"
    if isinstance(error, TimeoutError):
        return "timeout"
    return type(error).__name__
