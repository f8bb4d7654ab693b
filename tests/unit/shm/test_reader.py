"""What the master reads of a worker's slot: requests in progress, answered ones, and those without an entry."""

from __future__ import annotations

from array import array
from math import inf

import pytest

from gunicorn_prom_hooks.model.counts import InFlightRequest, Untracked
from gunicorn_prom_hooks.shm import reader as reader_module
from gunicorn_prom_hooks.shm.layout import (
    CELLS_AT,
    EXPECTED_COUNT,
    INFLIGHT_ENTRIES,
    INTERRUPTED_REQUEST,
    INTERRUPTED_START,
    PATH_REF,
    UNTRACKED,
    UNTRACKED_PAIRS,
)
from gunicorn_prom_hooks.shm.reader import SlotReader
from gunicorn_prom_hooks.shm.schema import FAILED, PATHS
from gunicorn_prom_hooks.shm.slot import Slot, SlotWriter, inflight_start, write_out
from gunicorn_prom_hooks.worker.recording.in_flight import OVERFLOW_AT, UntrackedRequests

LABELS = ("GET", "/", "ValueError")
FIRST_CELL = CELLS_AT // 8


@pytest.fixture
def slot() -> Slot:
    """A slot."""
    return Slot(200, 4000)


def answered(slot: Slot, entry: int, cell: float, expected: float) -> None:
    """Mark an entry as a worker does when its request is answered, and not counted yet."""
    at = inflight_start(entry)
    slot.words[at + EXPECTED_COUNT] = expected
    slot.words[at] = -cell


def test_answered_requests_are_counted_once(slot: Slot) -> None:
    """Those whose cell has not the expected count yet are counted, whichever entries they have; the others are not."""
    cell = FIRST_CELL + SlotWriter(slot).add(FAILED.number, LABELS, 1)
    slot.words[cell] = 6.0
    for entry, expected in ((0, 7.0), (3, 6.0), (5, 9.0), (7, 8.0), (9, 10.0)):
        answered(slot, entry, float(cell), expected)
    slot.words[inflight_start(2)] = 123.0
    assert SlotReader(slot).commit_pending() == 2
    assert slot.words[cell] == 8.0


@pytest.mark.parametrize("cell", [0.5, FIRST_CELL - 1.0, FIRST_CELL + 1.0, FIRST_CELL + 0.5, 1e300, inf])
def test_answered_request_with_an_impossible_cell_is_passed_over(slot: Slot, cell: float) -> None:
    """Something else has written into the entry: nothing is counted for it, and the next entry is."""
    real = FIRST_CELL + SlotWriter(slot).add(FAILED.number, LABELS, 1)
    assert real == FIRST_CELL
    answered(slot, 0, cell, 1.0)
    answered(slot, 1, float(real), 1.0)
    before = bytes(slot.cells[1:].cast("B"))
    assert SlotReader(slot).commit_pending() == 1
    assert slot.words[real] == 1.0
    assert bytes(slot.cells[1:].cast("B")) == before


@pytest.mark.parametrize("entry", [0, INFLIGHT_ENTRIES - 1])
def test_interrupted_request_is_among_those_in_progress(slot: Slot, entry: int) -> None:
    """The request that the worker has marked is told with its start, also where its entry is free by then."""
    write_out(slot, inflight_start(1), b"PUT", b"/waiting")
    slot.words[inflight_start(1)] = 0.5
    write_out(slot, inflight_start(entry), b"GET", b"/ended")
    slot.header[INTERRUPTED_START], slot.header[INTERRUPTED_REQUEST] = 7.0, inflight_start(entry)
    assert SlotReader(slot).interrupted_requests() == [
        InFlightRequest(0.5, "PUT", "/waiting"),
        InFlightRequest(7.0, "GET", "/ended"),
    ]


@pytest.mark.parametrize(
    "mark",
    [
        *(0.0, inflight_start(0) + 1, inflight_start(0) - 1, -1e9, 1e15),
        *(inflight_start(-1), inflight_start(INFLIGHT_ENTRIES), inflight_start(INFLIGHT_ENTRIES + 1)),
    ],
)
def test_interrupted_request_in_no_entry_is_none(slot: Slot, mark: float) -> None:
    """A mark that is the start of no entry stands for no request."""
    slot.header[INTERRUPTED_START], slot.header[INTERRUPTED_REQUEST] = 7.0, mark
    assert SlotReader(slot).interrupted_requests() == []


def test_path_of_a_request_is_found_by_its_reference(slot: Slot) -> None:
    """Method and path are those of the series, also of one that was added since; an unknown reference has none."""
    reader, writer = SlotReader(slot), SlotWriter(slot)
    paths = [("GET", "/a"), ("POST", "/b"), ("GET", "/c")]
    places = [FIRST_CELL + writer.add(PATHS.number, path, PATHS.cells) for path in paths]
    for entry, place in enumerate(places):
        slot.words[inflight_start(entry) + PATH_REF] = float(place)
        slot.words[inflight_start(entry)] = 1.0 + entry
    assert reader.in_flight() == [
        InFlightRequest(1.0 + entry, method, path) for entry, (method, path) in enumerate(paths)
    ]
    for unknown in (places[0] - 1.0, places[0] + 0.5, places[2] + 1.0, -5.0, inf):
        slot.words[inflight_start(0) + PATH_REF] = unknown
        assert reader.in_flight()[0] == InFlightRequest(1.0, "", "")


