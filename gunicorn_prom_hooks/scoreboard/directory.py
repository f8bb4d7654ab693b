"""The directory of a slot: which label values the cells belong to, written by one, read by another process."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import NamedTuple

from .layout import ENTRY, LABEL, MAX_LABEL_BYTES


class Entry(NamedTuple):
    """A series or a group of them: ``cells`` cells from ``first`` on, in the slot's cells."""

    family: int
    labels: tuple[str, ...]
    first: int
    cells: int


class CorruptDirectory(Exception):
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
    length = ENTRY.size + len(body)
    return ENTRY.pack(length, entry.cells, entry.first, zlib.crc32(body), entry.family, len(entry.labels)) + body


def decode(directory: memoryview, start: int, end: int) -> Iterator[Entry]:
    """The entries between two offsets, ``end`` being what the header says is written.

    Raises:
        CorruptDirectory: an entry does not fit, or its checksum is wrong.
    """
    at = start
    while at < end:
        if end - at < ENTRY.size:
            raise CorruptDirectory(f"{end - at} bytes left at {at}, too few for an entry")
        length, count, first, crc, family, labels = ENTRY.unpack_from(directory, at)
        body = bytes(directory[at + ENTRY.size : at + length])
        if length < ENTRY.size or at + length > end or zlib.crc32(body) != crc:
            raise CorruptDirectory(f"bad entry at {at}")
        yield Entry(family, _labels(body, labels), first, count)
        at += length


def _labels(body: bytes, count: int) -> tuple[str, ...]:
    values = []
    at = 0
    for _ in range(count):
        (length,) = LABEL.unpack_from(body, at)
        at += LABEL.size
        values.append(body[at : at + length].decode())
        at += length
    return tuple(values)
