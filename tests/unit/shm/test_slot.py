"""Writer and reader of a slot."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gunicorn_prom_hooks.model.counts import InFlightRequest
from gunicorn_prom_hooks.shm.index import CorruptIndex, Entry, encode
from gunicorn_prom_hooks.shm.layout import DIRECTORY_BYTES, PATH_REF, slot_bytes
from gunicorn_prom_hooks.shm.reader import SlotReader
from gunicorn_prom_hooks.shm.slot import Slot, SlotFull, SlotWriter, inflight_offset, inflight_start, write_out
from tests.helpers.recording import entries, shared_memory, values


def test_same_labels_have_the_same_cells() -> None:
    """A series that is added twice has one set of cells; another family or other labels have other cells."""
    writer = SlotWriter(Slot(100, 1000))
    assert [writer.add(1, ("a",), 3), writer.add(2, ("a",), 1), writer.add(1, ("b",), 3)] == [0, 3, 4]
    assert [writer.add(1, ("a",), 3), writer.add(2, ("a",), 1), writer.add(1, ("b",), 3)] == [0, 3, 4]


def test_next_writer_continues_in_the_same_cells() -> None:
    """A new writer finds its predecessor's series, and adds its own after them."""
    slot = Slot(100, 1000)
    first = SlotWriter(slot)
    slot.cells[first.add(1, ("a", "é"), 3)] += 2.0
    second = SlotWriter(slot)
    assert second.series == first.series
    slot.cells[second.add(1, ("a", "é"), 3)] += 1.0
    assert second.add(1, ("new",), 1) == 3
    assert slot.cells[0] == 3.0


def test_unpublished_entry_is_overwritten() -> None:
    """What a killed writer wrote without moving the length is not read, and the next entry overwrites it."""
    slot = Slot(100, 1000)
    writer = SlotWriter(slot, now=lambda: 7.0)
    writer.add(1, ("published",), 1)
    length = slot.header[DIRECTORY_BYTES]
    writer.add(1, ("killed",), 1)
    slot.header[DIRECTORY_BYTES] = length
    assert SlotReader(slot).update() == [Entry(1, ("published",), 0, 1, 7.0)]
    assert SlotWriter(slot).add(1, ("successor",), 1) == 1
    assert [entry.labels for entry in SlotReader(slot).update()] == [("published",), ("successor",)]


def test_reader_parses_only_new_entries() -> None:
    """What has been parsed may even be destroyed."""
    slot = Slot(100, 1000)
    writer, reader = SlotWriter(slot, now=lambda: 7.0), SlotReader(slot)
    writer.add(1, ("a",), 2)
    assert reader.update() == [Entry(1, ("a",), 0, 2, 7.0)]
    assert reader.update() == []
    slot.directory[: int(slot.header[DIRECTORY_BYTES])] = b"\xff" * int(slot.header[DIRECTORY_BYTES])
    writer.add(2, ("b",), 1)
    assert reader.update() == [Entry(2, ("b",), 2, 1, 7.0)]
    assert {number: (found.cells, found.labels, [*found.offsets]) for number, found in reader.series.items()} == {
        1: (2, [("a",)], [0]),
        2: (1, [("b",)], [16]),
    }


def test_cells_are_those_of_the_parsed_entries() -> None:
    """``cells`` ends with the last parsed entry."""
    slot = Slot(100, 1000)
    writer, reader = SlotWriter(slot), SlotReader(slot)
    slot.cells[writer.add(1, ("a",), 2)] = 5.0
    assert values(reader) == []
    reader.update()
    assert values(reader) == [5.0, 0.0]
    slot.cells[0] = 6.0
    assert values(reader) == [6.0, 0.0]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (Entry(1, ("b",), 1, 2), "cells 1 to 3, not from 2"),
        (Entry(1, ("b",), 3, 2), "cells 3 to 5, not from 2"),
        (Entry(1, ("b",), 2, 1), "cells 2 to 3, not from 2"),
        (Entry(1, ("b",), 2, 3), "cells 2 to 5, not from 2"),
        (Entry(2, ("b",), 2, 99), "101 cells used, of 100"),
    ],
)
def test_entry_with_wrong_cells_is_corruption(entry: Entry, message: str) -> None:
    """Cells of another series, a gap, another number than the family has, or more than the slot has."""
    slot = Slot(100, 1000)
    SlotWriter(slot).add(1, ("a",), 2)
    reader = SlotReader(slot)
    reader.update()
    at, data = int(slot.header[DIRECTORY_BYTES]), encode(entry)
    slot.directory[at : at + len(data)] = data
    slot.header[DIRECTORY_BYTES] = at + len(data)
    for _ in range(2):
        with pytest.raises(CorruptIndex, match=message):
            reader.update()
    assert reader.update() == []
    assert values(reader) == [0.0, 0.0]


