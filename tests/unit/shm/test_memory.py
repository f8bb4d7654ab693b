"""Memory that the master needs for slots, and that a fork copies."""

from __future__ import annotations

import mmap
import os
import tracemalloc
from array import array
from pathlib import Path

import pytest

from gunicorn_prom_hooks.shm.allocator import Lease, SlotAllocator
from gunicorn_prom_hooks.shm.schema import FAILED, REQUESTS
from gunicorn_prom_hooks.shm.slot import Slot, SlotMaker
from gunicorn_prom_hooks.worker.recording.recorder import Recorder
from tests.helpers.recording import same, shared_memory, totals

ROWS, WORKERS = 200, 20


def count(lease: Lease) -> None:
    """Record one request to each of many endpoints, some of them failed, as a worker."""
    recorder = Recorder(lease.slot, ROWS, lease.reader.all_series)
    for number in range(ROWS):
        row = recorder.row("GET", f"/endpoint/{number}", 200, 0, 0)
        lease.slot.words[row.at] += 0.25
        lease.slot.words[row.at + 3] += 1.0
        recorder.path("GET", f"/endpoint/{number}")
        if number % 2:
            recorder.count(FAILED, "GET", f"/endpoint/{number}", "500")


def test_memory_per_row_and_slot_is_under_120_bytes() -> None:
    """Two generations of workers, their baselines and the totals need under 120 bytes per row and slot.

    A row has twenty cells. Its labels are kept once for all slots.
    """
    allocator = SlotAllocator(lambda: Slot(65536, 262144))
    first = [allocator.lease(age, 1.0) for age in range(WORKERS)]
    count(first[0])
    totals(allocator)  # what there is only once
    tracemalloc.start()
    try:
        for lease in first[1:]:
            count(lease)
        totals(allocator)
        for lease in first:
            allocator.release(lease)
        second = [allocator.lease(age, 2.0) for age in range(WORKERS, 2 * WORKERS)]
        assert totals(allocator).series(REQUESTS.number)["GET", "/endpoint/7", "200", "0", "0"][3] == WORKERS
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [lease.number for lease in second] == list(range(WORKERS))
    assert kept / (WORKERS - 1) / ROWS < 120.0


def test_process_forked_during_a_scrape_does_not_inherit_the_copy() -> None:
    """The copy is empty in the child, and complete in the parent."""
    allocator = SlotAllocator(lambda: Slot(65536, 262144))
    count(allocator.lease(1, 1.0))
    copy = allocator.copy(allocator.update())
    pid = os.fork()
    if not pid:
        os._exit(len(copy.totals(same).series(REQUESTS.number)))
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert len(copy.totals(same).series(REQUESTS.number)) == ROWS


def test_slots_share_mappings_and_have_their_own_memory() -> None:
    """There are far fewer mappings than slots, and each slot has its own memory."""

    def mappings() -> int:
        return len(Path("/proc/self/maps").read_text().splitlines())

    maker, before = SlotMaker(), mappings()
    slots = [maker.make(300_000, 1_000_000) for _ in range(128)]
    assert mappings() - before < 20
    for number, slot in enumerate(slots):
        slot.cells[0] = slot.cells[299_999] = slot.words[70] = number + 1.0
        slot.directory[999_999] = number
    for number, slot in enumerate(slots):
        assert {slot.cells[0], slot.cells[299_999], slot.words[70]} == {number + 1.0}
        assert slot.directory[999_999] == number
        assert len(slot.memory) == len(slots[0].memory)


def test_mappings_grow_with_the_number_of_slots_up_to_a_limit() -> None:
    """The first slot has a mapping to itself, later mappings hold as many as there are; none is over 64 MB."""
    maker = SlotMaker()
    slots = [maker.make(600_000, 100) for _ in range(100)]
    mappings = {id(slot.memory.obj): memoryview(slot.memory.obj).nbytes for slot in slots}
    size, *_ = mappings.values()
    assert len(slots[0].memory) <= size < len(slots[0].memory) + mmap.PAGESIZE
    sizes = [mapping // size for mapping in mappings.values()]
    assert sizes[:3] == [1, 1, 2]
    assert max(sizes) == 64 * 1024 * 1024 // size == sizes[-1]
    assert sum(sizes) >= 100


@pytest.mark.parametrize("sizes", [[(10, 100), (20, 100)], [(20, 100), (10, 100)], [(10, 100), (10, 200)]])
def test_slots_have_the_sizes_that_are_asked_for_last(sizes: list[tuple[int, int]]) -> None:
    """What is left of a mapping for slots of another size is not used."""
    maker = SlotMaker()
    for size in (*(sizes[:1] * 6), *(sizes[1:] * 6), *(sizes[:1] * 2)):
        slot = maker.make(*size)
        assert (len(slot.cells), len(slot.directory)) == size


def test_pages_of_each_slot_of_a_mapping_can_be_released() -> None:
    """Each slot begins at a page, and ends before the next one."""
    maker = SlotMaker()
    slots = [maker.make(100_000, 1000) for _ in range(8)]
    for slot in slots:
        slot.cells[:] = memoryview(array("d", [7.0]) * 100_000)
    before = shared_memory()
    slots[5].release_pages()
    assert 700_000 <= before - shared_memory() <= 900_000
    for slot in slots:
        slot.release_pages()
    assert before - shared_memory() >= 8 * 700_000
    assert all(slot.cells[99_999] == 7.0 for slot in slots)


def test_slot_larger_than_a_shared_mapping_has_its_own_mapping() -> None:
    """It has a mapping to itself, and so have slots of another size."""
    maker = SlotMaker()
    sizes = [(10, 100), (10_000_000, 100), (10_000_000, 100), (10, 100)]
    slots = [maker.make(*size) for size in sizes]
    assert [(len(slot.cells), len(slot.directory)) for slot in slots] == sizes
    for number, slot in enumerate(slots):
        slot.cells[len(slot.cells) - 1] = number
    assert [slot.cells[len(slot.cells) - 1] for slot in slots] == [0.0, 1.0, 2.0, 3.0]
