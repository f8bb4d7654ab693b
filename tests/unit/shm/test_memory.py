"""What the master keeps of slots, and what of it a fork copies, is little: there are hundreds of them."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

from gunicorn_prom_hooks.shm.allocator import Lease, SlotAllocator
from gunicorn_prom_hooks.shm.schema import FAILED, REQUESTS
from gunicorn_prom_hooks.shm.slot import Slot, SlotMaker
from gunicorn_prom_hooks.worker.recording.recorder import Recorder
from tests.helpers.recording import same, totals

ROWS, WORKERS = 200, 20


def count(lease: Lease) -> None:
    """What a worker does that has one request of each of many endpoints, some of them failures."""
    recorder = Recorder(lease.slot, ROWS, lease.reader.all_series)
    for number in range(ROWS):
        row = recorder.row("GET", f"/endpoint/{number}", 200, 0, 0)
        lease.slot.words[row.at] += 0.25
        lease.slot.words[row.at + 3] += 1.0
        recorder.path("GET", f"/endpoint/{number}")
        if number % 2:
            recorder.count(FAILED, "GET", f"/endpoint/{number}", "500")


def test_what_is_kept_of_a_row_is_not_its_cells() -> None:
    """Two generations of workers, the base of each lease, and totals added up: under 120 bytes a row and slot.

    A row has twenty cells. Of its labels there is one copy for all slots.
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


def test_a_process_forked_during_a_scrape_inherits_no_copy() -> None:
    """The copy is empty there, and whole here."""
    allocator = SlotAllocator(lambda: Slot(65536, 262144))
    count(allocator.lease(1, 1.0))
    copy = allocator.copy(allocator.update())
    pid = os.fork()
    if not pid:
        os._exit(len(copy.totals(same).series(REQUESTS.number)))
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert len(copy.totals(same).series(REQUESTS.number)) == ROWS


def test_slots_share_mappings() -> None:
    """A fork copies a list of mappings that is much shorter than that of the slots, each of which is its own memory."""

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


def test_a_slot_that_is_larger_than_a_mapping_is_to_be() -> None:
    """It has a mapping of its own, and so have others of another size."""
    maker = SlotMaker()
    sizes = [(10, 100), (10_000_000, 100), (10_000_000, 100), (10, 100)]
    slots = [maker.make(*size) for size in sizes]
    assert [(len(slot.cells), len(slot.directory)) for slot in slots] == sizes
    for number, slot in enumerate(slots):
        slot.cells[len(slot.cells) - 1] = number
    assert [slot.cells[len(slot.cells) - 1] for slot in slots] == [0.0, 1.0, 2.0, 3.0]
