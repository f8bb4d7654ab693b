"""A thread that asks a server for its status, so that the keys work while the server does not answer."""

from __future__ import annotations

import threading
import time
from typing import NamedTuple

from ...status.formatting import duration
from ..client import Client, Unreachable
from .fields import Fields, parse

STATUS = "status.json"


class Latest(NamedTuple):
    """What is known of a server.

    Attributes:
        data: of the latest answer; None if there has been none.
        error: why there is no later one; empty if there is no error.
        since: monotonic time of that answer, or of the start.
    """

    data: Fields | None
    error: str
    since: float

    @property
    def trouble(self) -> str:
        """Return the line about the error; empty if there is none."""
        if not self.error:
            return ""
        since = duration(time.monotonic() - self.since)
        return f"no {'answer' if self.data is None else 'new answer'} for {since}: {self.error}; trying again"


def fetch(client: Client) -> Fields:
    """Return the status of a server.

    Raises:
        Unreachable: it cannot be had.
    """
    answer = client.get(STATUS, "application/json")
    url = client.target.url(STATUS)
    if answer.status == 401:
        raise Unreachable(f"{url} answers 401", "Give credentials with --token-file or --basic-auth")
    if answer.status == 403:
        raise Unreachable(f"{url} answers 403", "Give the URL with an IP address or localhost")
    if answer.status != 200:
        advice = "Give the URL of the metrics, such as http://127.0.0.1:9091, and see that `status_page` is on"
        raise Unreachable(f"{url} answers {answer.status}", advice)
    try:
        return parse(answer.text)
    except ValueError as error:
        raise Unreachable(f"{url} is not the status of a server: {error}", "Look at the URL") from error


class Poller:
    """Asks a server again and again.

    Args:
        client: of the server.
        interval: seconds between two questions.
    """

    def __init__(self, client: Client, interval: float) -> None:
        self._client = client
        self._interval = interval
        self._latest = Latest(None, "", time.monotonic())
        self._ended = threading.Event()
        self._is_paused = False

    @property
    def latest(self) -> Latest:
        """Return what is known now."""
        return self._latest

    def start(self) -> None:
        """Start the thread. It ends with the process if it is not stopped."""
        threading.Thread(target=self._run, name="poller", daemon=True).start()

    def stop(self) -> None:
        """Let the thread end after its current question."""
        self._ended.set()

    def pause(self, *, is_paused: bool) -> None:
        """Ask nothing until the pause ends."""
        self._is_paused = is_paused

    def _run(self) -> None:
        while not self._ended.is_set():
            if not self._is_paused:
                self._ask()
            self._ended.wait(self._interval)

    def _ask(self) -> None:
        try:
            self._latest = Latest(fetch(self._client), "", time.monotonic())
        except Unreachable as error:
            self._latest = self._latest._replace(error=error.what)
        except Exception as error:  # noqa: BLE001 - the screen shows it, and the thread continues
            self._latest = self._latest._replace(error=f"{type(error).__name__}: {error}")