def test_first_failure_of_a_new_reader_may_be_transient() -> None:
    """A reader that has read nothing yet also tries twice."""
    slot = Slot(100, 1000)
    SlotWriter(slot).add(1, ("a",), 2)
    reader, right = SlotReader(slot), slot.directory[4]
    slot.directory[4] ^= 1
    with pytest.raises(CorruptIndex):
        reader.update()
    assert not reader.corrupt
    slot.directory[4] = right
    assert [entry.labels for entry in reader.update()] == [("a",)]


def test_second_failure_of_a_new_reader_is_lasting() -> None:
    """It does not read the directory again."""
    slot = Slot(100, 1000)
    SlotWriter(slot).add(1, ("a",), 2)
    reader = SlotReader(slot)
    slot.directory[4] ^= 1
    for _ in range(2):
        with pytest.raises(CorruptIndex):
            reader.update()
    slot.directory[4] ^= 1
    assert reader.corrupt
    assert reader.update() == []


def test_families_have_one_number_of_cells_within_one_update() -> None:
    """It is also compared among entries that are new."""
    slot = Slot(100, 1000)
    writer = SlotWriter(slot)
    writer.add(1, ("a",), 2)
    writer.add(1, ("b",), 3)
    with pytest.raises(CorruptIndex, match="cells 2 to 5, not from 2"):
        SlotReader(slot).update()


def test_directory_that_shrinks_is_corruption() -> None:
    """A worker only adds to it."""
    slot = Slot(100, 1000)
    writer, reader = SlotWriter(slot), SlotReader(slot)
    writer.add(1, ("a",), 2)
    length = slot.header[DIRECTORY_BYTES]
    writer.add(1, ("b",), 2)
    reader.update()
    slot.header[DIRECTORY_BYTES] = length
    assert reader.has_updates
    for _ in range(2):
        with pytest.raises(CorruptIndex):
            reader.update()
    assert not reader.has_updates


def test_series_of_hundreds_of_cells_are_read_and_continued() -> None:
    """Entries with large numbers, each its own object, are compared by value; a successor continues after them."""
    slot = Slot(5000, 5000)
    writer, reader = SlotWriter(slot), SlotReader(slot)
    assert [writer.add(1, (label,), 300) for label in "abc"] == [0, 300, 600]
    assert [entry.first for entry in reader.update()] == [0, 300, 600]
    successor = SlotWriter(slot, known=reader.all_series)
    assert successor.series == writer.series == {1: {("a",): 0, ("b",): 300, ("c",): 600}}
    assert successor.add(2, ("d",), 1) == 900


def test_empty_slot_begins_with_the_given_content() -> None:
    """A writer writes it into an empty slot as if each series were added; what a slot has already stays as it is."""
    source = SlotWriter(Slot(100, 1000), now=float)
    assert [source.add(1, ("a",), 3), source.add(2, ("b",), 2)] == [0, 3]
    content, slot = source.content(), Slot(100, 1000)
    writer = SlotWriter(slot, first=content)
    assert writer.begins_with(content)
    assert writer.series == source.series
    assert writer.add(1, ("c",), 3) == 5
    assert [(entry.labels, entry.first) for entry in SlotReader(slot).update()] == [
        (("a",), 0),
        (("b",), 3),
        (("c",), 5),
    ]
    assert SlotWriter(slot, first=content).series == writer.series
    assert source.series == {1: {("a",): 0}, 2: {("b",): 3}}  # a copy
    other = Slot(100, 1000)
    SlotWriter(other).add(1, ("other",), 3)
    assert SlotWriter(other, first=content).series == {1: {("other",): 0}}
    assert not SlotWriter(other).begins_with(content)


def test_parts_of_a_slot_have_their_sizes() -> None:
    """Header, starts, cells and directory are what the layout says, and no part reaches into another."""
    slot = Slot(100, 1000)
    assert [len(slot.header), len(slot.starts), len(slot.cells), len(slot.directory)] == [64, 129, 100, 1000]
    assert len(slot.memory) == slot_bytes(100, 1000)
    assert [inflight_offset(number) for number in range(129)] == list(range(512, 512 + 129 * 256, 256))
    assert [8 * inflight_start(number) for number in range(129)] == list(range(760, 760 + 129 * 256, 256))


def test_text_replaces_the_path_reference_of_an_entry() -> None:
    """The entry of a request whose path is known by reference is next used for one whose path is written as text."""
    slot = Slot(100, 1000)
    for number in (0, 127):
        at = inflight_start(number)
        slot.words[at + PATH_REF] = 4197.0
        write_out(slot, at, b"GET", b"/text")
        slot.words[at] = 1.0 + number
    assert SlotReader(slot).in_flight() == [
        InFlightRequest(1.0, "GET", "/text"),
        InFlightRequest(128.0, "GET", "/text"),
    ]


