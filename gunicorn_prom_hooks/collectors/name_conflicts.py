"""Conflicts between names of the application's metrics, this package's and the user's: a page must have each once.

A name may have any characters. A client that takes only some of them gets it escaped, and then two names can be one.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from typing import Final

from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import exposition
from prometheus_client.openmetrics.exposition import escape_label_name, escape_metric_name
from prometheus_client.samples import Sample

from ..concurrency import ForkLock
from ..errors import ErrorReporter
from ..paths import escape_unprintable

MAX_REPORTED: Final = 100
"""Names that are logged and counted."""
_SUFFIXES: Final = {
    "counter": ("_total", "_created"),
    "histogram": ("_bucket", "_sum", "_count", "_created"),
    "summary": ("_sum", "_count", "_created"),
}
"""Suffixes of a family's name on the page by its type, with samples or without."""
_NAME_TAKEN: Final = "gunicorn_prom_hooks: the application's metric %s is left out: the name is taken"
_ONE_LABEL: Final = (
    "gunicorn_prom_hooks: the application's metric %s is left out: two of its labels have one name once escaped"
)
_OTHER_TYPE: Final = (
    "gunicorn_prom_hooks: samples of the application's metric %s are left out: metrics of several types have this name"
)
_ESCAPINGS: Final = ("underscores", "dots", "values") if hasattr(exposition, "UNDERSCORES") else ()
"""Escaping schemes that a client may ask for. The fourth leaves names as they are; old versions know only that."""
_Forms = frozenset[tuple[str, str]]
"""Names as they are on a page, each with the escaping of that page."""


def add_labels(family: Metric, labels: Mapping[str, str]) -> None:
    """Add labels to every sample of a family. A label of the same name that a sample has stays.

    Samples that become equal by that are added up if they only grow. Of others the first one stays.
    """
    names = tuple(labels)
    added = [_free(names, tuple(sample.labels)) for sample in family.samples]
    family.samples = [
        sample._replace(labels={**{name: labels[name] for name in free}, **sample.labels})
        for sample, free in zip(family.samples, added, strict=True)
    ]
    if any(len(free) < len(names) for free in added):
        _merge_equal(family)


def _merge_equal(family: Metric) -> None:
    found: dict[tuple[str, frozenset[tuple[str, str]]], Sample] = {}
    for sample in family.samples:
        key = sample.name, frozenset(sample.labels.items())
        if key not in found:
            found[key] = sample
        elif family.type in _SUFFIXES and not sample.name.endswith("_created"):
            found[key] = sample._replace(value=found[key].value + sample.value)
    family.samples = list(found.values())


class NameConflicts:
    """Leaves out the application's families whose names conflict, and logs each name once.

    Args:
        errors: counts the conflicts, and has gunicorn's logger.
        fork_lock: held while anything is logged; None: there are no forks.
    """

    def __init__(self, errors: ErrorReporter, fork_lock: ForkLock | None = None) -> None:
        self._errors = errors
        self._hold = nullcontext if fork_lock is None else fork_lock.hold
        self._reported: set[str] = set()
        self._package_forms: set[tuple[str, str]] = set()
        """Of all families so far: those of a collector that fails are missing from some pages."""

    def without_conflicts(self, app_families: Iterable[Metric], families: Iterable[Metric]) -> Iterator[Metric]:
        """Return those of the application's families that are unambiguous, whatever escaping a client asks for.

        No name of a family or a sample is also one of this package's, or of another family of the application. No
        sample has two labels of one name.

        Args:
            app_families: of the application.
            families: of this package.
        """
        for family in families:
            self._package_forms |= _forms(family.name, family.type)
        taken = self._package_forms.copy()
        for family in app_families:
            forms = _forms(family.name, family.type)
            if not taken.isdisjoint(forms):
                self._report(family.name, _NAME_TAKEN)
                continue
            taken |= forms  # two of the application's may conflict as well
            names = _names(family.name, family.type)
            samples = [sample for sample in family.samples if sample.name in names]
            if len(samples) < len(family.samples):
                self._report(family.name, _OTHER_TYPE)
                family.samples = samples
            if any(_have_one_name(tuple(sample.labels)) for sample in family.samples):
                self._report(family.name, _ONE_LABEL)
                continue
            yield family

    def _report(self, name: str, message: str) -> None:
        if name in self._reported or len(self._reported) >= MAX_REPORTED:
            return
        self._reported.add(name)
        self._errors.count("app_metrics_name")
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


@functools.lru_cache(4096)
def _free(names: tuple[str, ...], labels: tuple[str, ...]) -> tuple[str, ...]:
    """Return those of the names that are different from all labels, whatever escaping a client asks for."""
    taken = {(escaping, escape_label_name(label, escaping)) for escaping in _ESCAPINGS for label in labels}
    return tuple(
        name
        for name in names
        if name not in labels
        and taken.isdisjoint((escaping, escape_label_name(name, escaping)) for escaping in _ESCAPINGS)
    )
