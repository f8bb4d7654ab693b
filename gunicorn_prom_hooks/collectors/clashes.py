"""Names that the application has given to metrics of its own, and that are ours: a page must have each once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Final

from prometheus_client.metrics_core import Metric

from ..guard import Guard

MAX_TOLD: Final = 100
_SUFFIXES: Final = {
    "counter": ("_total",),
    "histogram": ("_bucket", "_sum", "_count"),
    "summary": ("_sum", "_count"),
}
"""What a family of this type has behind its name on the page, with samples or without."""


class Clashes:
    """Leaves out what clashes, and says so once for each name.

    Args:
        guard: counts them, and has gunicorn's logger.
        hold: what must be held while anything is logged.
    """

    def __init__(self, guard: Guard, hold: Callable[[], AbstractContextManager[None]] = nullcontext) -> None:
        self._guard = guard
        self._hold = hold
        self._told: set[str] = set()

    def without(self, theirs: Iterable[Metric], ours: Iterable[Metric]) -> Iterator[Metric]:
        """Those of the application's families that have no name, of a family or a sample, which ours have too."""
        taken = {name for family in ours for name in _names(family)}
        for family in theirs:
            if taken.isdisjoint(_names(family)):
                taken |= _names(family)  # two of theirs may clash as well
                family.samples = [sample for sample in family.samples if sample.name in _names(family)]
                yield family
            elif family.name not in self._told and len(self._told) < MAX_TOLD:
                self._told.add(family.name)
                self._guard.counts["app_metrics_name"] += 1
                if self._guard.log is not None:
                    with self._hold():
                        self._guard.log.error(
                            "gunicorn_prom_hooks: the application's metric %s is left out: the name is taken",
                            family.name,
                        )


def _names(family: Metric) -> set[str]:
    return {family.name, *(family.name + suffix for suffix in _SUFFIXES.get(family.type, ()))}
