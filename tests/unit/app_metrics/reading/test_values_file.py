"""Reading the files of the application's metrics one by one: what is cached, what is bad, what is just being made."""

from __future__ import annotations

import gc
import json
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import Gauge, generate_latest

from gunicorn_prom_hooks.app_metrics.reading.file_names import parse_name
from gunicorn_prom_hooks.app_metrics.reading.layouts import Layout, Layouts
from tests.helpers.app_metrics import Process, Reader, content, key_of, theirs, write

A, B, C = key_of("a"), key_of("b"), key_of("c")
WRITER = """
import itertools, sys
from prometheus_client import values
values.ValueClass = values.MultiProcessValue(lambda: sys.argv[1])
from prometheus_client import Counter
counter = Counter("work", "Help.", ["number"])
print(flush=True)
for number in range(4000):
    for _ in range(3):
        counter.labels(str(number) + "x" * (number % 50)).inc()
"""


@pytest.fixture
def no_hanging() -> Iterator[None]:
    """Ends a call that does not return."""

    def give_up(*_: object) -> None:
        pytest.fail("it hangs")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, 10.0)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0.0)
    signal.signal(signal.SIGALRM, before)


def entry(key: bytes, value: float = 1.0, length: int | None = None) -> bytes:
    """An entry with any key."""
    padding = b" " * (8 - (len(key) + 4) % 8)
    return struct.pack("=I", len(key) if length is None else length) + key + padding + struct.pack("=dd", value, 0.0)


def a_file(*entries: bytes, used: int | None = None) -> bytes:
    """A file with these entries."""
    body = b"".join(entries)
    return struct.pack("=II", 8 + len(body) if used is None else used, 0) + body


def a_key(*parts: object) -> bytes:
    """A key with these parts."""
    return json.dumps(parts).encode()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("counter_12.db", ("counter", "", False, "12")),
        ("histogram_s0-7.db", ("histogram", "", False, "s0-7")),
        ("summary_a_b.db", ("summary", "", False, "a_b")),
        ("summary_.db", ("summary", "", False, "")),
        ("gauge_all_12.db", ("gauge", "all", False, "12")),
        ("gauge_livemostrecent_a_b.db", ("gauge", "mostrecent", True, "a_b")),
        ("gauge_all_\udcff.db", ("gauge", "all", False, "?")),
        *((name, None) for name in ("counter.db", "counter_1", "counter_1.db~", "_1.db", ".db", "", "info_1.db")),
        *((name, None) for name in ("gauge_1.db", "gauge_all.db", "gauge_livelive_1.db", "gauge_some_1.db")),
        *((name, None) for name in ("Counter_1.db", "xcounter_1.db", "gauge__1.db", "gauge_live_1.db", "counter_.d")),
    ],
)
def test_file_name_is_parsed_only_if_prometheus_client_gives_such_names(
    name: str, expected: tuple[str, str, bool, str] | None
) -> None:
    """Only names that prometheus_client gives to files are taken apart."""
    assert parse_name(name) == expected


def test_file_name_of_every_gauge_mode_is_parsed() -> None:
    """Each mode of prometheus_client is known."""
    found = [parse_name(f"gauge_{mode}_1.db") for mode in Gauge._MULTIPROC_MODES]
    assert {("live" if name.live else "") + name.mode for name in found if name} == set(Gauge._MULTIPROC_MODES)
    assert len(found) == 10


