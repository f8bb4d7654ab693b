"""A roster, and workers for it."""

from __future__ import annotations

from dataclasses import dataclass

from gunicorn_prom_hooks.master.workers import TrackedWorker, WorkerRegistry
from gunicorn_prom_hooks.shm.allocator import SlotAllocator
from gunicorn_prom_hooks.shm.slot import Slot


@dataclass(eq=False)
class Worker:
    """The part of gunicorn's worker object that the roster looks at."""

    age: int
    pid: int | str = "[booting]"
    aborted: bool = False


Ended = list[tuple[TrackedWorker, float, bool]]


def a_roster(ended: Ended | None = None) -> WorkerRegistry:
    """A roster without workers; ``ended`` gets what it tells of ends."""
    told = [] if ended is None else ended
    return WorkerRegistry(SlotAllocator(lambda: Slot(100, 1000)), lambda *end: told.append(end))
