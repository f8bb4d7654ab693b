"""A roster, and workers for it."""

from __future__ import annotations

from dataclasses import dataclass

from gunicorn_prom_hooks.master.roster import Roster
from gunicorn_prom_hooks.scoreboard.leases import Leases
from gunicorn_prom_hooks.scoreboard.slot import Slot


@dataclass(eq=False)
class Worker:
    """The part of gunicorn's worker object that the roster looks at."""

    age: int
    pid: int | str = "[booting]"
    aborted: bool = False


def a_roster() -> Roster:
    """A roster without workers."""
    return Roster(Leases(lambda: Slot(100, 1000)))