BAD = {
    "short": b"\x18\0\0",
    "used in the header": a_file(used=5),
    "used beyond the size": a_file(entry(b"x"), used=4096),
    "negative": a_file(entry(b"x"), used=2**32 - 8),
    "half an entry": a_file(entry(A.encode()), b"\0" * 8),
    "half a length": a_file(entry(A.encode()), b"\0\0"),
    "entry beyond used": a_file(entry(A.encode()), entry(B.encode(), length=4000)),
    "huge entry": a_file(entry(A.encode()), entry(B.encode(), length=2**32 - 1)),
    "entry without numbers": a_file(entry(A.encode()), entry(B.encode())[:-16]),
    "zeroes": a_file(bytes(64)),
    "no JSON": a_file(entry(A.encode()), entry(b"no JSON")),
    "no UTF-8": a_file(entry(A.encode()), entry(A.encode().replace(b"Help", b"H\xe9lp"))),
    "brackets": a_file(entry(b"[" * 60000)),
    "huge number": a_file(entry(b"9" * 6000)),
    "no list": a_file(entry(b'{"a": 1, "b": 2, "c": 3, "d": 4}')),
    "three parts": a_file(entry(a_key("a", "a", {}))),
    "five parts": a_file(entry(a_key("a", "a", {}, "", ""))),
    "family": a_file(entry(a_key(1, "a", {}, ""))),
    "sample": a_file(entry(a_key("a", None, {}, ""))),
    "no sample": a_file(entry(a_key("a", "", {}, ""))),
    "labels": a_file(entry(a_key("a", "a", [["a", "b"]], ""))),
    "label value": a_file(entry(a_key("a", "a", {"a": 1}, ""))),
    "documentation": a_file(entry(a_key("a", "a", {}, []))),
    "bound": a_file(entry(a_key("a", "a_bucket", {"le": "x"}, ""))),
    "bound that is none": a_file(entry(a_key("a", "a_bucket", {"le": "NaN"}, ""))),
}


@pytest.mark.parametrize("which", BAD)
def test_bad_file_has_no_values_and_is_reported_at_each_collect(tmp_path: Path, which: str) -> None:
    """A bad file yields nothing, not even its good entries, is told at each collect, and leaves others alone."""
    (tmp_path / "histogram_1.db").write_bytes(BAD[which])
    write(tmp_path / "histogram_2.db", {A: 5.0})
    reader = Reader(tmp_path)
    for _ in range(2):
        assert reader.values() == {"a": 5.0}
        assert list(reader.bad) == ["histogram_1.db"]


def test_label_le_of_a_counter_need_not_be_a_number(tmp_path: Path) -> None:
    """The label le of a counter need not be a number."""
    write(tmp_path / "counter_1.db", {key_of("a_total", {"le": "x"}, "a"): 5.0})
    reader = Reader(tmp_path)
    assert reader.rows() == theirs(tmp_path)
    assert not reader.bad


@pytest.mark.usefixtures("no_hanging")
def test_directory_fifo_or_unopenable_file_is_bad_without_waiting(tmp_path: Path) -> None:
    """Directories, FIFOs and what cannot be opened are bad, and none of them is waited for."""
    (tmp_path / "counter_directory.db").mkdir()
    os.mkfifo(tmp_path / "counter_fifo.db")
    (tmp_path / "counter_loop.db").symlink_to("counter_loop.db")
    (tmp_path / "counter_dangling.db").symlink_to("nothing")
    (tmp_path / "gauge_livesum_dangling.db").symlink_to("nothing")
    (tmp_path / "counter_device.db").symlink_to("/dev/zero")
    expected = {"counter_directory.db", "counter_fifo.db", "counter_loop.db", "counter_dangling.db"}
    if os.geteuid():
        (tmp_path / "counter_secret.db").write_bytes(a_file())
        (tmp_path / "counter_secret.db").chmod(0)
        expected.add("counter_secret.db")
    write(tmp_path / "counter_good.db", {A: 5.0})
    reader = Reader(tmp_path)
    assert reader.values() == {"a": 5.0}
    assert set(reader.bad) == expected | {"counter_device.db"}
    assert reader.bad["counter_dangling.db"] == "vanished"


def test_failed_read_is_reported_and_the_file_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the disk is told, and the file is closed."""

    def fails(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    write(tmp_path / "counter_1.db", {A: 5.0})
    reader = Reader(tmp_path)
    before = len(os.listdir("/dev/fd"))
    monkeypatch.setattr(os, "pread", fails)
    assert reader.values() == {}
    assert reader.bad == {"counter_1.db": "Input/output error"}
    assert len(os.listdir("/dev/fd")) == before


def test_file_removed_before_it_is_opened_is_bad_unless_it_has_live_gauges(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file removed between listing and opening is bad, but not one of live gauges, which are meant to go."""
    names = ["gauge_livesum_1.db", "gauge_sum_1.db"]
    for name in names:
        write(tmp_path / name, {A: 5.0})
    monkeypatch.setattr(os, "listdir", lambda _: names)
    reader = Reader(tmp_path)
    assert reader.values() == {"a": 10.0}
    for name in names:
        (tmp_path / name).unlink()
    assert reader.values() == {}
    assert reader.bad == {"gauge_sum_1.db": "vanished"}


