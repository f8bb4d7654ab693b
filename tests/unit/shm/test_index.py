"""The directory of a slot: encoding, decoding and corruption."""

from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gunicorn_prom_hooks.shm.index import CorruptIndex, Entry, checked_size, clean_label, decode, encode
from gunicorn_prom_hooks.shm.layout import DIRECTORY_BYTES, ENTRY, MAX_LABEL_BYTES
from gunicorn_prom_hooks.shm.reader import SlotReader
from gunicorn_prom_hooks.shm.slot import Slot, SlotWriter

any_text = st.text(alphabet=st.characters(exclude_categories=()), max_size=300)
labels = st.lists(any_text, max_size=5).map(lambda values: tuple(map(clean_label, values)))
entries = st.lists(
    st.builds(
        Entry,
        st.integers(0, 255),
        labels,
        st.integers(0, 2**32 - 1),
        st.integers(0, 2**16 - 1),
        st.floats(allow_nan=False),
    ),
    max_size=8,
)


def written(some: list[Entry]) -> bytes:
    """Return the entries one after the other."""
    return b"".join(map(encode, some))


@settings(deadline=None)
@given(entries)
def test_encoded_entries_are_decoded(some: list[Entry]) -> None:
    """Any entries, with any label values, are decoded as they were encoded."""
    data = written(some)
    assert list(decode(memoryview(data), 0, len(data))) == some


@settings(deadline=None)
@given(any_text)
def test_clean_label_is_utf8_of_bounded_length(value: str) -> None:
    """Any text becomes valid UTF-8 of at most MAX_LABEL_BYTES. Cleaning it again changes nothing."""
    clean = clean_label(value)
    assert len(clean.encode()) <= MAX_LABEL_BYTES
    assert clean_label(clean) == clean


@settings(deadline=None)
@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=300))
def test_clean_label_is_cut_at_a_character(value: str) -> None:
    """Valid text is kept up to the last character that fits."""
    clean = clean_label(value)
    assert value.startswith(clean)
    assert clean == value or len((clean + value[len(clean)]).encode()) > MAX_LABEL_BYTES


@settings(deadline=None, max_examples=300)
@given(entries.filter(len), st.data())
def test_corruption_of_any_byte_is_detected(some: list[Entry], data: st.DataObject) -> None:
    """One changed byte anywhere raises CorruptIndex and nothing else."""
    raw = bytearray(written(some))
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(CorruptIndex):
        list(decode(memoryview(raw), 0, len(raw)))


@settings(deadline=None, max_examples=300)
@given(entries.filter(len), st.data())
def test_corruption_of_a_label_is_detected(some: list[Entry], data: st.DataObject) -> None:
    """One changed byte in the label values raises CorruptIndex."""
    raw = bytearray(written(some))
    entry = data.draw(st.integers(0, len(some) - 1))
    start, end = len(written(some[:entry])) + struct.calcsize("=HHIIBB"), len(written(some[: entry + 1]))
    if start < end:
        raw[data.draw(st.integers(start, end - 1))] ^= data.draw(st.integers(1, 255))
        with pytest.raises(CorruptIndex):
            list(decode(memoryview(raw), 0, len(raw)))


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=80), st.integers(0, 255), st.booleans())
def test_random_bytes_are_corruption_or_entries(raw: bytes, labels: int, fits: bool) -> None:
    """Random bytes raise CorruptIndex or happen to be entries, even with a matching checksum."""
    if fits:
        tail = bytes([1, labels]) + raw
        head = struct.pack("=HHI", 12 + len(tail), 1, 0)
        raw = struct.pack("=HHII", 12 + len(tail), 1, 0, zlib.crc32(head + bytes(4) + tail)) + tail
    try:
        list(decode(memoryview(raw), 0, len(raw)))
    except CorruptIndex:
        return


def test_partial_entry_is_corruption() -> None:
    """An end that cuts an entry short, anywhere, raises CorruptIndex."""
    raw = written([Entry(1, ("GET", "/"), 0, 20)])
    for end in range(1, len(raw)):
        with pytest.raises(CorruptIndex):
            list(decode(memoryview(raw), 0, end))


@pytest.mark.parametrize("length", [0, 1, ENTRY.size - 1, ENTRY.size + 4])
def test_entry_with_a_length_that_it_cannot_have_is_corruption(length: int) -> None:
    """Less than the head, which would lead nowhere or back, or more than there is, with a checksum that matches."""
    body = b"ab"
    crc = zlib.crc32(ENTRY.pack(length, 1, 0, 0, 1, 0, 0.0) + (body if length > ENTRY.size else b""))
    raw = ENTRY.pack(length, 1, 0, crc, 1, 0, 0.0) + body
    with pytest.raises(CorruptIndex, match="bad entry at 0"):
        list(decode(memoryview(raw), 0, len(raw)))


@pytest.mark.parametrize(("published", "parsed"), [(20.5, 0), (0.5, 0), (101.0, 0), (19.0, 20), (-1.0, 0)])
def test_size_that_no_writer_publishes_is_corruption(published: float, parsed: int) -> None:
    """It is a whole number, not beyond the end, and never less than before; the limits are among what is accepted."""
    directory = memoryview(bytes(100))
    with pytest.raises(CorruptIndex, match=f"{published} bytes written, of 100, {parsed} before"):
        checked_size(directory, published, parsed)
    assert [checked_size(directory, size, 20) for size in (20.0, 21.0, 100.0)] == [20, 21, 100]


@pytest.mark.parametrize("length", [1e6, 41.0, 18.0, 19.5, -1.0, float("nan"), float("inf"), -float("inf")])
def test_impossible_length_in_the_header_is_corruption(length: float) -> None:
    """An impossible length raises CorruptIndex in the reader and in the next writer."""
    slot = Slot(100, 40)
    SlotWriter(slot).add(1, ("GET",), 1)
    reader = SlotReader(slot)
    assert reader.update()
    slot.header[DIRECTORY_BYTES] = length
    with pytest.raises(CorruptIndex):
        reader.update()
    with pytest.raises(CorruptIndex):
        SlotWriter(slot)
