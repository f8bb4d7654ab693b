"""The layout as its docstring specifies it: a reader written from that text reads what the writer wrote."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable
from typing import Any

from gunicorn_prom_hooks.shm import layout
from gunicorn_prom_hooks.shm.schema import PATHS, REQUESTS
from gunicorn_prom_hooks.worker.recording.event_loop_hooks import many_at_a_time
from gunicorn_prom_hooks.worker.recording.in_flight import UntrackedRequests
from tests.helpers.recording import GET, Recorded, handled, values

TEXT = layout.__doc__ or ""


def header(memory: bytes, name: str) -> float:
    """Return a header cell by the name of its constant."""
    return float(struct.unpack_from("=64d", memory, 0)[getattr(layout, name)])


def directory(memory: bytes) -> list[tuple[int, tuple[str, ...], int, int]]:
    """Return family, label values, first cell and number of cells of each entry."""
    at = start = 33_536 + 8 * int(header(memory, "CELLS"))
    found = []
    while at < start + int(header(memory, "DIRECTORY_BYTES")):
        length, count, first, _, family, labels, _ = struct.unpack_from("=HHIIBBd", memory, at)
        place, values = at + 22, []
        for _ in range(labels):
            (size,) = struct.unpack_from("=H", memory, place)
            values.append(memory[place + 2 : place + 2 + size].decode())
            place += 2 + size
        assert place == at + length
        found.append((family, tuple(values), first, count))
        at += length
    return found


def in_flight(memory: bytes) -> list[tuple[float, str, str]]:
    """Return start, method and path of each used in-flight entry, in the order of the table."""
    found = []
    known = {33_536 // 8 + first: labels for family, labels, first, _ in directory(memory) if family == PATHS.number}
    for at in range(512, 512 + 128 * 256, 256):
        method, path, _, number, start = struct.unpack_from("=16s216sddd", memory, at)
        if start > 0.0:
            text = known[number] if number else (method.rstrip(b"\0").decode(), path.rstrip(b"\0").decode())
            found.append((start, *text))
    return found


def used_slot() -> tuple[Recorded, Any]:
    """Return a slot with two recorded requests, a third in progress, and one in progress to a new path."""
    recorded = Recorded()
    pre_request, post_request = many_at_a_time(recorded.recorder, None, recorded.errors)
    request, environ, response = handled()
    for _ in range(2):
        pre_request(None, request)
        post_request(None, request, environ, response)
    pre_request(None, request)
    pre_request(None, handled(GET % b"/never/seen")[0])
    return recorded, request


def test_reader_written_from_the_docstring_reads_the_same_values() -> None:
    """Offsets, types and order are those of the docstring: entries, counts and in-flight requests are the same."""
    recorded, _ = used_slot()
    memory = bytes(recorded.slot.memory)
    ours = recorded.reader.update()
    assert directory(memory) == [(entry.family, entry.labels, entry.first, entry.cells) for entry in ours]
    cells = struct.unpack_from(f"={int(header(memory, 'CELLS'))}d", memory, 33_536)
    assert list(cells[: len(values(recorded.reader))]) == values(recorded.reader)
    (first,) = [
        first
        for family, labels, first, _ in directory(memory)
        if family == REQUESTS.number and labels[:3] == ("GET", "/items/:id", "200")
    ]
    assert sum(cells[first + 3 : first + 20]) == 2.0
    assert sorted(in_flight(memory)) == [tuple(request) for request in recorded.reader.in_flight()]
    assert {entry[1:] for entry in in_flight(memory)} == {("GET", "/items/7"), ("GET", "/never/seen")}


def test_untracked_requests_are_stored_as_in_the_docstring() -> None:
    """The pair that the number of changes makes valid has their number and the sum of their starts."""
    recorded = Recorded()
    untracked = UntrackedRequests(recorded.slot)
    changes: list[Callable[[float], None]] = [untracked.add, untracked.add, untracked.remove]
    for change, start, expected in zip(changes, (3.0, 4.5, 3.0), ((1, 3.0), (2, 7.5), (1, 4.5)), strict=True):
        change(start)
        cells = struct.unpack_from("=64d", recorded.slot.memory, 0)
        first = layout.UNTRACKED_PAIRS + 2 * (int(cells[layout.UNTRACKED]) % 2)
        assert cells[first : first + 2] == expected == tuple(recorded.reader.untracked())


def test_offsets_in_the_docstring_are_the_constants() -> None:
    """The offsets in the docstring's table are the constants, and end where the slot ends."""
    offsets = [int(number.replace(",", "")) for number in re.findall(r"^([\d,]+)(?: \+ 8 \* C)?  ", TEXT, re.MULTILINE)]
    nowhere = layout.INFLIGHT_AT + 256 * layout.OVERFLOW_ENTRY
    assert offsets == [0, 8 * layout.HEADER_CELLS, nowhere, layout.CELLS_AT, layout.CELLS_AT]
    assert layout.INFLIGHT_AT == 512
    assert layout.CELLS_AT == 512 + 128 * 256 + 256
    assert layout.INFLIGHT_ENTRIES * layout.INFLIGHT_BYTES == 128 * 256
    assert layout.slot_bytes(100, 1000) == 33_536 + 8 * 100 + 1000
    recorded, _ = used_slot()
    assert len(recorded.slot.memory) == layout.slot_bytes(len(recorded.slot.cells), len(recorded.slot.directory))


def test_header_cells_are_those_of_the_docstring() -> None:
    """Version, sizes and length are in the header, all of them doubles at multiples of 8."""
    recorded, _ = used_slot()
    memory = bytes(recorded.slot.memory)
    assert header(memory, "VERSION") == 1.0
    assert header(memory, "CELLS") == len(recorded.slot.cells)
    assert header(memory, "DIRECTORY_SIZE") == len(recorded.slot.directory)
    assert 0 < header(memory, "DIRECTORY_BYTES") < len(recorded.slot.directory)
    assert layout.CELLS_AT % 8 == layout.INFLIGHT_AT % 8 == layout.INFLIGHT_BYTES % 8 == 0
    numbers = [value for name, value in vars(layout).items() if name.isupper() and isinstance(value, int)]
    assert min(numbers) == layout.EXPECTED_COUNT == -2


def test_checksum_of_an_entry_is_that_of_the_docstring() -> None:
    """An entry's CRC-32 is that of the entry with zero in its own place."""
    recorded, _ = used_slot()
    memory = bytes(recorded.slot.directory)
    length, _, _, crc = struct.unpack_from("=HHII", memory, 0)
    assert crc == zlib.crc32(memory[:8] + bytes(4) + memory[12:length])
