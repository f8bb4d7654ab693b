"""Settings of an exporter that is open to other machines, and requests to it."""

from __future__ import annotations

import contextlib
import re
import socket
from pathlib import Path

import requests

from tests.helpers.servers import Server

SECRET = "s3cr3t-t0ken-of-this-test"
PASSWORD = "pa55w0rd-of-this-test"


def installed(**settings: object) -> str:
    """Return a config line with these settings."""
    given = "".join(
        f", {name}={str(value) if isinstance(value, Path) else value!r}" for name, value in settings.items()
    )
    given = re.sub(r"=(/[^,]*)", r"='\1'", given)
    return f"install(globals(), port=METRICS_PORT{given})\n"


def https(server: Server, ca: Path, path: str = "/metrics", **keywords: object) -> requests.Response:
    """Send a request to the exporter over TLS."""
    url = f"https://127.0.0.1:{server.metrics_port}{path}"
    return requests.get(url, verify=str(ca), timeout=20, **keywords)  # type: ignore[arg-type]


def raw(port: int, data: bytes) -> bytes:
    """Return all bytes that the exporter sends in response to these bytes."""
    with socket.create_connection(("127.0.0.1", port), 10) as sock:
        received = b""
        with contextlib.suppress(ConnectionError):
            sock.sendall(data)
            while chunk := sock.recv(65536):
                received += chunk
        return received
