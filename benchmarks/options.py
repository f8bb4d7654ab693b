"""How long a benchmark measures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")
QUICK_WORKERS = ("sync", "asgi")


@dataclass(frozen=True)
class Options:
    """How long to measure.

    Attributes:
        quick: to see that everything runs. The figures are worth nothing.
        rounds: in place of each section's own number; None: that.
        workers: the kinds of workers to measure; none: all, or two of them if it is to be quick.
    """

    quick: bool = False
    rounds: int | None = None
    workers: tuple[str, ...] = ()

    def pick(self, full: T, quick: T) -> T:
        """Return one of both."""
        return quick if self.quick else full

    def number_of_rounds(self, full: int) -> int:
        """Return how many rounds to measure."""
        return self.rounds or self.pick(full, 1)

    def includes(self, worker: str) -> bool:
        """Return whether to measure this kind of worker."""
        chosen = self.workers or (QUICK_WORKERS if self.quick else ())
        return not chosen or worker in chosen
