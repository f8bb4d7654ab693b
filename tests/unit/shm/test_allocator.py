"""Who has which slot."""

from __future__ import annotations

import random

import pytest

from gunicorn_prom_hooks.shm import layout
from gunicorn_prom_hooks.shm.allocator import Lease, SlotAllocator
from gunicorn_prom_hooks.shm.index import CorruptIndex
from gunicorn_prom_hooks.shm.schema import FAILED
from gunicorn_prom_hooks.shm.slot import Slot, SlotWriter, inflight_start
from tests.helpers.recording import own, totals


def some_leases() -> SlotAllocator:
    """Leases of small slots."""
    return SlotAllocator(lambda: Slot(200, 4000))


def count(lease: Lease, label: str, times: int = 1) -> None:
    """What a worker that holds the lease counts."""
    lease.slot.cells[SlotWriter(lease.slot).add(FAILED.number, (label,), 1)] += times


def test_the_lowest_free_slot_is_leased() -> None:
    """A new worker gets the lowest free slot; another is mapped only when all are taken."""
    allocator = some_leases()
    taken = [allocator.lease(worker, 0.0) for worker in (1, 2, 3)]
    assert [lease.number for lease in taken] == [0, 1, 2]
    allocator.release(taken[0])
    allocator.release(taken[1])
    assert [allocator.lease(worker, 0.0).number for worker in (4, 5, 6)] == [0, 1, 3]
    assert len(allocator.readers) == 4


def test_the_live_leases_are_those_that_are_out() -> None:
    """What was given back is not live; the others are, by slot number."""
    allocator = some_leases()
    first, second, third = (allocator.lease(worker, 0.0) for worker in (1, 2, 3))
    allocator.release(first)
    again = allocator.lease(4, 0.0)
    assert allocator.live == [again, second, third]


def test_a_worker_starts_at_zero() -> None:
    """What a worker did is the difference to its slot at the lease; what all did is the whole."""
    allocator = some_leases()
    first = allocator.lease(1, 0.0)
    count(first, "a", 5)
    allocator.release(first)
    second = allocator.lease(2, 0.0)

    def seen() -> tuple[dict[tuple[str, ...], list[float]], dict[tuple[str, ...], list[float]]]:
        return totals(allocator).series(FAILED.number), own(allocator, second).tally.series(FAILED.number)

    assert second.reader is first.reader
    assert seen() == ({("a",): [5.0]}, {})
    count(second, "a")
    count(second, "b")
    assert seen() == ({("a",): [6.0], ("b",): [1.0]}, {("a",): [1.0], ("b",): [1.0]})


def test_giving_back_twice_frees_once() -> None:
    """A lease given back again takes nothing from the worker that has the slot by then."""
    allocator = some_leases()
    first = allocator.lease(1, 0.0)
    allocator.release(first)
    allocator.release(first)
    second = allocator.lease(2, 7.0)
    allocator.release(first)
    assert allocator.live == [second]
    assert second.slot.header[layout.WORKER] == 2.0
    assert allocator.lease(3, 0.0).number == 1


@pytest.mark.parametrize("returned", [True, False])
def test_what_belongs_to_one_worker_is_wiped(returned: bool) -> None:
    """States, exit mark and in-flight requests go with the worker; the layout, the directory and the cells stay."""
    allocator = some_leases()
    lease = allocator.lease(1, 11.0)
    slot = lease.slot
    assert (slot.header[layout.WORKER], slot.header[layout.BOOTING_AT]) == (1.0, 11.0)
    count(lease, "a")
    kept = (layout.VERSION, layout.CELLS, layout.DIRECTORY_SIZE, layout.DIRECTORY_BYTES)
    before = [slot.header[cell] for cell in kept]
    for cell in range(layout.PID, layout.HEADER_CELLS):
        slot.header[cell] = 3.0
    for number in (*range(layout.INFLIGHT_ENTRIES), layout.OVERFLOW_ENTRY):
        slot.words[inflight_start(number)] = 1.0
    allocator.release(lease)
    worker, booting = 0.0, 0.0
    if not returned:
        allocator.lease(2, 12.0)
        worker, booting = 2.0, 12.0
    assert [slot.header[cell] for cell in kept] == before
    assert lease.reader.in_flight() == []
    assert slot.words[inflight_start(layout.OVERFLOW_ENTRY)] == 0.0
    assert lease.reader.untracked() == (0, 0.0)
    rest = [slot.header[cell] for cell in range(layout.PID, layout.HEADER_CELLS) if cell != layout.BOOTING_AT]
    assert (slot.header[layout.WORKER], slot.header[layout.BOOTING_AT]) == (worker, booting)
    assert not any(rest)
    assert list(slot.cells[:1]) == [1.0]


def test_a_lease_is_fresh_even_if_its_slot_was_never_given_back_clean() -> None:
    """What a worker wrote between the end of its lease and its own end does not show in the next lease."""
    allocator = some_leases()
    first = allocator.lease(1, 1.0)
    allocator.release(first)
    first.slot.header[layout.ABORT_AT] = first.slot.words[inflight_start(5)] = 9.0
    second = allocator.lease(2, 2.0)
    assert second.slot.header[layout.ABORT_AT] == 0.0
    assert second.reader.in_flight() == []


def test_totals_never_go_backwards() -> None:
    """Over a thousand workers that come, count and go in any order, every total grows, and nothing is lost."""
    chance = random.Random(7)
    allocator, live = some_leases(), list[Lease]()
    expected: dict[tuple[str, ...], float] = {}
    before: dict[tuple[str, ...], float] = {}
    for worker in range(1, 1001):
        live.append(allocator.lease(worker, float(worker)))
        for lease in chance.sample(live, min(len(live), 2)):
            label = chance.choice("abcdefgh")
            count(lease, label)
            expected[label,] = expected.get((label,), 0.0) + 1.0
        if len(live) > chance.randrange(6):
            allocator.release(live.pop(chance.randrange(len(live))))
        now = {labels: cells[0] for labels, cells in totals(allocator).series(FAILED.number).items()}
        assert all(now.get(labels, 0.0) >= value for labels, value in before.items())
        before = now
    assert before == expected
    assert len(allocator.readers) <= 8


def test_a_corrupt_slot_is_not_leased_again() -> None:
    """Where something has written into a free slot, that is said twice, and then workers get other slots for ever."""
    allocator = SlotAllocator(lambda: Slot(100, 1000))
    lease = allocator.lease(1, 1.0)
    SlotWriter(lease.slot).add(FAILED.number, ("GET", "/", "ValueError"), 1)
    lease.slot.directory[:20] = b"x" * 20
    allocator.release(lease)
    for _ in range(2):
        with pytest.raises(CorruptIndex):
            allocator.lease(2, 2.0)
    assert [allocator.lease(worker, 3.0).number for worker in (3, 4)] == [1, 2]


def test_a_slot_that_has_become_too_small_is_not_leased_again() -> None:
    """A slot that no longer fits is left as it is, still read, and a larger one made once for all workers to come."""
    wanted = 100
    allocator = SlotAllocator(lambda: Slot(wanted, 1000), lambda slot: len(slot.cells) >= wanted)
    allocator.release(allocator.lease(1, 1.0))
    wanted = 200
    for worker in range(2, 9):
        lease = allocator.lease(worker, 2.0)
        assert (lease.number, len(lease.slot.cells)) == (1, 200)
        allocator.release(lease)
    assert len(allocator.readers) == 2
