"""A real nginx with the sample config."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.helpers.places import TOP
from tests.helpers.servers import eventually, running

SAMPLE: Final = TOP / "sample_configs" / "nginx" / "shop.conf"
_MAIN: Final = """
daemon off;
worker_processes 1;
pid nginx.pid;
error_log stderr;
events {}
http {
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    include shop.conf;
}
"""
"""Around the sample: all files are in the folder of the test."""


def write_config(folder: Path, port: int, sock: Path, text: str = "") -> list[str]:
    """Write the sample, with this port and the socket of gunicorn. Return nginx's command.

    Args:
        folder: for all files.
        port: at which nginx listens.
        sock: the Unix socket.
        text: another one than the sample.
    """
    text = text or SAMPLE.read_text()
    for old, new in {
        "listen 80;": f"listen 127.0.0.1:{port};",
        "unix:/run/gunicorn-shop/gunicorn.sock fail": f"unix:{sock} fail",
    }.items():
        assert text.count(old) == 1
        text = text.replace(old, new)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "shop.conf").write_text(text)
    # A worker of another user could not reach the folder of the test.
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(user + _MAIN)
    return ["nginx", "-p", f"{folder}/", "-c", "nginx.conf", "-e", "stderr"]


def check(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run nginx's own test of a config."""
    return subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)


@contextmanager
def nginx(folder: Path, port: int, sock: Path) -> Iterator[None]:
    """Run nginx with the sample until the end of the block."""
    command = write_config(folder, port, sock)
    with running(command, folder, folder / "log"):

        def listens() -> bool:
            with socket.create_connection(("127.0.0.1", port), 5):
                return True

        eventually(listens, "nginx listens")
        yield
