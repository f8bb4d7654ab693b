"""All files of a directory: what MultiProcessCollector gives of them, cheaper, and whatever else lies there."""

from __future__ import annotations

import enum
import os
from collections.abc import Callable
from pathlib import Path

from prometheus_client.metrics_core import Metric

from .gone import Gone
from .keys import BadFile
from .layouts import Layouts, Values
from .names import clean, parse_name
from .plan import Plan, Source
from .values_file import ValuesFile


class Fate(enum.Enum):
    """What is done with a file."""

    READ = enum.auto()
    LEAVE = enum.auto()
    KEEP = enum.auto()


class MultiprocessFiles:
    """The metrics in the files that prometheus_client's multiprocess mode keeps in a directory.

    Args:
        directory: where.
        bad: told name and reason of each file that cannot be read, or the directory and why, at each collect.
        fate: whether the files of this identity are read, left alone, or read for the last time, kept in memory and
            removed, since their process is gone.
    """

    def __init__(
        self, directory: str, bad: Callable[[str, str], None], fate: Callable[[str], Fate] = lambda identity: Fate.READ
    ) -> None:
        self._directory = directory
        self._bad = bad
        self._fate = fate
        self._layouts = Layouts()
        self._files: dict[str, ValuesFile] = {}
        self._plan = Plan([])
        self._gone = Gone(self._layouts)
        self._kept: set[str] = set()
        """Files whose numbers are kept, and that could not be removed."""

    def collect(self) -> list[Metric]:
        """The families, of all files that are there now."""
        self._files = self._find()
        sources: list[Source] = []
        numbers: list[Values] = []
        for name, file in list(self._files.items()):
            fate = self._fate(file.name.identity)  # before it is read: what a process writes, it writes before it goes
            try:
                layout, values = file.read()
            except BadFile as error:
                self._bad(clean(name), str(error))
                if fate is Fate.KEEP:  # nobody will ever mend it
                    self._remove(name)
                continue
            if fate is Fate.KEEP:
                self._gone.add(file.name, layout, values)
                self._remove(name)
                continue
            sources.append(Source(file.name, layout))
            numbers.append(values)
        for source, values in self._gone.sources():
            sources.append(source)
            numbers.append(values)
        if sources != self._plan.sources:
            self._plan = Plan(sources)
        return self._plan.merge(numbers)

    def _find(self) -> dict[str, ValuesFile]:
        """The files, in the order in which the directory has them, which is also prometheus_client's."""
        try:
            names = os.listdir(self._directory)
        except OSError as error:
            self._bad(self._directory, error.strerror or type(error).__name__)
            return {}
        found = {}
        self._kept &= set(names)
        for name in names:
            file = self._files.get(name) or self._open(name)
            if file is not None and name not in self._kept and self._fate(file.name.identity) is not Fate.LEAVE:
                found[name] = file
        return found

    def _remove(self, name: str) -> None:
        try:
            Path(self._directory, name).unlink(missing_ok=True)
        except OSError as error:
            self._kept.add(name)
            self._bad(clean(name), f"cannot be removed: {error.strerror}")
        self._files.pop(name, None)

    def _open(self, name: str) -> ValuesFile | None:
        parsed = parse_name(name)
        return parsed and ValuesFile(str(Path(self._directory, name)), parsed, self._layouts)
