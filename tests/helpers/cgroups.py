"""A memory-limited cgroup for a test, where the machine lets one be made."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

MakeCgroup = Callable[[int], tuple[Path, str]]
"""From a limit in bytes to a cgroup and the name of the file with its counter of OOM kills."""


def make_cgroup(limit: int) -> tuple[Path, str]:
    """Return a new cgroup with this memory limit, and the name of the file with its counter of OOM kills.

    Raises:
        OSError: no such cgroup can be made here.
    """
    root = Path("/sys/fs/cgroup")
    name = f"gunicorn-prom-hooks-test-{os.getpid()}"
    if (root / "cgroup.controllers").exists():
        controllers = (root / "cgroup.subtree_control").read_text().split()
        if "memory" not in controllers:
            raise OSError(f"no memory controller for new cgroups of v2: {controllers}")
        most, swap, file = "memory.max", "memory.swap.max", "memory.events"
    else:
        root /= "memory"
        most, swap, file = "memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.oom_control"
    cgroup = root / name
    cgroup.mkdir()
    try:
        (cgroup / most).write_text(str(limit))
        with contextlib.suppress(OSError):  # not every kernel limits swap
            (cgroup / swap).write_text("0" if most == "memory.max" else str(limit))
        (cgroup / file).read_text()
    except OSError:
        cgroup.rmdir()
        raise
    return cgroup, file


def joining(cgroup: Path) -> tuple[str, ...]:
    """Return the beginning of a command that runs the rest of it in this cgroup."""
    joins = f"""import os, sys
with open("{cgroup}/cgroup.procs", "w") as file:
    file.write(str(os.getpid()))
os.execv(sys.argv[1], sys.argv[1:])"""
    return sys.executable, "-c", joins


@pytest.fixture
def limited_cgroup() -> Iterator[MakeCgroup]:
    """Yield a function that makes a cgroup with a memory limit. The cgroup is removed after the test."""
    made: list[Path] = []

    def make(limit: int) -> tuple[Path, str]:
        try:
            cgroup, file = make_cgroup(limit)
        except OSError as error:
            pytest.skip(f"no memory-limited cgroup can be made here: {error}")
        made.append(cgroup)
        return cgroup, file

    yield make
    deadline = time.monotonic() + 20.0
    while made:
        for pid in (made[0] / "cgroup.procs").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        try:
            made[0].rmdir()
            made.clear()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
