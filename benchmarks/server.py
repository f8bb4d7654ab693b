"""Starting gunicorn for a measurement, and ending it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

APP = """
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
    return [b"ok"]
"""
START_SECONDS = 20.0
GUNICORN = str(Path(sys.executable).parent / "gunicorn")


def free_port() -> int:
    """Return a free TCP port."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextlib.contextmanager
def gunicorn(
    folder: Path, config: str, *, app: str = APP, environ: Mapping[str, str] | None = None
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A gunicorn with this configuration: its process and port. ``config`` need not bind."""
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "app.py").write_text(app)
    (folder / "gunicorn.conf.py").write_text(f"bind = '127.0.0.1:{port}'\ncontrol_socket_disable = True\n{config}")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [GUNICORN, "app:app"],
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environ or {})},
        )
        try:
            deadline = time.monotonic() + START_SECONDS
            while True:
                with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5):
                    break
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError((folder / "log").read_text())
            yield process, port
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)
