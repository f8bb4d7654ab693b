"""Who a process is in the names of prometheus_client's files: a slot, and not a pid that never comes again."""

from __future__ import annotations

import os
import re
from typing import Final, NamedTuple

_IDENTITY: Final = re.compile(r"(?P<kind>m|s|p|)(?P<number>\d*)(?:-(?P<master>\d+))?", re.ASCII)


class Identity:
    """prometheus_client's ``process_identifier``: calling it gives the identity of this process.

    A worker is known by its slot, ``s0``: its successor goes on with its files. The master is ``m``, a process that one
    of them forks ``p`` and its pid. It is asked at every change of a metric.

    Args:
        suffix: sets the files of this server apart from those of another one in the same directory.
    """

    def __init__(self, suffix: str) -> None:
        self._suffix = suffix
        self._name = f"m{suffix}"
        os.register_at_fork(after_in_child=self._forked)

    def __call__(self) -> str:
        """The identity of this process."""
        return self._name

    def of_slot(self, slot: int) -> str:
        """The identity of the worker in this slot."""
        return f"s{slot}{self._suffix}"

    def of_process(self, pid: object) -> str:
        """The identity of another process of this server."""
        return f"p{pid}{self._suffix}"

    def become_worker(self, slot: int) -> None:
        """From here on this process is the worker in this slot."""
        self._name = self.of_slot(slot)

    def _forked(self) -> None:
        self._name = self.of_process(os.getpid())


class Owner(NamedTuple):
    """Whose identity it is.

    Attributes:
        pid: of a process that is neither a worker nor a master; None for those.
        master: pid of the master whose server it belongs to; None if the identity does not say.
    """

    pid: int | None
    master: int | None


def owner(identity: str) -> Owner:
    """Whose identity it is; a process that knows nothing of us has its pid for one."""
    found = _IDENTITY.fullmatch(identity)
    if found is None:
        return Owner(None, None)
    kind, number, master = found.groups()
    pid = int(number) if number and kind in ("p", "") else None
    return Owner(pid, None if master is None else int(master))
