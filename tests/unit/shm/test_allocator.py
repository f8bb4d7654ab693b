"""The leases of slots."""

from __future__ import annotations

import random

import pytest

from gunicorn_prom_hooks.shm import layout
from gunicorn_prom_hooks.shm.allocator import Lease, SlotAllocator
from gunicorn_prom_hooks.shm.index import CorruptIndex
from gunicorn_prom_hooks.shm.schema import FAILED
from gunicorn_prom_hooks.shm.slot import Slot, SlotWriter, inflight_start
from tests.helpers.recording import own, totals


def new_allocator() -> SlotAllocator:
    """Return an allocator of small slots."""
    return SlotAllocator(lambda: Slot(200, 4000))


def count(lease: Lease, label: str, times: int = 1) -> None:
    """Count something, as the worker that has the lease."""
    lease.slot.cells[SlotWriter(lease.slot).add(FAILED.number, (label,), 1)] += times


def test_lowest_free_slot_is_leased() -> None:
    """A new worker gets the lowest free slot. Another slot is mapped only when all are leased."""
    allocator = new_allocator()
    taken = [allocator.lease(worker, 0.0) for worker in (1, 2, 3)]
    assert [lease.number for lease in taken] == [0, 1, 2]
    allocator.release(taken[0])
    allocator.release(taken[1])
    assert [allocator.lease(worker, 0.0).number for worker in (4, 5, 6)] == [0, 1, 3]
    assert len(allocator.readers) == 4


def test_live_lists_current_leases_by_slot() -> None:
    """A released lease is not in ``live``; the others are, by slot number."""
    allocator = new_allocator()
    first, second, third = (allocator.lease(worker, 0.0) for worker in (1, 2, 3))
    allocator.release(first)
    again = allocator.lease(4, 0.0)
    assert allocator.live == [again, second, third]


def test_worker_counts_from_zero_and_totals_go_on() -> None:
    """A worker's counts begin at zero in a reused slot. The totals include its predecessors."""
    allocator = new_allocator()
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


def test_second_release_has_no_effect() -> None:
    """A lease that is released again does not free the slot of the next worker."""
    allocator = new_allocator()
    first = allocator.lease(1, 0.0)
    allocator.release(first)
    allocator.release(first)
    second = allocator.lease(2, 7.0)
    allocator.release(first)
    assert allocator.live == [second]
    assert second.slot.header[layout.WORKER] == 2.0
    assert allocator.lease(3, 0.0).number == 1


@pytest.mark.parametrize("returned", [True, False])
def test_release_wipes_what_belongs_to_one_worker(returned: bool) -> None:
    """States, exit mark and in-flight requests are wiped. Layout, directory and cells stay."""
    allocator = new_allocator()
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


def test_lease_is_clean_though_the_predecessor_wrote_after_its_release() -> None:
    """What a worker writes between the release and its exit is not in the next lease."""
    allocator = new_allocator()
    first = allocator.lease(1, 1.0)
    allocator.release(first)
    first.slot.header[layout.ABORT_AT] = first.slot.words[inflight_start(5)] = 9.0
    second = allocator.lease(2, 2.0)
    assert second.slot.header[layout.ABORT_AT] == 0.0
    assert second.reader.in_flight() == []


def test_totals_never_go_backwards() -> None:
    """A thousand workers are forked, count and exit in any order: every total grows, and none is lost."""
    chance = random.Random(7)
    allocator, live = new_allocator(), list[Lease]()
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


def test_corrupt_slot_is_not_leased_again() -> None:
    """A free slot into which something else has written raises twice. Afterwards workers get other slots."""
    allocator = SlotAllocator(lambda: Slot(100, 1000))
    lease = allocator.lease(1, 1.0)
    SlotWriter(lease.slot).add(FAILED.number, ("GET", "/", "ValueError"), 1)
    lease.slot.directory[:20] = b"x" * 20
    allocator.release(lease)
    for _ in range(2):
        with pytest.raises(CorruptIndex):
            allocator.lease(2, 2.0)
    assert [allocator.lease(worker, 3.0).number for worker in (3, 4)] == [1, 2]


def test_lowest_free_slot_that_is_not_corrupt_is_leased() -> None:
    """Of several free slots a corrupt one is passed over, and the next one is leased."""
    allocator = new_allocator()
    leases = [allocator.lease(worker, 1.0) for worker in (1, 2, 3)]
    count(leases[0], "a")
    leases[0].slot.directory[:20] = b"x" * 20
    for _ in range(2):
        allocator.update()
    for lease in leases:
        allocator.release(lease)
    assert [allocator.lease(worker, 2.0).number for worker in (4, 5, 6)] == [1, 2, 3]


def test_update_returns_the_error_of_a_corrupt_slot_and_parses_the_others() -> None:
    """One corrupt slot costs no other slot its new entries."""
    allocator = new_allocator()
    first, second, third = (allocator.lease(worker, 1.0) for worker in (1, 2, 3))
    assert allocator.update() is None
    for lease, label in ((first, "a"), (second, "b"), (third, "c")):
        count(lease, label)
    second.slot.directory[:20] = b"x" * 20
    assert isinstance(allocator.update(), CorruptIndex)
    assert [FAILED.number in lease.reader.series for lease in (first, second, third)] == [True, False, True]


def test_slot_that_is_too_small_is_not_leased_again() -> None:
    """A slot that no longer fits is still read. A larger one is mapped once and leased to all later workers."""
    wanted = 100
    allocator = SlotAllocator(lambda: Slot(wanted, 1000), lambda slot: len(slot.cells) >= wanted)
    allocator.release(allocator.lease(1, 1.0))
    wanted = 200
    for worker in range(2, 9):
        lease = allocator.lease(worker, 2.0)
        assert (lease.number, len(lease.slot.cells)) == (1, 200)
        allocator.release(lease)
    assert len(allocator.readers) == 2
