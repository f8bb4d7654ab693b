"""Names that the application has given to metrics of its own, and that are ours: a page must have each once.

A name may have any characters. A client that takes only some of them gets it escaped, and then two names can be one.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Final

from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import exposition
from prometheus_client.openmetrics.exposition import escape_label_name, escape_metric_name

from ..errors import ErrorReporter
from ..paths import escape_unprintable

MAX_TOLD: Final = 100
_SUFFIXES: Final = {
    "counter": ("_total",),
    "histogram": ("_bucket", "_sum", "_count"),
    "summary": ("_sum", "_count"),
}
"""What a family of this type has behind its name on the page, with samples or without."""
_NAME_TAKEN: Final = "gunicorn_prom_hooks: the application's metric %s is left out: the name is taken"
_ONE_LABEL: Final = (
    "gunicorn_prom_hooks: the application's metric %s is left out: two of its labels have one name once escaped"
)
_ESCAPINGS: Final = ("underscores", "dots", "values") if hasattr(exposition, "UNDERSCORES") else ()
"""The ways in which a client may want names; the fourth leaves them as they are, and old versions know only that."""
_Forms = frozenset[tuple[str, str]]
"""Names as they are on a page, each with the escaping of that page."""


class Clashes:
    """Leaves out what clashes, and says so once for each name.

    Args:
        errors: counts them, and has gunicorn's logger.
        hold: what must be held while anything is logged.
    """

    def __init__(self, errors: ErrorReporter, hold: Callable[[], AbstractContextManager[None]] = nullcontext) -> None:
        self._errors = errors
        self._hold = hold
        self._told: set[str] = set()
        self._ours: set[tuple[str, str]] = set()
        """Of all families that there have been: one whose collector fails is not on each page."""

    def without(self, theirs: Iterable[Metric], ours: Iterable[Metric]) -> Iterator[Metric]:
        """Return those of the application's families that are unambiguous, whatever escaping a client asks for.

        No name of a family or a sample is one that ours have too, or another one of theirs, and no sample has two
        labels of one name.
        """
        for family in ours:
            self._ours |= _forms(family.name, family.type)
        taken = self._ours.copy()
        for family in theirs:
            forms = _forms(family.name, family.type)
            if not taken.isdisjoint(forms):
                self._tell(family.name, _NAME_TAKEN)
                continue
            taken |= forms  # two of theirs may clash as well
            names = _names(family.name, family.type)
            family.samples = [sample for sample in family.samples if sample.name in names]
            if any(_have_one_name(tuple(sample.labels)) for sample in family.samples):
                self._tell(family.name, _ONE_LABEL)
                continue
            yield family

    def _tell(self, name: str, message: str) -> None:
        if name in self._told or len(self._told) >= MAX_TOLD:
            return
        self._told.add(name)
        self._errors.counts["app_metrics_name"] += 1
        if self._errors.log is not None:
            with self._hold():
                self._errors.log.error(message, escape_unprintable(name))


@functools.lru_cache(4096)
def _names(name: str, typ: str) -> frozenset[str]:
    return frozenset((name, *(name + suffix for suffix in _SUFFIXES.get(typ, ()))))


@functools.lru_cache(4096)
def _forms(name: str, typ: str) -> _Forms:
    names = _names(name, typ)
    escaped = {(escaping, escape_metric_name(each, escaping)) for escaping in _ESCAPINGS for each in names}
    return frozenset((*(("", each) for each in names), *escaped))


@functools.lru_cache(4096)
def _have_one_name(labels: tuple[str, ...]) -> bool:
    return any(len({escape_label_name(name, escaping) for name in labels}) < len(labels) for escaping in _ESCAPINGS)
