"""A worker registry for tests, and the worker objects that it tracks."""

from __future__ import annotations

from dataclasses import dataclass

from gunicorn_prom_hooks.master.workers import TrackedWorker, WorkerRegistry
from gunicorn_prom_hooks.shm.allocator import SlotAllocator
from gunicorn_prom_hooks.shm.slot import Slot


@dataclass(eq=False)
class Worker:
    """The part of gunicorn's worker object that the registry reads."""

    age: int
    pid: int | str = "[booting]"
    aborted: bool = False


class RecordedExits:
    """Takes the place of ``WorkerExits`` and keeps what the registry passes to it."""

    def __init__(self) -> None:
        self.calls: list[tuple[TrackedWorker, float, bool]] = []

    def record_exit(self, tracked: TrackedWorker, clock: float, *, reported: bool) -> None:
        """Keep the arguments."""
        self.calls.append((tracked, clock, reported))


def new_registry(exits: RecordedExits | None = None) -> WorkerRegistry:
    """Return a registry without workers, which records exits in ``exits``."""
    return WorkerRegistry(SlotAllocator(lambda: Slot(100, 1000)), exits or RecordedExits())
