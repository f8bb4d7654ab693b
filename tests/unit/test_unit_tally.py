"""Adding up slots, within a bounded number of endpoints."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from unit_support import same, tally_all, tally_lease

from gunicorn_prom_hooks.scoreboard.directory import Entry
from gunicorn_prom_hooks.scoreboard.leases import Lease
from gunicorn_prom_hooks.scoreboard.reader import SlotReader
from gunicorn_prom_hooks.scoreboard.slot import Slot, SlotWriter
from gunicorn_prom_hooks.scoreboard.tally import EndpointCap, Tally

OTHER = "<other>"


def a_cap(limit: int) -> EndpointCap:
    """A cap on the second label of family 1 and the first of family 2."""
    return EndpointCap(limit, {1: 1, 2: 0}, frozenset({OTHER, "<unmatched>"}), OTHER)


def slot_with(counts: dict[str, float]) -> SlotReader:
    """A slot in which these endpoints were counted under family 1."""
    slot = Slot(500, 8000)
    writer = SlotWriter(slot)
    for endpoint, value in counts.items():
        slot.cells[writer.add(1, ("GET", endpoint), 2)] += value
    return SlotReader(slot)


def test_slots_are_added_up_cell_by_cell() -> None:
    """The same series in several slots is one; a series that is all zero is none."""
    readers = [slot_with({"/a": 1.0, "/b": 2.0}), slot_with({"/b": 3.0, "/c": 0.0})]
    tally, values = tally_all(readers, same)
    assert tally.series(1) == {("GET", "/a"): [1.0, 0.0], ("GET", "/b"): [5.0, 0.0]}
    assert values == [[1.0, 0.0, 2.0, 0.0], [3.0, 0.0, 0.0, 0.0]]
    assert tally.series(9) == {}


def test_series_shown_under_one_name_are_added() -> None:
    """Two series of one slot that are renamed alike come out as their sum, in the tally only."""
    tally, values = tally_all([slot_with({"/a": 1.0, "/b": 2.0, "/c": 4.0})], a_cap(1))
    assert tally.series(1) == {("GET", "/a"): [1.0, 0.0], ("GET", OTHER): [6.0, 0.0]}
    assert values == [[1.0, 0.0, 2.0, 0.0, 4.0, 0.0]]


def test_adding_does_not_change_what_was_read() -> None:
    """The values handed in stay as they are."""
    values = [1.0, 2.0]
    tally = Tally(same)
    for _ in range(3):
        tally.add([Entry(1, ("a",), 0, 2)], values)
    assert values == [1.0, 2.0]
    assert tally.series(1) == {("a",): [3.0, 6.0]}


def test_a_lease_counts_from_its_base() -> None:
    """What a worker did is what its slot has now less what it had; cells that did not exist then count from 0."""
    reader = slot_with({"/a": 5.0})
    reader.update()
    lease = Lease(0, 1, 0.0, reader, reader.values())
    SlotWriter(reader.slot).add(1, ("GET", "/b"), 2)
    reader.slot.cells[0] = 7.0
    reader.slot.cells[2] = 1.0
    _, values = tally_all([reader], same)
    assert tally_lease(lease, values[0], same).series(1) == {("GET", "/a"): [2.0, 0.0], ("GET", "/b"): [1.0, 0.0]}


def test_the_first_endpoints_stay_and_the_others_are_folded() -> None:
    """Up to the limit endpoints are shown; the rest is <other>, each counted once, in every family."""
    cap = a_cap(2)
    assert [cap(1, ("GET", path))[1] for path in ("/a", "/b", "/c", "/a", "/c", "/d")] == [
        *("/a", "/b", OTHER, "/a", OTHER, OTHER)
    ]
    assert cap(2, ("/c",)) == (OTHER,)
    assert cap(2, ("/b", "rest")) == ("/b", "rest")
    assert cap.folded == {"/c", "/d"}


def test_what_is_no_endpoint_is_not_capped() -> None:
    """Families without the label pass, and so do <other> and <unmatched>, which take nobody's place."""
    cap = a_cap(1)
    assert cap(3, ("/x", "/y")) == ("/x", "/y")
    assert cap(1, ("GET", "<unmatched>")) == ("GET", "<unmatched>")
    assert cap(1, ("GET", OTHER)) == ("GET", OTHER)
    assert cap(1, ("GET", "/a")) == ("GET", "/a")
    assert cap.folded == set()


def test_a_raised_limit_leaves_the_folded_folded() -> None:
    """What has been <other> stays so when a reload raises the limit: its old counts would come out as a jump."""
    cap = a_cap(1)
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
def test_capped_totals_are_stable_and_never_go_backwards(limit: int, steps: list[tuple[int, str, int]]) -> None:
    """Whatever slot counts whatever when: no shown series shrinks, none is lost, and the sum is exact."""
    slots = [Slot(500, 4000) for _ in range(3)]
    writers, readers, cap = [SlotWriter(slot) for slot in slots], [SlotReader(slot) for slot in slots], a_cap(limit)
    before: dict[tuple[str, ...], list[float]] = {}
    for number, endpoint, value in steps:
        slots[number].cells[writers[number].add(1, ("GET", endpoint), 1)] += value
        now = tally_all(readers, cap)[0].series(1)
        assert all(now[labels] >= cells for labels, cells in before.items())
        assert len(now.keys() - {("GET", OTHER)}) <= limit
        before = now
    assert sum(cells[0] for cells in before.values()) == sum(value for _, _, value in steps)
