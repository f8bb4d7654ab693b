"""How these files merge: worked out once, and used as long as they are the same files with the same keys."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

from prometheus_client.metrics_core import Metric

from .columns import MERGES, Merge, Step, Totals
from .families import Family
from .file_names import FileName
from .keys import Key
from .layouts import Layout, Values


class Source(NamedTuple):
    """A file: what its name says, and what its keys are."""

    name: FileName
    layout: Layout


class Plan:
    """For these files in this order: which values are merged into one, and how.

    The rules are those of prometheus_client's ``MultiProcessCollector.merge``. Also where two files disagree about a
    family: the first one that has it says the type and the documentation, the last one of a gauge says the mode.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        self.sources = sources
        self._families: dict[str, Family] = {}
        self._mixed = False
        """Two files disagree about the type or the mode of a family."""
        self._find_families()
        self._slots = 0
        self._slot_of: dict[tuple[str, str, str | None], dict[Key, int]] = {}
        """Slots of the keys, by type and mode of the file, and its identity if that matters."""
        self._runs: list[tuple[list[Step], list[int]]] = []
        """Files one after the other, by their numbers, that are merged by the same steps."""
        self._find_runs()
        for family in self._families.values():
            family.complete()

    def merge(self, numbers: Sequence[Values]) -> list[Metric]:
        """The families, with these numbers of the files."""
        totals: Totals = {}
        stamps: Totals = {}
        for steps, members in self._runs:
            files = [numbers[member] for member in members]
            for step in steps:
                step.run(files, totals, stamps)
        return [family.metric(totals) for family in self._families.values()]

    def _find_families(self) -> None:
        for source in self.sources:
            typ, mode = source.name.typ, source.name.mode
            for name, documentation in source.layout.families.items():
                family = self._families.setdefault(name, Family(name, documentation, typ, mode))
                self._mixed |= (family.typ, family.mode) != (typ, mode)
                if typ == "gauge":
                    family.mode = mode

    def _find_runs(self) -> None:
        steps: dict[tuple[str, str, str | None, Layout], list[Step]] = {}
        numbers = list(range(len(self.sources)))
        if not self._mixed:  # else the order of all files matters, and not only of those of one kind
            numbers.sort(key=lambda number: self.sources[number].name[:2])

        def steps_of(number: int) -> list[Step]:
            name, layout = self.sources[number]
            identity = name.identity if self._mixed or name.mode == "all" else None
            kind = name.typ, name.mode, identity, layout
            if kind not in steps:
                steps[kind] = self._steps(name, layout, self._slot_of.setdefault(kind[:3], {}))
            return steps[kind]

        for _, run in groupby(numbers, key=lambda number: id(steps_of(number))):
            members = list(run)
            self._runs.append((steps_of(members[0]), members))

    def _steps(self, name: FileName, layout: Layout, slot_of: dict[Key, int]) -> list[Step]:
        for key in layout.keys:
            if key not in slot_of:
                slot_of[key] = self._slot(key, name)
        slots = [slot_of[key] for key in layout.keys]
        merges = {self._merge(family) for family in layout.families}
        if len(merges) <= 1:
            return [_step(merge, slots, None) for merge in merges]
        by_merge: dict[Merge, list[int]] = {merge: [] for merge in merges}
        for at, key in enumerate(layout.keys):
            by_merge[self._merge(key.family)].append(at)
        return [_step(merge, [slots[at] for at in where], where) for merge, where in by_merge.items()]

    def _merge(self, name: str) -> Merge:
        family = self._families[name]
        return MERGES[family.mode if family.typ == "gauge" else "sum"]

    def _slot(self, key: Key, name: FileName) -> int:
        family = self._families[key.family]
        labels = key.labels
        if name.typ == "gauge":
            labels = (*labels, ("pid", name.identity))
        if family.typ == "gauge" and family.mode != "all":  # a label pid of the application's own goes as well
            labels = tuple(label for label in labels if label[0] != "pid")
        slot = family.slot(key, labels, self._slots)
        if slot == self._slots:
            self._slots += 1
        return slot


def _step(merge: Merge, slots: Sequence[int], positions: Sequence[int] | None) -> Step:
    return Step(merge, slots, positions, distinct=len(set(slots)) == len(slots))
