"""Applications that keep metrics of their own in prometheus_client's multiprocess files, and what is read of them."""

from __future__ import annotations

import os
from collections import Counter as Multiset
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from prometheus_client import Counter, Gauge, Histogram, Summary, values
from prometheus_client.metrics_core import Metric
from prometheus_client.mmap_dict import MmapedDict, mmap_key
from prometheus_client.multiprocess import MultiProcessCollector

from gunicorn_prom_hooks.app_metrics.reading.file_names import clean
from gunicorn_prom_hooks.app_metrics.reading.merge import MultiprocessFiles

Row = tuple[str, str, str, str, frozenset[tuple[str, str]], str]
"""Family, type, documentation, sample, labels, value; as text, so that NaN equals NaN."""
MODES = sorted(Gauge._MULTIPROC_MODES)


def rows(families: Iterable[Metric]) -> Multiset[Row]:
    """Return all names, types, labels and values of the families."""
    return Multiset(
        (
            clean(family.name),
            family.type,
            clean(family.documentation),
            clean(sample.name),
            frozenset((clean(name), clean(value)) for name, value in sample.labels.items()),
            repr(sample.value),
        )
        for family in families
        for sample in family.samples
    )


def theirs(folder: Path) -> Multiset[Row]:
    """Return the rows that prometheus_client reads in this directory."""
    collector: Any = MultiProcessCollector(None, folder)  # type: ignore[no-untyped-call]
    return rows(collector.collect())


class Reader:
    """Our reader of a directory, and what it said of bad files."""

    def __init__(self, folder: Path) -> None:
        self.files = MultiprocessFiles(str(folder), self._note, left_out=self._note_family)
        self.bad: dict[str, str] = {}
        """Of the last collect."""
        self.left_out: dict[str, str] = {}
        """Families that it has left out."""

    def _note(self, name: str, reason: str) -> None:
        assert name not in self.bad, f"told twice: {name}"
        assert reason
        self.bad[name] = reason

    def _note_family(self, name: str, reason: str) -> None:
        self.left_out[name] = reason

    def collect(self) -> list[Metric]:
        """Return the families."""
        self.bad.clear()
        self.left_out.clear()
        return self.files.collect()

    def rows(self) -> Multiset[Row]:
        """Return the rows of all families."""
        return rows(self.collect())

    def values(self) -> dict[str, float]:
        """Return the values of samples without labels, by name."""
        return {sample.name: sample.value for family in self.collect() for sample in family.samples}


class Process:
    """A process of the application, as prometheus_client sees one."""

    def __init__(self, folder: Path, identity: str) -> None:
        self._folder = folder
        self._value_class: Any = values.MultiProcessValue(lambda: identity)  # type: ignore[no-untyped-call]
        self._metrics: dict[tuple[object, ...], Any] = {}

    @contextmanager
    def _multiprocess(self) -> Iterator[None]:
        environ = {"PROMETHEUS_MULTIPROC_DIR": str(self._folder)}
        with mock.patch.dict(os.environ, environ), mock.patch.object(values, "ValueClass", self._value_class):
            yield

    def record(
        self, kind: str, name: str, labels: Mapping[str, str], amount: float, documentation: str = "Help."
    ) -> None:
        """Change a counter, summary or histogram, or a gauge if ``kind`` is a mode of gauges."""
        with self._multiprocess():
            key = kind, name, tuple(labels), documentation
            if key not in self._metrics:
                self._metrics[key] = _make(kind, name, tuple(labels), documentation)
            metric = self._metrics[key].labels(**labels) if labels else self._metrics[key]
            if kind == "counter":
                metric.inc(abs(amount))
            elif kind in MODES:
                metric.set(amount)
            else:
                metric.observe(amount)

    def close(self) -> None:
        """Close all files of the process. The files stay."""
        self._value_class.close_all_files()


def _make(kind: str, name: str, labels: tuple[str, ...], documentation: str) -> Any:
    if kind == "counter":
        return Counter(name, documentation, labels, registry=None)
    if kind == "summary":
        return Summary(name, documentation, labels, registry=None)
    if kind == "histogram":
        return Histogram(name, documentation, labels, registry=None, buckets=(-1.0, 0.5, 1e7))
    mode: Any = kind
    return Gauge(name, documentation, labels, registry=None, multiprocess_mode=mode)


def key_of(name: str, labels: Mapping[str, str] | None = None, family: str | None = None) -> str:
    """Return the key of a sample."""
    labels = labels or {}
    return mmap_key(family or name, name, list(labels), list(labels.values()), "Help.")


def write(path: Path, entries: Mapping[str, float | tuple[float, float]]) -> None:
    """Write these entries to a file."""
    file: Any = MmapedDict(str(path))  # type: ignore[no-untyped-call]
    for key, value in entries.items():
        file.write_value(key, *(value if isinstance(value, tuple) else (value, 0.0)))
    file.close()


def content(tmp: Path, entries: Mapping[str, float]) -> bytes:
    """Return the used part of a file with these entries, as bytes."""
    path = tmp / "content"
    write(path, entries)
    data = path.read_bytes()
    path.unlink()
    return data[: int.from_bytes(data[:4], "little")]
