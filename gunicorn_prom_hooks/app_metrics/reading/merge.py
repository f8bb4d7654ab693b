"""All files of a directory merged by the rules of prometheus_client's MultiProcessCollector, at less cost."""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from prometheus_client.metrics_core import Metric

from .disputes import FamilyType, Source, exported, unchanged
from .families import MERGES, Family, Merge, Step, Totals
from .file_names import FileName, clean, parse_name
from .layouts import BadFile, Key, Layout, Layouts, Values
from .rewriting import Entry, content, key_of
from .values_file import ValuesFile


class Plan:
    """For these files in this order: which values are merged into one, and how.

    The rules are those of prometheus_client's ``MultiProcessCollector.merge``. Also where two files disagree about a
    family: the first one that has it says the type and the documentation, the last one of a gauge says the mode.

    Attributes:
        disputed: names of families of which the files have several types.

    Args:
        sources: the files.
        skipped: names and types of families that are left out.
    """

    def __init__(self, sources: Sequence[Source], skipped: frozenset[FamilyType] = frozenset()) -> None:
        self.sources = sources
        self.skipped = skipped
        self.disputed: frozenset[str] = frozenset()
        self._families: dict[str, Family] = {}
        self._mixed = False
        """Two files disagree about the type or the mode of a family."""
        self._find_families()
        self._targets = 0
        self._target_of: dict[tuple[str, str, str | None], dict[Key, int]] = {}
        """Slots of the keys, by type and mode of the file, and its identity if that matters."""
        self._runs: list[tuple[list[Step], list[int]]] = []
        """Files one after the other, by their numbers, that are merged by the same steps."""
        self._find_runs()
        for family in self._families.values():
            family.complete()

    def merge(self, numbers: Sequence[Values]) -> list[Metric]:
        """Return the families, with these numbers of the files."""
        totals: Totals = {}
        stamps: Totals = {}
        for steps, members in self._runs:
            files = [numbers[member] for member in members]
            for step in steps:
                step.run(files, totals, stamps)
        return [family.metric(totals) for family in self._families.values()]

    def _find_families(self) -> None:
        types: dict[str, str] = {}
        for source in self.sources:
            typ, mode = source.name.typ, source.name.mode
            for name, documentation in source.layout.families.items():
                if types.setdefault(name, typ) != typ:
                    self.disputed |= {name}
                if (name, typ) in self.skipped:
                    continue
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
                steps[kind] = self._steps(name, layout, self._target_of.setdefault(kind[:3], {}))
            return steps[kind]

        for _, run in groupby(numbers, key=lambda number: id(steps_of(number))):
            members = list(run)
            self._runs.append((steps_of(members[0]), members))

    def _steps(self, name: FileName, layout: Layout, target_of: dict[Key, int]) -> list[Step]:
        used = [
            at for at, key in enumerate(layout.keys) if not key.unusable and (key.family, name.typ) not in self.skipped
        ]
        keys = [layout.keys[at] for at in used]
        for key in keys:
            if key not in target_of:
                target_of[key] = self._target(key, name)
        by_merge: dict[Merge, list[int]] = {}
        for at, key in zip(used, keys, strict=True):
            by_merge.setdefault(self._merge(key.family), []).append(at)
        steps = []
        for merge, where in by_merge.items():
            targets = [target_of[layout.keys[at]] for at in where]
            steps.append(_step(merge, targets, None if len(where) == len(layout.keys) else where))
        return steps

    def _merge(self, name: str) -> Merge:
        family = self._families[name]
        return MERGES[family.mode if family.typ == "gauge" else "sum"]

    def _target(self, key: Key, name: FileName) -> int:
        family = self._families[key.family]
        labels = key.labels
        if name.typ == "gauge":
            if family.typ == "gauge" and family.mode == "all" and any(label == "pid" for label, _ in labels):
                labels = exported(labels)
            labels = (*labels, ("pid", name.identity))
        if family.typ == "gauge" and family.mode != "all":  # a label pid of the application's own goes as well
            labels = tuple(label for label in labels if label[0] != "pid")
        target = family.target(key, labels, self._targets)
        if target == self._targets:
            self._targets += 1
        return target


def _step(merge: Merge, targets: Sequence[int], positions: Sequence[int] | None) -> Step:
    return Step(merge, targets, positions, distinct=len(set(targets)) == len(targets))


class FileContent(NamedTuple):
    """The content of a file when it was last read, in little memory."""

    name: FileName
    layout: Layout
    values: array[float]
    timestamps: array[float]

    def content(self) -> bytes:
        """Return the file."""
        timestamps = self.timestamps or array("d", bytes(8 * len(self.values)))
        keys = (key_of(key.blob) for key in self.layout.keys)
        return content(map(Entry, keys, self.values, timestamps))


class MultiprocessFiles:
    """The metrics in the files that prometheus_client's multiprocess mode keeps in a directory.

    Attributes:
        last_read: by name of the file, what the last collect has read, without live gauges. Replaced as a whole.

    Args:
        directory: path.
        bad: called at each collect with name and reason for each file that cannot be read, or for the directory.
        reads: returns whether a file with this name is read.
        left_out: called at each collect with the name of each family that is left out, and why.
    """

    def __init__(
        self,
        directory: str,
        bad: Callable[[str, str], None],
        reads: Callable[[str, FileName], bool] = lambda file, name: True,
        left_out: Callable[[str, str], None] = lambda name, reason: None,
    ) -> None:
        self._directory = directory
        self.last_read: Mapping[str, FileContent] = {}
        self._bad = bad
        self._reads = reads
        self._left_out = left_out
        self._layouts = Layouts()
        self._files: dict[str, ValuesFile] = {}
        self._plan = Plan([])

    def move(self, directory: str) -> None:
        """Read another directory from now on."""
        if directory != self._directory:
            self._directory = directory
            self._files = {}

    def collect(self) -> list[Metric]:
        """Return the families, of all files that are there now."""
        self._files = self._find()
        sources: list[Source] = []
        numbers: list[Values] = []
        last_read: dict[str, FileContent] = {}
        for name, file in self._files.items():
            try:
                layout, values = file.read()
            except BadFile as error:
                self._bad(clean(name), str(error))
                continue
            sources.append(Source(file.name, layout))
            numbers.append(values)
            if not file.name.live:
                last_read[name] = FileContent(
                    file.name, layout, array("d", values.values), array("d", values.timestamps)
                )
        self.last_read = last_read
        if sources != self._plan.sources:
            self._plan = Plan(sources)
        disputed = self._plan.disputed
        skipped = unchanged(disputed, sources, numbers) if disputed else frozenset()
        if skipped != self._plan.skipped:
            self._plan = Plan(sources, skipped)
        for name, typ in sorted(skipped):
            self._left_out(name, f"as a {typ}, which nothing has changed: another type has this name")
        for source in sources:
            for name, reason in source.layout.left_out.items():
                self._left_out(name, reason)
        return self._plan.merge(numbers)

    def _find(self) -> dict[str, ValuesFile]:
        """Return the files, in the order in which the directory has them, which is also prometheus_client's."""
        try:
            names = os.listdir(self._directory)
        except OSError as error:
            self._bad(self._directory, error.strerror or type(error).__name__)
            return {}
        found = {}
        for name in names:
            parsed = parse_name(name)
            if parsed is not None and self._reads(name, parsed):
                file = self._files.get(name)
                found[name] = file or ValuesFile(str(Path(self._directory, name)), parsed, self._layouts)
        return found
