"""Files in prometheus_client's format, replaced in one step: a reader sees the old file or the new one."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

from ..recording.blocks import reserve
from .families import MERGES
from .file_names import parse_name
from .layouts import FIRST_BYTES, HEADER_BYTES, BadFile, Layouts
from .values_file import ValuesFile

_HEADER: Final = struct.Struct("=I4x")
_LENGTH: Final = struct.Struct("=I")
_NUMBERS: Final = struct.Struct("=dd")
_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW


class Entry(NamedTuple):
    """A key as JSON, its value, and the time at which that was set."""

    key: bytes
    value: float
    timestamp: float


class User(NamedTuple):
    """User and group that own files."""

    uid: int
    gid: int


def content(entries: Iterable[Entry]) -> bytes:
    """Return the content of a file with these entries, in a size that prometheus_client uses."""
    body = b"".join(
        _LENGTH.pack(len(key)) + key + b" " * (8 - (len(key) + 4) % 8) + _NUMBERS.pack(value, timestamp)
        for key, value, timestamp in entries
    )
    used = HEADER_BYTES + len(body)
    size = FIRST_BYTES
    while size < used:
        size *= 2
    return (_HEADER.pack(used) + body).ljust(size, b"\0")


def key_of(blob: bytes) -> bytes:
    """Return the JSON of a key from the bytes that it has in a file."""
    (length,) = _LENGTH.unpack_from(blob)
    return blob[_LENGTH.size : _LENGTH.size + length]


def replace(path: Path, data: bytes, user: User | None = None) -> None:
    """Write a file with this content in one step, in place of an existing one.

    Each of its bytes has a block on the disk, so that it can be mapped.

    Args:
        path: of the file.
        data: the content.
        user: its owner; None for the user of this process.

    Raises:
        OSError: it cannot be written; nothing has changed then.
    """
    new = path.with_name(path.name + ".new")
    with contextlib.ExitStack() as undo:
        with os.fdopen(os.open(new, _FLAGS, 0o666), "w+b") as file:
            undo.callback(new.unlink, missing_ok=True)
            if user is not None and user != (os.geteuid(), os.getegid()):
                os.fchown(file.fileno(), *user)
            reserve(file.fileno(), 0, len(data))
            file.write(data)
        new.replace(path)
        undo.pop_all()


def add(path: Path, data: bytes, user: User) -> bool:
    """Write a file with this content, unless there is one. Return whether there was none.

    Raises:
        OSError: it cannot be written.
    """
    new = path.with_name(path.name + ".seed")
    try:
        replace(new, data, user)
        os.link(new, path)
    except FileExistsError:
        return False
    finally:
        new.unlink(missing_ok=True)
    return True


def empty(path: Path) -> None:
    """Mark the content of a file as unused, in one store. A reader sees all of it or nothing.

    Raises:
        OSError: it cannot be written.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        os.pwrite(descriptor, _LENGTH.pack(HEADER_BYTES), 0)
    finally:
        os.close(descriptor)


def read(file: Path) -> list[Entry]:
    """Return the entries of the file; none if it is missing or damaged."""
    name = parse_name(file.name)
    if name is None or not file.exists():
        return []
    try:
        layout, values = ValuesFile(str(file), name, Layouts()).read()
    except BadFile:
        return []
    return [
        Entry(key_of(key.blob), value, timestamp)
        for key, value, timestamp in zip(
            layout.keys, values.values, values.timestamps or (0.0,) * len(values.values), strict=True
        )
    ]


def merged(mode: str, entries: Iterable[Entry]) -> Iterable[Entry]:
    """Return one entry per key: the sum, or by a gauge's mode the least, greatest or latest value."""
    kept: dict[bytes, Entry] = {}
    for entry in entries:
        before = kept.get(entry.key)
        if before is None or (mode == "mostrecent" and before.timestamp < entry.timestamp):
            kept[entry.key] = entry
        elif mode != "mostrecent":
            kept[entry.key] = entry._replace(value=MERGES[mode or "sum"](before.value, entry.value))
    return kept.values()
