"""Sums over slots, with a bounded number of endpoints."""

from __future__ import annotations

from array import array
from itertools import chain
from math import inf, nextafter
from unittest.mock import ANY

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gunicorn_prom_hooks.model.counts import Tally
from gunicorn_prom_hooks.shm.aggregate import EndpointCap, column_sums
from gunicorn_prom_hooks.shm.allocator import SlotAllocator
from gunicorn_prom_hooks.shm.schema import DEFAULT_BUCKETS, FAILED, REQUESTS, WEBSOCKETS, Family
from gunicorn_prom_hooks.shm.slot import Slot, SlotWriter
from tests.helpers.recording import own, same, tally, totals

OTHER = "<other>"


def new_cap(limit: int) -> EndpointCap:
    """Return a cap on the second label of family 1 and the first of family 2."""
    return EndpointCap(limit, {1: 1, 2: 0}, frozenset({OTHER, "<unmatched>"}), OTHER)


def slot_with(counts: dict[str, float]) -> Slot:
    """Return a slot in which these endpoints were counted under family 1."""
    slot = Slot(500, 8000)
    writer = SlotWriter(slot)
    for endpoint, value in counts.items():
        slot.cells[writer.add(1, ("GET", endpoint), 2)] += value
    return slot


def test_totals_are_sums_cell_by_cell() -> None:
    """The cells of a series are added up over slots. A series whose cells are all zero is left out."""
    found = tally(slot_with({"/a": 1.0, "/b": 2.0}), slot_with({"/b": 3.0, "/c": 0.0}))
    assert found.series(1) == {("GET", "/a"): [1.0, 0.0], ("GET", "/b"): [5.0, 0.0]}
    assert found.series(9) == {}


def test_series_renamed_to_the_same_labels_are_added() -> None:
    """Two series of one slot that get the same labels are added."""
    found = tally(slot_with({"/a": 1.0, "/b": 2.0, "/c": 4.0}), rename=new_cap(1))
    assert found.series(1) == {("GET", "/a"): [1.0, 0.0], ("GET", OTHER): [6.0, 0.0]}


def test_add_does_not_change_the_cells_passed_to_it() -> None:
    """The cells passed to ``add`` stay as they are."""
    cells = [1.0, 2.0]
    found = Tally(same)
    for _ in range(3):
        found.add(1, ("a",), cells)
    assert cells == [1.0, 2.0]
    assert found.series(1) == {("a",): [3.0, 6.0]}


def test_worker_totals_are_relative_to_the_baseline() -> None:
    """A worker's counts are those of its slot less the baseline. Cells that are not in the baseline count from 0."""
    allocator = SlotAllocator(lambda: Slot(500, 8000))
    first = allocator.lease(1, 0.0)
    writer, slot = SlotWriter(first.slot), first.slot

    def count(family: Family, labels: tuple[str, ...], *cells: float) -> None:
        at = writer.add(family.number, labels, family.width(DEFAULT_BUCKETS.bounds))
        for cell, value in enumerate(cells):
            slot.cells[at + cell] += value

    count(WEBSOCKETS, ("/a",), 5.0, 4.0)
    count(REQUESTS, ("GET", "/a", "200", "0", "0"), 0.25, 0.0, 7.0, 3.0)
    allocator.release(first)
    second = allocator.lease(2, 0.0)
    assert second.slot is slot
    count(WEBSOCKETS, ("/a",), 2.0, 1.0)
    count(WEBSOCKETS, ("/b",), 1.0)
    count(REQUESTS, ("GET", "/a", "200", "0", "0"), 0.5, 0.0, 1.0, 1.0)
    count(REQUESTS, ("GET", "/b", "200", "0", "0"), 0.125, 0.0, 0.0, 0.0, 1.0)
    found = own(allocator, second)
    assert found.tally.series(WEBSOCKETS.number) == {("/a",): [2.0, 1.0], ("/b",): [1.0, 0.0]}
    assert found.requests == [0.625, 0.0, 1.0, 1.0, 1.0, *[0.0] * (REQUESTS.width(DEFAULT_BUCKETS.bounds) - 5)]
    assert totals(allocator).series(WEBSOCKETS.number) == {("/a",): [7.0, 5.0], ("/b",): [1.0, 0.0]}


def test_worker_without_requests_has_no_counts() -> None:
    """There are no request cells in a new slot, and zeros in one that a predecessor has counted in."""
    allocator = SlotAllocator(lambda: Slot(500, 8000))
    width = REQUESTS.width(DEFAULT_BUCKETS.bounds)
    first = allocator.lease(1, 0.0)
    assert own(allocator, first) == ([], ANY)
    slot = first.slot
    slot.cells[SlotWriter(slot).add(REQUESTS.number, ("GET", "/", "200", "0", "0"), width) + 3] = 4.0
    slot.cells[SlotWriter(slot).add(FAILED.number, ("GET", "/", "500"), 1)] = 4.0
    allocator.release(first)
    second = allocator.lease(2, 0.0)
    found = own(allocator, second)
    assert found.requests == [0.0] * width
    assert found.tally.series(FAILED.number) == {}


