"""A load that goes on until it is stopped, and counts what was answered by endpoint and time."""

from __future__ import annotations

import contextlib
import http.client
import threading
import time
from collections import Counter
from collections.abc import Mapping
from typing import Final

PATHS: Final[Mapping[str, str]] = {
    "/": "/",
    "/items/7": "/items/:id",
    "/items/8": "/items/:id",
    "/boom": "/boom",
    "/missing": "<unmatched>",
}
"""Paths of the default application, and their endpoints."""
PAUSE_SECONDS: Final = 0.004
CONNECTIONS: Final = 2
TIMEOUT_SECONDS: Final = 8


class SteadyLoad:
    """Clients of one server, from the start of the block to ``stop``. They end by themselves if the server is gone.

    Attributes:
        answers: unix time and endpoint of each answer.
        refused: requests without an answer.
    """

    def __init__(self, address: str, port: int) -> None:
        self.answers: list[tuple[float, str]] = []
        self.refused = 0
        self._address = address, port
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(CONNECTIONS)]

    def __enter__(self) -> SteadyLoad:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop after the requests in progress."""
        self._stopped.set()
        for thread in self._threads:
            thread.join(20)
            assert not thread.is_alive()

    def wait_until_gone(self) -> None:
        """Wait until each client has noticed that the server is gone."""
        for thread in self._threads:
            thread.join(20)
            assert not thread.is_alive()

    @property
    def counts(self) -> Counter[str]:
        """Return the number of answers by endpoint."""
        return Counter(endpoint for _, endpoint in self.answers)

    def answered_after(self, seconds: float) -> int:
        """Return the number of answers after this unix time."""
        return sum(at > seconds for at, _ in self.answers)

    def _run(self) -> None:
        connection = http.client.HTTPConnection(*self._address, timeout=TIMEOUT_SECONDS)
        with contextlib.closing(connection):
            while True:
                for path, endpoint in PATHS.items():
                    if self._stopped.wait(PAUSE_SECONDS):
                        return
                    try:
                        connection.request("GET", path)
                        connection.getresponse().read()
                    except (OSError, http.client.HTTPException):
                        self.refused += 1
                        return
                    self.answers.append((time.time(), endpoint))
