"""Whether a SIGKILL was an OOM kill, from the kernel's count of OOM kills in this process's memory cgroup."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

RECENT_SECONDS: Final = 10.0
"""A kill that was counted longer ago cannot be the cause of an exit that is recorded now."""


class OomKills:
    """Attributes the OOM kills that the kernel counts, each to one killed worker.

    The kernel counts a kill before it sends the signal, in the cgroup of the process that it kills, whichever limit
    was hit. Kills that were counted before this object was made are never claimed. Not thread-safe.

    Args:
        proc: where procfs is mounted.
        cgroups: where cgroups are mounted.
        clock: monotonic seconds.
        path: the file with the counter, lines of a key and a number; None: it is searched for.
    """

    def __init__(
        self,
        proc: str = "/proc",
        cgroups: str = "/sys/fs/cgroup",
        clock: Callable[[], float] = time.monotonic,
        path: str | None = None,
    ) -> None:
        self._clock = clock
        self._path = _find(proc, cgroups) if path is None else path
        self._counted: int | None = None
        self._settled = 0
        """Number of counted kills that are claimed, or too old to be."""
        self._recent: deque[tuple[float, int]] = deque(maxlen=64)
        """Monotonic seconds of the first read, and the count. A dropped entry expires together with the next one."""
        self.update()

    def update(self) -> None:
        """Read the count. Kills that are not claimed within ``RECENT_SECONDS`` from now on expire."""
        self._update()

    def claim(self) -> bool:
        """Return whether an OOM kill was counted that is not yet claimed, and claim it."""
        if not self._update() or self._counted is None or self._settled >= self._counted:
            return False
        self._settled += 1
        return True

    def _update(self) -> bool:
        """Read the count; return whether there is one."""
        count = None if self._path is None else _read(self._path)
        if count is None:
            return False
        now = self._clock()
        if self._counted is None or count < self._counted:  # the first call, or another counter in the same place
            self._settled = count
            self._recent.clear()
        elif count > self._counted:
            self._recent.append((now, count))
        self._counted = count
        while self._recent and now - self._recent[0][0] > RECENT_SECONDS:
            self._settled = max(self._settled, self._recent.popleft()[1])
        return True


def _find(proc: str, cgroups: str) -> str | None:
    """Return the path of the file with the counter of this process's cgroup; None if there is none."""
    return next((path for path in _candidates(proc, cgroups) if _read(path) is not None), None)


def _candidates(proc: str, cgroups: str) -> Iterator[str]:
    """Yield the paths at which the counter may be, the likeliest first."""
    try:
        with open(f"{proc}/self/cgroup", "rb") as file:
            lines = os.fsdecode(file.read()).splitlines()
    except (OSError, ValueError):
        return
    found = []
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            found += [(cgroups, path, "memory.events"), (f"{cgroups}/unified", path, "memory.events")]
        elif "memory" in controllers.split(","):
            found.append((f"{cgroups}/memory", path, "memory.oom_control"))
    for mount, path, name in found:
        yield f"{mount}{path}/{name}"
    # In a container without a cgroup namespace the path is the host's, and the container's cgroup is the mount's root.
    for mount, _, name in found:
        yield f"{mount}/{name}"


def _read(path: str) -> int | None:
    """Return the number of kills; None if it cannot be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe would block
        try:
            text = os.read(descriptor, 4096)
        finally:
            os.close(descriptor)
    except (OSError, ValueError):
        return None
    for line in text.splitlines():
        key, _, number = line.partition(b" ")
        if key == b"oom_kill" and number.strip().isdigit():
            return int(number)
    return None
