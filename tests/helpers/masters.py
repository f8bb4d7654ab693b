"""Masters in processes , each of which make a directory and keep it until a test ends them."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gunicorn_prom_hooks.app_metrics.directories.directory import Directory
from gunicorn_prom_hooks.concurrency import process_exists
from tests.helpers.forks import in_fork

SPAWN = multiprocessing.get_context("spawn")


DEADLINE_SECONDS = 60.0


ME = os.geteuid(), os.getegid()


WORKERS = 54321, 54322
"""User and group of the workers, where the master is root."""


as_root = pytest.mark.skipif(ME[0] != 0, reason="needs root")


Start = Callable[..., Any]


class Master:
    """A process that makes something, as gunicorn's master makes its directory, and has it until it is told."""

    def __init__(self, make: Callable[[], Any], temporary: Path) -> None:
        self._connection, theirs = SPAWN.Pipe()
        self.process = SPAWN.Process(target=_live, args=(theirs, make, str(temporary)), daemon=True)
        self.process.start()
        theirs.close()
        self.made = self._answer()

    @property
    def pid(self) -> int:
        """Return the pid of the process."""
        assert self.process.pid is not None
        return self.process.pid

    def do(self, action: Callable[[Any], Any]) -> Any:
        """Call the action in the process with the object made there. Return its result."""
        self._connection.send(action)
        return self._answer()

    def kill(self) -> None:
        """Kill the process, and wait until it is gone."""
        os.kill(self.pid, signal.SIGKILL)
        self.process.join(DEADLINE_SECONDS)
        assert not process_exists(self.pid)

    def close(self) -> None:
        """End the process if it still runs."""
        self.process.kill()
        self.process.join(DEADLINE_SECONDS)
        self._connection.close()

    def _answer(self) -> Any:
        assert self._connection.poll(DEADLINE_SECONDS), "it hangs"
        return self._connection.recv()


def _live(connection: Any, make: Callable[[], Any], temporary: str) -> None:
    tempfile.tempdir = temporary
    try:
        made = make()
    except OSError as error:
        connection.send(f"{type(error).__name__}: {error}")
        return
    connection.send(getattr(made, "path", None))
    while True:
        try:
            connection.send(connection.recv()(made))
        except EOFError:
            return


def names(folder: Path) -> set[str]:
    """Return the names in the folder."""
    return set(os.listdir(folder))


def touch(folder: Path, *files: str) -> set[str]:
    """Create these files. Return their names."""
    for file in files:
        (folder / file).touch()
    return set(files)


def close_in_a_child(directory: Directory) -> bool:
    in_fork(directory.close)
    return Path(directory.place.path).is_dir()


def hold(file: str) -> int:
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return descriptor