def test_new_file_without_entries_is_not_bad_and_an_old_empty_one_is(tmp_path: Path) -> None:
    """Neither no size, nor zeroes only, nor no entries is bad; but to have no size for long is."""
    path = tmp_path / "counter_1.db"
    reader = Reader(tmp_path)
    for data in (b"", bytes(8), bytes(65536), a_file() + bytes(100), b""):
        path.write_bytes(data)
        for _ in range(2):
            assert reader.values() == {}
            assert not reader.bad
    os.utime(path, (0.0, 0.0))
    assert reader.values() == {}
    assert reader.bad == {path.name: "empty"}
    write(path, {A: 5.0})
    assert reader.values() == {"a": 5.0}
    assert not reader.bad


def test_known_keys_are_not_parsed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys are parsed once, in one file for all; after that a file is parsed only where it is new."""
    parsed = []
    extended = []
    loads = json.loads
    extend = Layouts.extended

    def noting(text: str) -> Any:
        parsed.append(loads(text)[0])
        return loads(text)

    def noting_too(self: Layouts, layout: Layout, data: bytes, used: int) -> Layout:
        found = extend(self, layout, data, used)
        extended.append((len(layout.keys), len(found.keys)))
        return found

    monkeypatch.setattr(json, "loads", noting)
    monkeypatch.setattr(Layouts, "extended", noting_too)
    for identity in "123":
        write(tmp_path / f"counter_{identity}.db", {A: 1.0, B: 2.0})
    reader = Reader(tmp_path)
    assert reader.values() == {"a": 3.0, "b": 6.0}
    write(tmp_path / "counter_2.db", {B: 4.0})
    assert reader.values() == {"a": 3.0, "b": 8.0}
    write(tmp_path / "counter_3.db", {C: 7.0, A: 0.5})
    assert reader.values() == {"a": 2.5, "b": 8.0, "c": 7.0}
    reader.values()
    assert sorted(parsed) == ["a", "b", "c"]
    assert extended == [(0, 2), (0, 2), (0, 2), (2, 3)]


@pytest.mark.parametrize("entries", [{B: 7.0}, {C: 1.0, A: 2.0}, {B: 1.0, A: 2.0, C: 3.0}, {A: 9.0}])
def test_rewritten_file_with_the_same_inode_is_parsed_again(tmp_path: Path, entries: dict[str, float]) -> None:
    """Whatever is under the name counts for the keys that it has: longer, shorter, or of the same inode number."""
    path = tmp_path / "counter_1.db"
    write(path, {A: 5.0, B: 6.0})
    reader = Reader(tmp_path)
    reader.values()
    inode = path.stat().st_ino
    path.write_bytes(content(tmp_path, entries))
    assert path.stat().st_ino == inode
    assert reader.values() == {json.loads(key)[0]: value for key, value in entries.items()}
    assert not reader.bad


def test_file_truncated_anywhere_is_bad_until_it_is_complete(tmp_path: Path) -> None:
    """A file that is cut anywhere is never half a file, known before or not, and good again once it is whole."""
    path = tmp_path / "counter_1.db"
    whole = content(tmp_path, {A: 5.0, B: 6.0})
    known = Reader(tmp_path)
    for length in range(1, len(whole)):
        path.write_bytes(whole)
        assert known.values() == {"a": 5.0, "b": 6.0}
        path.write_bytes(whole[:length])
        for reader in (known, Reader(tmp_path)):
            assert reader.values() == {}
            assert list(reader.bad) == [path.name]


def test_file_of_2_gigabytes_is_reported_and_not_read(tmp_path: Path) -> None:
    """A file that is said to be gigabytes long, and is, is not read."""
    path = tmp_path / "counter_1.db"
    path.write_bytes(a_file(entry(A.encode()), used=2**31 - 8))
    os.truncate(path, 2**31)
    reader = Reader(tmp_path)
    assert reader.values() == {}
    assert reader.bad == {path.name: "2147483640 bytes used"}


def test_keys_and_layouts_of_removed_files_are_not_kept(tmp_path: Path) -> None:
    """Neither files nor keys are kept of files that are gone, however many have been there."""
    write(tmp_path / "counter_stays.db", {A: 1.0})
    reader = Reader(tmp_path)
    for number in range(20):
        path = tmp_path / f"gauge_all_{number}.db"
        write(path, {key_of(f"g{number}_{i}"): 1.0 for i in range(5)})
        assert len(reader.rows()) == 6
        path.unlink()
    reader.collect()
    gc.collect()
    files = reader.files
    assert list(files._files) == ["counter_stays.db"]
    assert len(files._layouts._keys) == 1
    assert len(files._layouts._layouts) <= 3  # and those of an empty file


def test_missing_directory_is_reported_and_read_once_it_exists(tmp_path: Path) -> None:
    """No directory, or a file in its place, is told and gives nothing; made later, it is read."""
    folder = tmp_path / "folder"
    reader = Reader(folder)
    assert reader.collect() == []
    assert reader.bad == {str(folder): "No such file or directory"}
    folder.write_bytes(b"")
    assert reader.collect() == []
    assert reader.bad == {str(folder): "Not a directory"}
    folder.unlink()
    folder.mkdir()
    write(folder / "counter_1.db", {A: 1.0})
    assert reader.values() == {"a": 1.0}
    assert not reader.bad


def test_files_with_foreign_names_are_neither_read_nor_bad(tmp_path: Path) -> None:
    """What prometheus_client has not written is neither read nor bad."""
    for name in ("x.db", "counter.db", "counter_1.txt", "gauge_some_1.db", "info_1.db", "gunicorn-master-1.lock"):
        (tmp_path / name).write_bytes(b"garbage")
    reader = Reader(tmp_path)
    assert reader.collect() == []
    assert not reader.bad


def test_lone_surrogates_in_text_become_question_marks(tmp_path: Path) -> None:
    """A label value, documentation, or identity with lone surrogates comes out with question marks."""
    process = Process(tmp_path, "1")
    process.record("counter", "a", {"path": "/\udcff"}, 1.0, "\ud800 help")
    process.record("counter", "a", {"path": "/\udcfe"}, 2.0, "help \ud800")
    process.close()
    write(tmp_path / os.fsdecode(b"gauge_all_\xff.db"), {key_of("g", {"x\udcff": "é😀"}): 1.0})
    (tmp_path / os.fsdecode(b"counter_\xff.db")).write_bytes(b"garbage")
    reader = Reader(tmp_path)
    page = generate_latest(reader).decode()
    assert 'a_total{path="/?"} 3.0\n' in page
    assert 'g{pid="?",x_="é😀"} 1.0\n' in page
    assert list(reader.bad) == ["counter_?.db"]


def test_files_being_written_are_never_bad_and_totals_never_decrease(tmp_path: Path) -> None:
    """While processes make files, add keys and count, no file is bad, no total goes back, and then all is there."""
    environ = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    command = [sys.executable, "-c", WRITER]
    writers = [subprocess.Popen([*command, n], env=environ, stdout=subprocess.PIPE) for n in "12"]
    reader = Reader(tmp_path)
    before: dict[str, float] = {}
    rounds = 0
    for writer in writers:
        with writer:
            assert writer.stdout
            writer.stdout.readline()
            while writer.poll() is None:
                now = {s.labels["number"]: s.value for family in reader.collect() for s in family.samples}
                assert not reader.bad
                assert all(now[number] >= value for number, value in before.items())
                before = now
                rounds += 1
            assert writer.returncode == 0
    assert rounds
    assert reader.rows() == theirs(tmp_path)
    assert sum(sample.value for family in reader.collect() for sample in family.samples) == 2 * 4000 * 3
