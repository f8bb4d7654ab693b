"""Merging the files of the application's metrics: just as prometheus_client's own reader does."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from tests.helpers.app_metrics import MODES, Process, Reader, key_of, theirs, write

KINDS = ["counter", "summary", "histogram", *MODES]
NAMES = ["requests", "a_count", "ä name"]
"""Few, so that processes often disagree about what a metric is."""
IDENTITIES = ["1", "2", "s0-7", "é"]
NAN = math.nan


class Record(NamedTuple):
    """A process changes a metric."""

    identity: str
    kind: str
    name: str
    labels: dict[str, str]
    amount: float
    documentation: str

    def apply(self, processes: Processes) -> None:
        processes[self.identity].record(self.kind, self.name, self.labels, self.amount, self.documentation)


class Grow(NamedTuple):
    """A process makes its file grow beyond its first size, or beyond its second."""

    identity: str
    kind: str

    def apply(self, processes: Processes) -> None:
        for number in range(12):
            processes[self.identity].record(self.kind, f"grown_{self.kind}", {"label": f"{number} " + "é" * 1000}, 1.0)


class Restart(NamedTuple):
    """A process ends, and another one with its identity goes on with its files."""

    identity: str

    def apply(self, processes: Processes) -> None:
        processes.pop(self.identity).close()


class Remove(NamedTuple):
    """A process ends, and its files are removed; another one may make them anew."""

    identity: str

    def apply(self, processes: Processes) -> None:
        processes.pop(self.identity).close()
        for path in processes.folder.glob(f"*_{self.identity}.db"):
            path.unlink()


class Processes(dict[str, Process]):
    """Processes by identity, started when needed."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def __missing__(self, identity: str) -> Process:
        self[identity] = Process(self.folder, identity)
        return self[identity]

    def pop(self, identity: str, *_: object) -> Process:
        """The process, which is taken out."""
        process = self[identity]
        del self[identity]
        return process

    def close(self) -> None:
        """Ends all."""
        for process in self.values():
            process.close()


identities = st.sampled_from(IDENTITIES)
kinds = st.sampled_from(KINDS)
labels = st.dictionaries(
    st.sampled_from(["pid", "path", "äöü", "x y"]), st.sampled_from(["", "1", "2"]) | st.text(max_size=6), max_size=2
)
amounts = st.sampled_from([0.0, -0.0, 1.0, 0.1, NAN, math.inf]) | st.floats(width=32)
documentations = st.sampled_from(["", "Help."]) | st.text(max_size=6)
records = st.builds(Record, identities, kinds, st.sampled_from(NAMES), labels, amounts, documentations)


def _without_pid(record: Record, kinds: tuple[str, ...]) -> Record:
    """Leave out a label of which prometheus_client writes two on one page."""
    return record._replace(labels={n: v for n, v in record.labels.items() if n != "pid" or record.kind not in kinds})


agreeing = st.builds(
    lambda record: _without_pid(record._replace(name=f"{record.kind} {record.name}"), ("all", "liveall")),
    records,
)
"""Changes of metrics that are the same in all processes."""
disagreeing = st.builds(
    lambda record: _without_pid(record, tuple(MODES))._replace(amount=record.amount or 1.0), records
)
"""Changes of metrics that are not, each of which has been changed."""
others = st.one_of(st.builds(Grow, identities, kinds), st.builds(Restart, identities), st.builds(Remove, identities))


