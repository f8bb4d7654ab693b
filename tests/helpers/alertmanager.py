"""A real Alertmanager, and the webhook that it calls."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import requests

from tests.helpers.prometheus import Labels
from tests.helpers.servers import eventually, running, unused_port

PROGRAM = "prometheus-alertmanager"
"""Its name in Debian."""


class Alertmanager:
    """A running Alertmanager that sends each alert by itself to a webhook, at once.

    Attributes:
        address: host and port at which it receives alerts.
        received: labels and annotations of each alert that the webhook has received.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.received: list[tuple[Labels, Labels]] = []

    def find(self, labels: Labels) -> Labels | None:
        """Return the annotations of a received alert with exactly these labels."""
        return next((annotations for has, annotations in self.received if has == labels), None)


@contextmanager
def webhook(received: list[tuple[Labels, Labels]]) -> Iterator[str]:
    """Run a webhook that appends labels and annotations of each alert to this list. Yield its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            received.extend((alert["labels"], alert["annotations"]) for alert in sent["alerts"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - its name in the base class
            pass

    with ThreadingHTTPServer(("127.0.0.1", unused_port()), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def alertmanager(folder: Path) -> Iterator[Alertmanager]:
    """Run an Alertmanager and its webhook.

    Args:
        folder: of its config, its data and its log.
    """
    found = Alertmanager(f"127.0.0.1:{unused_port()}")
    folder.mkdir(parents=True, exist_ok=True)
    with webhook(found.received) as url:
        route = {"receiver": "webhook", "group_by": ["..."], "group_wait": "0s", "group_interval": "1s"}
        receivers = [{"name": "webhook", "webhook_configs": [{"url": url, "send_resolved": False}]}]
        (folder / "alertmanager.yml").write_text(json.dumps({"route": route, "receivers": receivers}))
        command = [PROGRAM, "--config.file=alertmanager.yml", "--storage.path=data", "--cluster.listen-address="]
        with running([*command, f"--web.listen-address={found.address}"], folder, folder / "log"):
            ready = f"http://{found.address}/-/ready"
            eventually(lambda: requests.get(ready, timeout=10).ok, "the Alertmanager answers")
            yield found