def test_path_behind_thousands_of_cells_is_found_by_its_reference() -> None:
    """References go beyond the size of header and in-flight table, and many paths can be known."""
    slot = Slot(10_000, 100_000)
    writer = SlotWriter(slot)
    writer.add(FAILED.number, LABELS, 6000)
    places = [FIRST_CELL + writer.add(PATHS.number, ("GET", f"/{number}"), 1) for number in range(300)]
    for entry, place in enumerate((places[0], places[299], places[299] + 1)):
        slot.words[inflight_start(entry) + PATH_REF] = float(place)
        slot.words[inflight_start(entry)] = 1.0 + entry
    assert SlotReader(slot).in_flight() == [
        InFlightRequest(1.0, "GET", "/0"),
        InFlightRequest(2.0, "GET", "/299"),
        InFlightRequest(3.0, "", ""),
    ]


@pytest.mark.parametrize("later", [0.0, -7.0, 4.0, 6.0])
def test_request_that_ends_while_its_entry_is_read_is_left_out(slot: Slot, later: float) -> None:
    """Its entry is free then, or another request's."""
    write_out(slot, inflight_start(3), b"GET", b"/ended")
    slot.words[inflight_start(3)] = 5.0
    write_out(slot, inflight_start(4), b"PUT", b"/there")
    slot.words[inflight_start(4)] = 9.0

    class Starts:
        """The starts of all entries; the worker changes one when they have been read."""

        def __getitem__(self, key: slice | int) -> memoryview[float] | float:
            found: memoryview[float] | float = slot_starts[key]
            if isinstance(found, memoryview):
                found = memoryview(array("d", found))
                slot_starts[3] = later
            return found

    slot_starts = slot.starts
    slot.starts = Starts()  # type: ignore[assignment]
    assert SlotReader(slot).in_flight() == [InFlightRequest(9.0, "PUT", "/there")]


def test_path_without_any_series_is_empty(slot: Slot) -> None:
    """A reference where no path was ever added stands for nothing."""
    slot.words[inflight_start(0) + PATH_REF] = float(FIRST_CELL)
    slot.words[inflight_start(0)] = 1.0
    assert SlotReader(slot).in_flight() == [InFlightRequest(1.0, "", "")]


def test_untracked_requests_are_told_as_they_come_and_go(slot: Slot) -> None:
    """Their number and the sum of their starts, after each change."""
    untracked, reader = UntrackedRequests(slot), SlotReader(slot)
    assert reader.untracked() == Untracked(0, 0.0)
    for number, started in enumerate((10.0, 20.0, 60.0)):
        untracked.add(started)
        assert reader.untracked() == Untracked(number + 1, sum((10.0, 20.0, 60.0)[: number + 1]))
    untracked.remove(20.0)
    assert reader.untracked() == Untracked(2, 70.0)


def test_untracked_request_that_is_answered_and_not_removed_is_one_less(slot: Slot) -> None:
    """Which of them it is is not known: the sum of the starts is cut in proportion, for this change only."""
    untracked, reader = UntrackedRequests(slot), SlotReader(slot)
    for started in (10.0, 20.0, 60.0):
        untracked.add(started)
    slot.words[OVERFLOW_AT] = -float(FIRST_CELL)
    assert reader.untracked() == Untracked(2, 60.0)
    untracked.add(7.0)
    slot.words[OVERFLOW_AT] = -float(FIRST_CELL)
    assert reader.untracked() == Untracked(3, 72.75)
    untracked.remove(7.0)
    slot.words[OVERFLOW_AT] = float(FIRST_CELL)  # no worker writes that
    assert reader.untracked() == Untracked(3, 90.0)
    slot.words[OVERFLOW_AT] = -float(FIRST_CELL)
    for other in (-1.0, 1.0):  # of an earlier change, or of none
        slot.words[OVERFLOW_AT + PATH_REF] += other
        assert reader.untracked() == Untracked(3, 90.0)
        slot.words[OVERFLOW_AT + PATH_REF] -= other
    untracked.remove(20.0)
    assert reader.untracked() == Untracked(2, 70.0)


@pytest.mark.parametrize(("number", "told"), [(-1.0, 0), (0.0, 0), (1.0, 1), (1e9, 10**9), (2e9, 0), (float("nan"), 0)])
def test_implausible_number_of_untracked_requests_is_none(slot: Slot, number: float, told: int) -> None:
    """Something else has written into the slot."""
    slot.header[UNTRACKED_PAIRS] = number
    found = SlotReader(slot).untracked()
    assert found.number == told


def test_untracked_requests_are_read_until_two_reads_agree(slot: Slot, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has changed in between, in whatever direction, is not used."""
    reader = SlotReader(slot)
    starts = iter([30.0, 20.0, 40.0, 10.0, 10.0, 5.0])
    monkeypatch.setattr(reader, "_untracked_state", lambda: (4.0, 3.0, next(starts), 0.0, 0.0))
    assert reader.untracked() == Untracked(3, 10.0)


def test_untracked_requests_that_never_hold_still_have_no_sum(slot: Slot, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a bounded number of reads their number is the one last read, and their starts are unknown."""
    reads = 0
    reader = SlotReader(slot)

    def state() -> tuple[float, ...]:
        nonlocal reads
        reads += 1
        return float(reads), 5.0, 50.0, 0.0, 0.0

    monkeypatch.setattr(reader, "_untracked_state", state)
    assert reader.untracked() == Untracked(5, inf)
    assert reads == reader_module._READS + 1
    assert slot.header[UNTRACKED] == 0.0