def test_writer_can_use_what_a_reader_has_parsed() -> None:
    """It knows the same series and next cell as a writer that parses the directory."""
    slot = Slot(100, 1000)
    writer, reader = SlotWriter(slot), SlotReader(slot)
    for family, label, cells in ((1, "a", 2), (2, "b", 1), (1, "c", 2)):
        writer.add(family, (label,), cells)
    assert reader.all_series is None
    reader.update()
    known = reader.all_series
    assert known is not None
    successor = SlotWriter(slot, known=known)
    assert successor.series == SlotWriter(slot).series == writer.series
    assert [successor.add(1, ("c",), 2), successor.add(2, ("d",), 1)] == [3, 5]
    assert reader.all_series is None
    assert [entry.first for entry in entries(slot)] == [0, 2, 3, 5]


def test_released_pages_keep_their_contents() -> None:
    """The pages leave this process's resident memory. Their contents stay, for this process and for others."""
    slot = Slot(100_000, 1000)
    for cell in range(0, 100_000, 100):
        slot.cells[cell] = cell + 1.0
    before = shared_memory()
    slot.release_pages()
    assert shared_memory() <= before - 700_000
    pid = os.fork()
    if not pid:
        slot.cells[7] = 5.0
        os._exit(0)
    os.waitpid(pid, 0)
    assert all(slot.cells[cell] == cell + 1.0 for cell in range(0, 100_000, 100))
    assert slot.cells[7] == 5.0


@pytest.mark.parametrize(("cells", "directory", "what"), [(3, 1000, "cells"), (100, 40, "directory")])
def test_full_slot_raises_and_stays_intact(cells: int, directory: int, what: str) -> None:
    """If cells or directory run out SlotFull is raised, and the slot is unchanged."""
    slot = Slot(cells, directory)
    writer = SlotWriter(slot)
    writer.add(1, ("a",), 2)
    for _ in range(2):
        with pytest.raises(SlotFull, match=what):
            writer.add(1, ("b" * 10,), 2)
    assert [entry.labels for entry in SlotReader(slot).update()] == [("a",)]
    assert writer.add(1, ("a",), 2) == 0
    assert SlotWriter(slot).series == writer.series == {1: {("a",): 0}}


def test_slot_can_be_filled_completely() -> None:
    """A series that fits exactly is added."""
    slot = Slot(2, 2 * (22 + 2 + 1))
    writer = SlotWriter(slot)
    assert [writer.add(1, ("a",), 1), writer.add(1, ("b",), 1)] == [0, 1]
    assert len(SlotReader(slot).update()) == 2


@pytest.mark.parametrize(("cells", "directory"), [(12, 1000), (1000, 10 + 2 * 25)])
def test_reserve_is_for_essential_series(cells: int, directory: int) -> None:
    """The last cells and bytes are used only for series that are added as essential."""
    writer = SlotWriter(Slot(cells, directory), reserve=10)
    assert [writer.add(1, ("a",), 1), writer.add(1, ("b",), 1)] == [0, 1]
    with pytest.raises(SlotFull):
        writer.add(1, ("c",), 1)
    if cells == 12:
        assert [writer.add(1, (value,), 1, essential=True) for value in "cdefghijkl"] == list(range(2, 12))
    with pytest.raises(SlotFull):
        writer.add(1, ("m",), 1, essential=True)


def test_entry_that_reaches_into_the_reserve_is_only_for_essential_series() -> None:
    """An entry that begins before the reserved bytes and ends in them finds no room, unless it is essential."""
    writer = SlotWriter(Slot(1000, 3 * 25 + 5), reserve=10)
    assert [writer.add(1, ("a",), 1), writer.add(1, ("b",), 1)] == [0, 1]
    with pytest.raises(SlotFull, match="directory"):
        writer.add(1, ("c",), 1)
    assert writer.add(1, ("c",), 1, essential=True) == 2


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from("abcdefgh"), st.booleans()), max_size=60))
def test_writer_and_reader_agree_over_generations(steps: list[tuple[int, str, bool]]) -> None:
    """In whatever series writers of several generations count, the reader has the exact counts."""
    slot = Slot(500, 5000)
    writer, reader = SlotWriter(slot), SlotReader(slot)
    expected: dict[tuple[int, tuple[str, ...]], float] = {}
    for family, label, successor in steps:
        if successor:
            writer = SlotWriter(slot)
        slot.cells[writer.add(family, (label,), family + 1)] += 1.0
        expected[family, (label,)] = expected.get((family, (label,)), 0.0) + 1.0
        if label == "a":
            reader.update()
    reader.update()
    cells = values(reader)
    assert {(entry.family, entry.labels): cells[entry.first] for entry in entries(slot)} == expected


def test_in_flight_requests_are_read_oldest_first() -> None:
    """``in_flight`` has start, method and path of each used entry, by age, without NUL padding."""
    slot = Slot(10, 100)
    for number, start, method, path in [(127, 5.0, b"GET", b"/new"), (0, 7.0, b"PUT", b"/" + b"\xc3\xa9" * 200)]:
        write_out(slot, inflight_start(number), method, path)
        slot.words[inflight_start(number)] = start
    reader = SlotReader(slot)
    assert reader.in_flight() == [
        InFlightRequest(5.0, "GET", "/new"),
        InFlightRequest(7.0, "PUT", "/" + "é" * 107 + "\ufffd"),
    ]
