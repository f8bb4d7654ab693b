"""A real Alertmanager, and the webhook that it calls."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, Final

import requests

from tests.helpers.prometheus import Labels
from tests.helpers.servers import eventually, running, unused_port

PROGRAM = "prometheus-alertmanager"
"""Its name in Debian."""


class Alertmanager:
    """A running Alertmanager that sends alerts to a webhook.

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

    def send(self, alerts: Sequence[Labels]) -> None:
        """Send it firing alerts with these labels, as Prometheus does."""
        found = requests.post(f"{self._api}/alerts", json=[{"labels": labels} for labels in alerts], timeout=20)
        assert found.status_code == 200, found.text

    def alerts(self) -> list[tuple[Labels, Sequence[Labels]]]:
        """Return the labels of each alert, and those of the alerts that inhibit it."""
        answer = requests.get(f"{self._api}/alerts", timeout=20).json()
        by_fingerprint = {alert["fingerprint"]: alert["labels"] for alert in answer}
        return [
            (alert["labels"], [by_fingerprint[source] for source in alert["status"]["inhibitedBy"]]) for alert in answer
        ]

    def groups(self) -> list[tuple[Labels, str, list[Labels]]]:
        """Return the labels, the receiver and the labels of the alerts of each group."""
        answer = requests.get(f"{self._api}/alerts/groups", timeout=20).json()
        return [
            (group["labels"], group["receiver"]["name"], [alert["labels"] for alert in group["alerts"]])
            for group in answer
        ]

    @property
    def _api(self) -> str:
        return f"http://{self.address}/api/v2"


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


EACH_BY_ITSELF: Final[Mapping[str, Any]] = {
    "route": {"receiver": "webhook", "group_by": ["..."]},
    "receivers": [{"name": "webhook"}],
}
"""A config that sends each alert by itself."""


def with_webhook(config: Mapping[str, Any], url: str) -> Mapping[str, Any]:
    """Return this config with the webhook as each of its receivers. Alerts are sent at once."""
    receivers = [
        {"name": receiver["name"], "webhook_configs": [{"url": url, "send_resolved": False}]}
        for receiver in config["receivers"]
    ]
    at_once = {"group_wait": "0s", "group_interval": "1s"}
    route = {**config["route"], **at_once}
    route["routes"] = [{**inner, **at_once} for inner in route.get("routes", [])]
    return {**config, "route": route, "receivers": receivers}


@contextmanager
def alertmanager(folder: Path, config: Mapping[str, Any] = EACH_BY_ITSELF) -> Iterator[Alertmanager]:
    """Run an Alertmanager and its webhook.

    Args:
        folder: of its config, its data and its log.
        config: its receivers are replaced by the webhook.
    """
    found = Alertmanager(f"127.0.0.1:{unused_port()}")
    folder.mkdir(parents=True, exist_ok=True)
    with webhook(found.received) as url:
        (folder / "alertmanager.yml").write_text(json.dumps(with_webhook(config, url)))
        command = [PROGRAM, "--config.file=alertmanager.yml", "--storage.path=data", "--cluster.listen-address="]
        with running([*command, f"--web.listen-address={found.address}"], folder, folder / "log"):
            ready = f"http://{found.address}/-/ready"
            eventually(lambda: requests.get(ready, timeout=10).ok, "the Alertmanager answers")
            yield found
