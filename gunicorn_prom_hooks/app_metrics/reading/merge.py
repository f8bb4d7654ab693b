"""All files of a directory: what MultiProcessCollector gives of them, cheaper, and whatever else lies there."""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from prometheus_client.metrics_core import Metric

from .file_names import FileName, clean, parse_name
from .keys import BadFile
from .layouts import Layout, Layouts, Values
from .plan import Plan, Source
from .rewriting import Entry, content, key_of
from .values_file import ValuesFile


class Seen(NamedTuple):
    """What a file held when it was read last, in little memory."""

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
        seen: by name of the file, what the last collect has read, without live gauges. Replaced as a whole.

    Args:
        directory: where.
        bad: told name and reason of each file that cannot be read, or the directory and why, at each collect.
        reads: whether a file with this name is read, or left alone.
    """

    def __init__(
        self,
        directory: str,
        bad: Callable[[str, str], None],
        reads: Callable[[str, FileName], bool] = lambda file, name: True,
    ) -> None:
        self._directory = directory
        self.seen: Mapping[str, Seen] = {}
        self._bad = bad
        self._reads = reads
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
        seen: dict[str, Seen] = {}
        for name, file in self._files.items():
            try:
                layout, values = file.read()
            except BadFile as error:
                self._bad(clean(name), str(error))
                continue
            sources.append(Source(file.name, layout))
            numbers.append(values)
            if not file.name.live:
                seen[name] = Seen(file.name, layout, array("d", values.values), array("d", values.timestamps))
        self.seen = seen
        if sources != self._plan.sources:
            self._plan = Plan(sources)
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
