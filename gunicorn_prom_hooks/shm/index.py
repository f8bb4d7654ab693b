"""The directory of a slot: which label values the cells belong to, written by one, read by another process."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from functools import lru_cache
from typing import Final, NamedTuple

from ..model.counts import Labels
from .layout import ENTRY, LABEL, MAX_LABEL_BYTES

SHARED_LABELS: Final = 65536
"""Of so many different series the label values are kept once, and not once per slot."""


class Entry(NamedTuple):
    """A series or a group of them: ``cells`` cells from ``first`` on, in the slot's cells."""

    family: int
    labels: Labels
    first: int
    cells: int


class CorruptIndex(Exception):
    """The directory holds what no writer of ours wrote: something else wrote into the slot."""


def clean_label(value: str) -> str:
    """The value as the directory can hold it: valid UTF-8, at most ``MAX_LABEL_BYTES``, cut at a character."""
    return value.encode("utf-8", "replace")[:MAX_LABEL_BYTES].decode("utf-8", "ignore")


def encode(entry: Entry) -> bytes:
    """The entry as bytes. Its label values must be clean."""
    body = bytearray()
    for label in entry.labels:
        text = label.encode()
        body += LABEL.pack(len(text)) + text
    head = ENTRY.size + len(body), entry.cells, entry.first
    crc = zlib.crc32(ENTRY.pack(*head, 0, entry.family, len(entry.labels)) + body)
    return ENTRY.pack(*head, crc, entry.family, len(entry.labels)) + body


def decode(directory: memoryview, start: int, end: int) -> Iterator[Entry]:
    """The entries between two offsets, ``end`` being what the header says is written.

    Raises:
        CorruptDirectory: an entry does not fit, or its checksum is wrong.
    """
    at = start
    directory = directory[:end]
    while at < end:
        try:
            length, cells, first, crc, family, labels = ENTRY.unpack_from(directory, at)
            body = bytes(directory[at + ENTRY.size : at + length])
            fits = len(body) == length - ENTRY.size and at + length <= end
            if not fits or zlib.crc32(body, zlib.crc32(ENTRY.pack(length, cells, first, 0, family, labels))) != crc:
                raise CorruptIndex(f"bad entry at {at}")
            entry = Entry(family, _labels(body, labels), first, cells)
        except (struct.error, UnicodeDecodeError) as error:
            raise CorruptIndex(f"bad entry at {at}: {error}") from error
        yield entry
        at += length


def written(directory: memoryview, published: float, parsed: int = 0) -> int:
    """The number of bytes that the header says are written, as a number that can be.

    Raises:
        CorruptDirectory: it cannot be: it is not whole, beyond the end, or less than what was there before.
    """
    if not parsed <= published <= len(directory) or published != int(published):
        raise CorruptIndex(f"{published} bytes written, of {len(directory)}, {parsed} before")
    return int(published)


@lru_cache(SHARED_LABELS)
def _labels(body: bytes, count: int) -> Labels:
    values = []
    at = 0
    for _ in range(count):
        (length,) = LABEL.unpack_from(body, at)
        at += LABEL.size
        values.append(body[at : at + length].decode())
        at += length
    return tuple(values)