def compare(steps: list[Any]) -> None:
    """Does these steps, and compares with prometheus_client after each."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        processes = Processes(folder)
        reader = Reader(folder)
        try:
            for step in steps:
                step.apply(processes)
                assert reader.rows() == theirs(folder)
                assert not reader.bad
            assert Reader(folder).rows() == theirs(folder)
        finally:
            processes.close()


@settings(deadline=None, max_examples=150)
@given(st.lists(st.one_of(agreeing, agreeing, agreeing, others), min_size=1, max_size=25))
def test_reader_equals_multiprocess_collector_for_any_metrics_and_files(steps: list[Any]) -> None:
    """Of whatever metrics, and whatever happens to their files, we say what MultiProcessCollector says."""
    compare(steps)


@settings(deadline=None, max_examples=150)
@given(st.lists(st.one_of(disagreeing, disagreeing, disagreeing, others), min_size=1, max_size=15))
def test_reader_equals_multiprocess_collector_where_processes_disagree(steps: list[Any]) -> None:
    """The same where processes disagree about the type, the mode, or the help of a metric."""
    compare(steps)


@settings(deadline=None, max_examples=40)
@given(st.lists(agreeing.filter(lambda record: "mostrecent" not in record.kind), min_size=1, max_size=15))
def test_reader_page_equals_that_of_multiprocess_collector_byte_for_byte(steps: list[Record]) -> None:
    """The page is the same byte for byte, with all families and samples in the same order."""
    with tempfile.TemporaryDirectory() as name:
        processes = Processes(Path(name))
        for step in steps:
            step.apply(processes)
        processes.close()
        collector: Any = MultiProcessCollector(None, name)  # type: ignore[no-untyped-call]
        assert generate_latest(Reader(Path(name))) == generate_latest(collector)


@pytest.mark.parametrize(
    ("mode", "numbers", "expected"),
    [
        ("sum", [(1.0, 0.0), (2.0, 0.0), (4.0, 0.0)], 7.0),
        ("min", [(2.0, 0.0), (1.0, 0.0), (4.0, 0.0)], 1.0),
        ("min", [(NAN, 0.0), (1.0, 0.0)], NAN),
        ("min", [(1.0, 0.0), (NAN, 0.0)], 1.0),
        ("max", [(2.0, 0.0), (4.0, 0.0), (1.0, 0.0)], 4.0),
        ("max", [(-2.0, 0.0), (-4.0, 0.0)], -2.0),
        ("mostrecent", [(1.0, 10.0), (2.0, 30.0), (4.0, 20.0)], 2.0),
        ("mostrecent", [(1.0, 10.0), (2.0, 10.0)], 1.0),
        ("mostrecent", [(1.0, 0.0), (2.0, 0.0)], None),
    ],
)
@pytest.mark.parametrize("live", ["", "live"])
def test_gauge_values_of_processes_are_merged_by_mode(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    live: str,
    mode: str,
    numbers: list[tuple[float, float]],
    expected: float | None,
) -> None:
    """One value is made of those of all processes, as the mode has it."""
    names = [f"gauge_{live}{mode}_{identity}.db" for identity in range(len(numbers))]
    for name, number in zip(names, numbers, strict=True):
        write(tmp_path / name, {key_of("g", {"a": "b"}): number})
    monkeypatch.setattr("os.listdir", lambda _: names)
    (family,) = Reader(tmp_path).collect()
    assert family.type == "gauge"
    assert [(sample.labels, repr(sample.value)) for sample in family.samples] == (
        [] if expected is None else [({"a": "b"}, repr(expected))]
    )


@pytest.mark.parametrize("mode", ["all", "liveall"])
def test_gauge_of_mode_all_has_a_sample_per_process_identity(tmp_path: Path, mode: str) -> None:
    """Each process has a sample, labeled with its whole identity, underscores included."""
    write(tmp_path / f"gauge_{mode}_7.db", {key_of("g"): 1.0})
    write(tmp_path / f"gauge_{mode}_worker_8.db", {key_of("g"): 2.0})
    (family,) = Reader(tmp_path).collect()
    assert {sample.labels["pid"]: sample.value for sample in family.samples} == {"7": 1.0, "worker_8": 2.0}


@pytest.mark.parametrize("mode", ["all", "liveall"])
def test_label_pid_of_a_gauge_is_kept_under_another_name(tmp_path: Path, mode: str) -> None:
    """Each series of the page is there once: two that differ in their own pid do not become one."""
    labels = [{"pid": "1"}, {"pid": "2"}, {"pid": "1", "exported_pid": "3"}]
    write(tmp_path / f"gauge_{mode}_7.db", {key_of("g", own): 1.0 + at for at, own in enumerate(labels)})
    (family,) = Reader(tmp_path).collect()
    assert [(sample.labels, sample.value) for sample in family.samples] == [
        ({"exported_pid": "1", "pid": "7"}, 1.0),
        ({"exported_pid": "2", "pid": "7"}, 2.0),
        ({"exported_exported_pid": "1", "exported_pid": "3", "pid": "7"}, 3.0),
    ]


def test_unchanged_metric_does_not_take_the_type_of_one_that_is_changed(tmp_path: Path) -> None:
    """A refused metric of another type, which its constructor has put into a file, does not hide the first one."""
    reader = Reader(tmp_path)
    gauges = tmp_path / "gauge_all_1.db"
    write(gauges, {key_of("orders"): 0.0, key_of("other"): 1.0})
    write(tmp_path / "counter_1.db", {key_of("orders_total", family="orders"): 0.0})
    reader.collect()
    assert reader.left_out == {}, "there is none to prefer"
    write(tmp_path / "counter_2.db", {key_of("orders_total", family="orders"): 5.0})
    for _ in range(2):
        assert {(f.name, f.type, f.samples[0].value) for f in reader.collect()} == {
            ("orders", "counter", 5.0),
            ("other", "gauge", 1.0),
        }
        assert list(reader.left_out) == ["orders"]
    assert "gauge" in reader.left_out["orders"]
    write(gauges, {key_of("orders"): 3.0})
    reader.collect()
    assert reader.left_out == {}, "both are changed"


def test_key_that_cannot_be_used_costs_its_family_only(tmp_path: Path) -> None:
    """A name that no metric can have is left out; a help text that is none is empty."""
    odd = key_of("good").replace('"Help."', "null")
    write(tmp_path / "counter_1.db", {key_of("a").replace('"a"', '""', 1): 1.0, odd: 2.0, key_of("b"): 3.0})
    write(tmp_path / "counter_2.db", {odd: 2.0})
    reader = Reader(tmp_path)
    assert (reader.values(), reader.bad, list(reader.left_out)) == ({"good": 4.0, "b": 3.0}, {}, [""])


def test_histogram_buckets_are_sorted_cumulative_and_summed_over_processes(tmp_path: Path) -> None:
    """Buckets come in order and add up, also over processes, and the last one is the count."""
    for identity in "12":
        process = Process(tmp_path, identity)
        for seconds in (0.1, 0.2, 0.7, 1e9):
            process.record("histogram", "h", {"a": identity}, seconds)
            process.record("histogram", "h", {"a": ""}, seconds)
        process.close()
    (family,) = Reader(tmp_path).collect()
    found = [(s.name, s.labels.get("le"), s.value) for s in family.samples if s.labels["a"] == ""]
    assert found == [
        ("h_sum", None, 2 * (0.1 + 0.2 + 0.7 + 1e9)),
        *(("h_bucket", le, value) for le, value in (("-1.0", 0.0), ("0.5", 4.0), ("1e+07", 6.0), ("+Inf", 8.0))),
        ("h_count", None, 8.0),
    ]


def test_keys_of_one_sample_in_one_file_are_merged(tmp_path: Path) -> None:
    """Two keys of one file that differ in the help text or in how a bound is written are one sample."""
    keys = [key_of("h_bucket", {"le": le}, "h") for le in ("1", "1.0", "+Inf")]
    write(tmp_path / "histogram_1.db", {**dict.fromkeys(keys, 1.0), keys[0].replace("Help", "Other"): 4.0})
    for mode in ("max", "min"):
        gauges = [key_of(mode, {"pid": pid}) for pid in "12"]
        write(tmp_path / f"gauge_{mode}_1.db", dict(zip(gauges, (7.0, 6.0), strict=True)))
    reader = Reader(tmp_path)
    assert reader.rows() == theirs(tmp_path)
    assert reader.values() == {"h_bucket": 7.0, "h_count": 7.0, "max": 7.0, "min": 6.0}


def test_change_of_returned_families_does_not_change_the_next_collect(tmp_path: Path) -> None:
    """A change of returned families, samples or labels does not change those of the next collect."""
    write(tmp_path / "counter_1.db", {key_of("a_total", {"x": "y"}, "a"): 1.0})
    reader = Reader(tmp_path)
    (family,) = reader.collect()
    family.samples[0].labels["x"] = "z"
    family.samples.clear()
    assert reader.rows() == theirs(tmp_path)


def test_histogram_bounds_that_differ_between_processes_are_sorted_and_summed(tmp_path: Path) -> None:
    """Buckets come in the order of their bounds though no one file has them all, and there is one count."""
    for identity, le in ("1", "10"), ("2", "2"):
        buckets = {key_of("h_bucket", {"le": bound}, "h"): 1.0 for bound in (le, "+Inf")}
        write(tmp_path / f"histogram_{identity}.db", {**buckets, key_of("h_count", family="h"): 99.0})
    reader = Reader(tmp_path)
    assert reader.rows() == theirs(tmp_path)
    (family,) = reader.collect()
    found = [(sample.labels["le"], sample.value) for sample in family.samples if sample.labels]
    assert found == [("2.0", 1.0), ("10.0", 2.0), ("+Inf", 4.0)]


def test_values_are_added_in_directory_order_whatever_their_types(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where files disagree about the type, values are merged in the order in which the directory has the files."""
    files = {"counter_1.db": 1e16, "summary_2.db": -1e16, "counter_3.db": 1.0}
    for name, value in files.items():
        write(tmp_path / name, {key_of("a"): value})
    monkeypatch.setattr("os.listdir", lambda _: list(files))
    assert Reader(tmp_path).values() == {"a": 1.0}
