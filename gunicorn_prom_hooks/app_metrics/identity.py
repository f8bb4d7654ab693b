"""The identity of a process in the names of prometheus_client's files: a slot or a number, not a pid."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Final, NamedTuple

GONE: Final = "gone"
"""Identity of the file with the merged values of exited processes."""
_IDENTITY: Final = re.compile(r"(?P<kind>m|s|p|gone|)(?P<number>\d*)(?:-(?P<master>\d+))?", re.ASCII)


class Identity:
    """The identity of this process, with which the names of its files end. A call returns it when a file is opened.

    A worker has its slot, ``s0``, and a process that a worker forks has a number, ``p0``. The successor continues the
    files. The master is ``m``.

    Attributes:
        known: the identity; empty in a forked process that has none yet.

    Args:
        suffix: sets the files of this server apart from those of another one in the same directory.
        claim: returns the identity of a forked process, at the first change of a metric.
    """

    def __init__(self, suffix: str, claim: Callable[[], str]) -> None:
        self._suffix = suffix
        self._claim = claim
        self.known = f"m{suffix}"
        os.register_at_fork(after_in_child=self._forked)

    def __call__(self) -> str:
        """Return the identity of this process.

        Raises:
            OSError: it cannot have one.
        """
        if not self.known:
            self.known = self._claim()
        return self.known

    def of_slot(self, slot: int) -> str:
        """Return the identity of the worker in this slot."""
        return f"s{slot}{self._suffix}"

    def of_number(self, number: int) -> str:
        """Return the identity of the forked process with this number."""
        return f"p{number}{self._suffix}"

    def become_worker(self, slot: int) -> str:
        """Make this process the worker in this slot, and return its identity."""
        self.known = self.of_slot(slot)
        return self.known

    def _forked(self) -> None:
        self.known = ""


class Owner(NamedTuple):
    """The process that an identity belongs to.

    Attributes:
        kind: m, s, p or gone; empty for a number that a process has chosen itself, usually its pid; None for any
            other text.
        number: slot of a worker, number of a forked process, or what may be a pid.
        master: pid of the master whose server it belongs to; None if the identity does not say.
    """

    kind: str | None
    number: int | None
    master: int | None


def owner(identity: str) -> Owner:
    """Return the process that an identity belongs to. A program without this package uses its pid."""
    found = _IDENTITY.fullmatch(identity)
    if found is None:
        return Owner(None, None, None)
    kind, number, master = found.groups()
    if bool(number) != (kind in ("s", "p", "")):
        return Owner(None, None, None)
    return Owner(kind, int(number) if number else None, None if master is None else int(master))
