"""Where the files of the application's metrics disagree with each other, or with the labels of the page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from .file_names import FileName
from .layouts import Labels, Layout, Values

FamilyType = tuple[str, str]
"""Name and type of a family."""
_PREFIX: Final = "exported_"
"""What the name of a label ``pid`` of the application's own begins with on the page, as in Prometheus."""


class Source(NamedTuple):
    """A file: what its name says, and what its keys are."""

    name: FileName
    layout: Layout


def exported(labels: Labels) -> Labels:
    """Return the labels with another name for ``pid``, which is the process's."""
    names = {name for name, _ in labels}
    new = f"{_PREFIX}pid"
    while new in names:
        new = _PREFIX + new
    return tuple((new if name == "pid" else name, value) for name, value in labels)


def unchanged(names: frozenset[str], sources: Sequence[Source], numbers: Sequence[Values]) -> frozenset[FamilyType]:
    """Return the types of these families that no process has changed, if one has changed another type of the family.

    A metric that prometheus_client refuses, since its name is taken, is in the file by then.
    """
    changed: dict[FamilyType, bool] = {}
    for (name, layout), (values, timestamps) in zip(sources, numbers, strict=True):
        for at, key in enumerate(layout.keys):
            if key.family in names and not key.unusable:
                family = key.family, name.typ
                is_changed = values[at] != 0 or bool(timestamps and timestamps[at])
                changed[family] = changed.get(family, False) or is_changed
    in_use = {name for (name, _), is_changed in changed.items() if is_changed}
    return frozenset(family for family, is_changed in changed.items() if not is_changed and family[0] in in_use)
