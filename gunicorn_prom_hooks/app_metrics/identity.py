"""Who a process is in the names of prometheus_client's files: a slot or a number, and not a pid that never returns."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Final, NamedTuple

from ..native import new_lock
from .place import Place

_IDENTITY: Final = re.compile(r"(?P<kind>m|s|p|gone|)(?P<number>\d*)(?:-(?P<master>\d+))?", re.ASCII)


class Identity:
    """prometheus_client's ``process_identifier``: calling it gives the identity of this process.

    A worker is known by its slot, ``s0``, a process that one of them forks by a number, ``p0``: its successor goes on
    with its files. The master is ``m``. It is asked at every change of a metric.

    Args:
        suffix: sets the files of this server apart from those of another one in the same directory.
        place: where the directory is.
        claim: gives this process its identity, at the first change of a metric.
        lost: called when files of the directory have been lost, with this process's identity.
    """

    def __init__(self, suffix: str, place: Place, claim: Callable[[], str], lost: Callable[[str], None]) -> None:
        self._suffix = suffix
        self._place = place
        self._claim = claim
        self._lost = lost
        self._lock = new_lock()
        self._name = f"m{suffix}"
        self._seen = place.generation()
        os.register_at_fork(after_in_child=self._forked)

    def __call__(self) -> str:
        """Return the identity of this process."""
        if self._place.generation() != self._seen or not self._name:
            with self._lock:
                self._refresh()
        return self._name

    def of_slot(self, slot: int) -> str:
        """Return the identity of the worker in this slot."""
        return f"s{slot}{self._suffix}"

    def of_number(self, number: int) -> str:
        """Return the identity of the forked process with this number."""
        return f"p{number}{self._suffix}"

    def become_worker(self, slot: int) -> None:
        """Make this process the worker in this slot."""
        self._name = self.of_slot(slot)
        self._seen = self._place.generation()

    def settle(self) -> None:
        """Make lost files of this process anew before it ends."""
        if self._name:
            self()

    def _refresh(self) -> None:
        generation = self._place.generation()
        if not self._name:
            self._name = self._claim()
        elif generation != self._seen:
            self._seen = generation  # whatever comes of it, it is not tried at each change of a metric
            self._lost(self._name)
        self._seen = generation

    def _forked(self) -> None:
        if self._lock.locked():
            self._lock = new_lock()
        self._name = ""


class Owner(NamedTuple):
    """Whose identity it is.

    Attributes:
        kind: m, s, p or gone; empty for a number that a process has given itself, as a rule its pid; None for any
            other text.
        number: slot of a worker, number of a forked process, or what may be a pid.
        master: pid of the master whose server it belongs to; None if the identity does not say.
    """

    kind: str | None
    number: int | None
    master: int | None


def owner(identity: str) -> Owner:
    """Return whose identity it is; a process that knows nothing of us has its pid for one."""
    found = _IDENTITY.fullmatch(identity)
    if found is None:
        return Owner(None, None, None)
    kind, number, master = found.groups()
    if bool(number) != (kind in ("s", "p", "")):
        return Owner(None, None, None)
    return Owner(kind, int(number) if number else None, None if master is None else int(master))
