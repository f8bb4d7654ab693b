"""Whether a SIGKILL was the kernel's for want of memory: the count of OOM kills of this process's memory cgroup."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

RECENT_SECONDS: Final = 10.0
"""A kill that was counted longer ago is not that of a worker that is found dead only now."""


class OomKills:
    """Hands out the kills that the kernel counts, one to each worker that was killed.

    The kernel counts a kill before it sends the signal, in the cgroup of the process that it kills, whichever limit
    was hit. What was counted before this object was made is nobody's. Not for signal handlers and threads.

    Args:
        proc: where procfs is mounted.
        cgroups: where cgroups are mounted.
        clock: monotonic seconds.
        path: the file with the counter, if it is not to be looked for: lines of a key and a number.
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
        """So many of the kills counted are claimed, or too old to be."""
        self._recent: deque[tuple[float, int]] = deque(maxlen=64)
        """When the count was first seen to be so much. What a full one forgets is settled with the next entry."""
        self.look()

    def look(self) -> None:
        """Notes the count at a time when nobody has died."""
        self._look()

    def claim(self) -> bool:
        """Whether a worker just found dead of SIGKILL was killed for want of memory; takes the kill that says so."""
        if not self._look() or self._counted is None or self._settled >= self._counted:
            return False
        self._settled += 1
        return True

    def _look(self) -> bool:
        """Whether there is a count at all."""
        count = None if self._path is None else _read(self._path)
        if count is None:
            return False
        now = self._clock()
        if self._counted is None or count < self._counted:  # the first look, or another counter in the same place
            self._settled = count
            self._recent.clear()
        elif count > self._counted:
            self._recent.append((now, count))
        self._counted = count
        while self._recent and now - self._recent[0][0] > RECENT_SECONDS:
            self._settled = max(self._settled, self._recent.popleft()[1])
        return True


def _find(proc: str, cgroups: str) -> str | None:
    """The file that has the counter of this process's cgroup."""
    return next((path for path in _places(proc, cgroups) if _read(path) is not None), None)


def _places(proc: str, cgroups: str) -> Iterator[str]:
    """Where the counter may be, likeliest first."""
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
    """The number of kills, None if that cannot be told."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe would have us wait
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