def test_copy_does_not_change_with_later_counts() -> None:
    """Later counts, in old, new and newly mapped series, are not in the copy."""
    allocator = SlotAllocator(lambda: Slot(500, 8000))
    lease = allocator.lease(1, 0.0)
    writer = SlotWriter(lease.slot)
    at = writer.add(FAILED.number, ("GET", "/a", "500"), 1)
    lease.slot.cells[at] = 1.0
    copy = allocator.copy(allocator.update())
    lease.slot.cells[at] = 2.0
    lease.slot.cells[writer.add(FAILED.number, ("GET", "/b", "500"), 1)] = 3.0
    other = allocator.lease(2, 0.0)
    other.slot.cells[SlotWriter(other.slot).add(FAILED.number, ("GET", "/a", "500"), 1)] = 4.0
    assert allocator.update() is None
    assert copy.totals(same).series(FAILED.number) == {("GET", "/a", "500"): [1.0]}
    assert copy.of_worker(0, lease.baseline, same).tally.series(FAILED.number) == {("GET", "/a", "500"): [1.0]}
    assert totals(allocator).series(FAILED.number) == {("GET", "/a", "500"): [6.0], ("GET", "/b", "500"): [3.0]}


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(st.floats(0.0, 1e9), min_size=3, max_size=3), min_size=1, max_size=30), st.integers(0, 89))
def test_sum_of_growing_fractions_never_shrinks(rows: list[list[float]], grows: int) -> None:
    """For any fractions, and whichever of them grows by the smallest step."""
    before = column_sums(array("d", chain.from_iterable(rows)), 3)
    row = grows // 3 % len(rows)
    rows[row][0] = nextafter(rows[row][0], inf)
    assert column_sums(array("d", chain.from_iterable(rows)), 3)[0] >= before[0]


def test_endpoints_beyond_the_limit_are_shown_as_other() -> None:
    """The first endpoints are shown, later ones are <other>, in every family; each is counted once in ``folded``."""
    cap = new_cap(2)
    assert [cap(1, ("GET", path))[1] for path in ("/a", "/b", "/c", "/a", "/c", "/d")] == [
        *("/a", "/b", OTHER, "/a", OTHER, OTHER)
    ]
    assert cap(2, ("/c",)) == (OTHER,)
    assert cap(2, ("/b", "rest")) == ("/b", "rest")
    assert cap.folded == {"/c", "/d"}


def test_labels_beside_a_capped_endpoint_stay() -> None:
    """Only the endpoint is replaced, wherever it stands among the label values."""
    cap = EndpointCap(0, {1: 1, 2: 0}, frozenset(), OTHER)
    assert cap(1, ("GET", "/a", "200", "0")) == ("GET", OTHER, "200", "0")
    assert cap(2, ("/a", "GET", "200")) == (OTHER, "GET", "200")


def test_fractions_are_added_without_rounding_and_counts_as_they_are() -> None:
    """The first column has the fractions: its sum is exact, as ten times a tenth is one."""
    rows = array("d", [0.1, 1.0, 0.0] * 10)
    assert sum([0.1] * 10) != 1.0
    assert column_sums(rows, 3) == [1.0, 10.0, 0.0]
    assert column_sums(array("d", [0.0, 0.0, -1.0, 1.0]), 2) == [-1.0, 1.0]


def test_pages_of_all_slots_are_given_back_after_the_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory of the slots stays in the master only as long as they are added up."""
    given_back: list[Slot] = []

    def release_pages(slot: Slot) -> None:
        given_back.append(slot)

    monkeypatch.setattr(Slot, "release_pages", release_pages)
    allocator = SlotAllocator(lambda: Slot(200, 4000))
    leases = [allocator.lease(worker, 0.0) for worker in (1, 2)]
    totals(allocator)
    assert given_back == [lease.slot for lease in leases]


def test_other_families_and_exempt_values_are_not_capped() -> None:
    """Families without the label, and the values <other> and <unmatched>, pass and do not count."""
    cap = new_cap(1)
    assert cap(3, ("/x", "/y")) == ("/x", "/y")
    assert cap(1, ("GET", "<unmatched>")) == ("GET", "<unmatched>")
    assert cap(1, ("GET", OTHER)) == ("GET", OTHER)
    assert cap(1, ("GET", "/a")) == ("GET", "/a")
    assert cap.folded == set()


def test_raised_limit_keeps_folded_endpoints_folded() -> None:
    """An endpoint that was <other> stays so after a reload: its old counts would appear as a jump."""
    cap = new_cap(1)
    cap(1, ("GET", "/a")), cap(1, ("GET", "/b"))
    cap.limit = 5
    assert cap(1, ("GET", "/b"))[1] == OTHER
    assert cap(1, ("GET", "/c"))[1] == "/c"
    cap.limit = 1
    assert [cap(1, ("GET", path))[1] for path in ("/a", "/c", "/d")] == ["/a", "/c", OTHER]


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 4),
    st.lists(st.tuples(st.integers(0, 2), st.sampled_from("abcdefgh"), st.integers(1, 5)), max_size=40),
)
def test_capped_totals_are_exact_and_never_go_backwards(limit: int, steps: list[tuple[int, str, int]]) -> None:
    """In any order of counts: no shown series shrinks, none is lost, and the sum is exact."""
    slots = [Slot(500, 4000) for _ in range(3)]
    writers, cap = [SlotWriter(slot) for slot in slots], new_cap(limit)
    before: dict[tuple[str, ...], list[float]] = {}
    for number, endpoint, value in steps:
        slots[number].cells[writers[number].add(1, ("GET", endpoint), 1)] += value
        now = tally(*slots, rename=cap).series(1)
        assert all(now[labels] >= cells for labels, cells in before.items())
        assert len(now.keys() - {("GET", OTHER)}) <= limit
        before = now
    assert sum(cells[0] for cells in before.values()) == sum(value for _, _, value in steps)
