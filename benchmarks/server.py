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
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import psutil

from benchmarks.machine import on_cores
from benchmarks.waiting import until

TOP = Path(__file__).parent.parent
APPLICATIONS = Path(__file__).parent / "applications"
START_SECONDS, END_SECONDS = 60.0, 40.0
PYTHON = Path(sys.executable)


def free_port() -> int:
    """Return a free TCP port."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextlib.contextmanager
def gunicorn(
    folder: Path,
    config: str,
    *,
    app: str = "plain_wsgi",
    environ: Mapping[str, str] | None = None,
    python: Path = PYTHON,
    cores: Collection[int] = (),
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run a gunicorn until the end of the block. Yield its process and its port.

    Args:
        folder: where it runs.
        config: its config file, without ``bind``.
        app: name of a module in ``benchmarks/applications``.
        environ: more of the environment.
        python: the interpreter of the environment that gunicorn is installed in.
        cores: on which it runs; none: wherever the system puts it.
    """
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "app.py").write_text((APPLICATIONS / f"{app}.py").read_text())
    (folder / "gunicorn.conf.py").write_text(f"bind = '127.0.0.1:{port}'\ncontrol_socket_disable = True\n{config}")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*on_cores(cores), str(python.parent / "gunicorn"), "app:app"],
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": str(TOP), **(environ or {})},
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5):
                break
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((folder / "log").read_text())
            time.sleep(0.01)
        yield process, port
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            print(f"  does not end, and is killed: {(folder / 'gunicorn.conf.py').read_text()!r}", flush=True)
            for child in psutil.Process(process.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
            process.kill()
            process.wait(10)


def wait_for(file: Path) -> str:
    """Return the text of a file that a server writes at its end."""
    until(file.exists, str(file), 10)
    return file.read_text()
