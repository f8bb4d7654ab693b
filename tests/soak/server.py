"""A gunicorn for the soak: with this package or without, and its masters over all upgrades."""

from __future__ import annotations

import contextlib
import shutil
import signal
import struct
import subprocess
import threading
import time
from pathlib import Path
from typing import Final

import psutil

from tests.helpers.places import APPLICATIONS
from tests.helpers.servers import Server, eventually
from tests.soak.plan import WORKER_CLASSES, WORKER_TIMEOUT, WORKERS, Plan

DISK_SIZE: Final = "8m"
BARE = f"""
import os
bind = "127.0.0.1:PORT"
workers = {WORKERS}
timeout = {WORKER_TIMEOUT:.0f}
graceful_timeout = 6
keepalive = 5
pidfile = "pid"
control_socket_disable = True
worker_tmp_dir = "/dev/shm" if os.path.isdir("/dev/shm") else None
"""
HOOKS = """
import time
import urllib.request
import gunicorn_prom_hooks.master.exits
from gunicorn_prom_hooks import install

gunicorn_prom_hooks.master.exits.MAX_NAMED = 128  # the soak needs the path of every interrupted request
metrics_port = int(open("metrics_port").read())

def on_exit(server):
    for _ in range(50):  # a hostile client may have all connections
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{metrics_port}/metrics", timeout=20) as page:
                open(f"final-{os.getpid()}", "wb").write(page.read())
            break
        except OSError:
            time.sleep(0.1)

install(globals(), port=metrics_port, labels={"master": str(os.getpid())})
"""
WAIT: Final = 40.0
"""Seconds in which the server must have done what it was told."""


def alive(process: psutil.Process) -> bool:
    """Return whether the process runs. A zombie does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


class Disk:
    """A small tmpfs for the files of the application's metrics. ``skipped`` says why there is none."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "disk"
        self.path.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_SIZE},mode=0755", "soak", str(self.path)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            self.skipped = done.stderr.strip() if done.returncode else ""
        except OSError as error:
            self.skipped = str(error)
        self._filler = self.path / "filler"

    def fill(self) -> None:
        """Take all space."""
        if self.skipped:
            return
        with contextlib.suppress(OSError), self._filler.open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass

    def clear(self) -> None:
        """Give the space back."""
        self._filler.unlink(missing_ok=True)

    def close(self) -> None:
        """Unmount it."""
        self.clear()
        if not self.skipped:
            subprocess.run(["umount", "-l", str(self.path)], check=False)


class Clock:
    """The wall clock of the server's processes. ``skipped`` says why it cannot be changed."""

    def __init__(self, folder: Path) -> None:
        self._step = folder / "clock"
        self._step.write_bytes(struct.pack("=q", 0))
        library = folder / "clock.so"
        compiler = shutil.which("cc") or shutil.which("gcc")
        self.skipped, self.environ = "no C compiler", dict[str, str]()
        if compiler is not None:
            source = str(Path(__file__).with_name("clock.c"))
            command = [compiler, "-O1", "-shared", "-fPIC", "-o", str(library), source, "-ldl"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            self.skipped = done.stderr.strip() if done.returncode else ""
        if not self.skipped:
            self.environ = {"LD_PRELOAD": str(library), "SOAK_CLOCK": str(self._step)}

    def step(self, seconds: int) -> None:
        """Set the clock to the true time and this many seconds more, at once, in all running processes."""
        with self._step.open("r+b", buffering=0) as file:
            file.write(struct.pack("=q", seconds))


class SoakServer:
    """A gunicorn, and the gunicorn that has taken over from it."""

    def __init__(self, folder: Path, plan: Plan, port: int, metrics_port: int | None) -> None:
        self.plan = plan
        folder.mkdir(parents=True)
        self.disk, self.clock = Disk(folder), Clock(folder)
        config = BARE + f"worker_class = {WORKER_CLASSES[plan.worker]!r}\npreload_app = {plan.preload}\n"
        if plan.worker == "gthread":
            config += "threads = 3\n"
        environ = {"TMPDIR": str(self.disk.path), **self.clock.environ}
        if metrics_port is not None:
            config += HOOKS
            if plan.named_directory:
                environ["PROMETHEUS_MULTIPROC_DIR"] = str(self.disk.path / "metrics")
        kind = "asgi" if plan.worker in ("asgi", "uvicorn") else "wsgi"
        app = APPLICATIONS / f"soak_{kind}.py"
        self.server = Server(folder, app=app, config=config, environ=environ, port=port, metrics_port=metrics_port or 1)
        self.folder, self.port, self.metrics_port = folder, port, metrics_port
        self.set_metrics_port(metrics_port or 0)
        self.masters: list[psutil.Process] = []
        """All masters, the current one last."""
        self._before_upgrade: set[int] | None = None
        self._upgrading = threading.Lock()

    def set_metrics_port(self, port: int) -> None:
        """Change the metrics port in the configuration. A reload applies it."""
        (self.folder / "metrics_port").write_text(str(port))

    @property
    def master(self) -> psutil.Process:
        """The current master."""
        return self.masters[-1]

    def start(self) -> None:
        """Start it, and wait for its workers."""
        self.server.start()
        self.masters.append(psutil.Process(self.server.pid))
        eventually(lambda: len(self.workers()) >= WORKERS and self.answers(), "the first workers serve", WAIT)

    def answers(self) -> bool:
        """Return whether the application answers."""
        return self.server.get("/probe").status_code == 200

    def workers(self) -> list[psutil.Process]:
        """Return the workers of all masters that live, sorted by pid."""
        found: dict[int, psutil.Process] = {}
        with self._upgrading:
            masters, known = {master.pid for master in self.masters}, self._before_upgrade
            for master in self.masters:
                with contextlib.suppress(psutil.Error):
                    for child in master.children():
                        if child.pid not in masters and alive(child):
                            found[child.pid] = child
        return [found[pid] for pid in sorted(found) if known is None or pid in known]

    def upgrade(self) -> psutil.Process:
        """Start a new master with USR2 and wait until it serves. Return the old one, which runs on."""
        old, file = self.master, self.folder / "pid.2"
        # A master whose predecessor ended a moment ago refuses until it has noticed that, and renamed its file.
        eventually(lambda: not file.exists(), "the master before is gone", WAIT)
        # Until the new master is known it looks like one more worker of the old one.
        before = {worker.pid for worker in self.workers()}
        with self._upgrading:
            self._before_upgrade = before
            old.send_signal(signal.SIGUSR2)

        def started() -> psutil.Process | None:
            text = file.read_text().strip()
            return psutil.Process(int(text)) if text else None

        new = eventually(started, "the new master has written its pid", WAIT)
        with self._upgrading:
            self.masters.append(new)
            self._before_upgrade = None
        eventually(lambda: len(self.master.children()) >= WORKERS, "the new master has workers", WAIT)
        return old

    def end(self, master: psutil.Process) -> None:
        """Terminate a master, and wait for its end."""
        master.terminate()
        deadline = time.monotonic() + WAIT
        while alive(master):
            assert time.monotonic() < deadline, f"master {master.pid} has not ended"
            if self.server.process is not None:
                self.server.process.poll()
            time.sleep(0.02)

    def kill(self) -> None:
        """Kill what is left of it, and close the disk. In any state."""
        family: list[psutil.Process] = []
        for master in self.masters:
            with contextlib.suppress(psutil.Error):
                family += [*master.children(recursive=True), master]
        for process in family:
            with contextlib.suppress(psutil.Error):
                process.kill()
        if self.server.process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.server.process.wait(10)
        self.disk.close()
