"""The keys of a file, in their order, and so where its values are."""

from __future__ import annotations

import json
import math
import struct
from typing import NamedTuple
from weakref import WeakValueDictionary

from prometheus_client.metrics_core import Metric

from .file_names import clean

Labels = tuple[tuple[str, str], ...]


class BadFile(Exception):
    """The file is not what prometheus_client writes, or cannot be read; the message says why."""


class Key:
    """A parsed key. There is one object per key, so that it can be looked up by identity.

    Args:
        blob: the key as it is in the file: its length, the JSON, and the padding.
        length: the length of the JSON.

    Attributes:
        unusable: why its value cannot be on a page; empty if it can.

    Raises:
        BadFile: it is no key of prometheus_client's.
    """

    __slots__ = ("__weakref__", "blob", "bound", "documentation", "family", "is_bucket", "labels", "name", "unusable")

    def __init__(self, blob: bytes, length: int) -> None:
        try:
            parts = json.loads(blob[4 : 4 + length].decode())
        except (ValueError, RecursionError) as error:  # the latter of thousands of brackets
            raise BadFile(f"a key that is no JSON: {type(error).__name__}") from error
        if not _is_key(parts):
            raise BadFile("a key that is not [family, sample, labels, help]")
        self.blob = blob
        self.family = clean(parts[0])
        self.name = clean(parts[1])
        self.labels: Labels = tuple(sorted((clean(name), clean(value)) for name, value in parts[2].items()))
        self.documentation = clean(parts[3]) if isinstance(parts[3], str) else ""
        self.is_bucket = "le" in parts[2]
        self.bound = _bound(parts[2]["le"]) if self.is_bucket else None
        """The ``le`` as a number; None if there is none or it is no number."""
        self.unusable = ""
        try:
            Metric(self.family, self.documentation, "unknown")
        except ValueError:  # the process that writes the file takes more names than this one
            self.unusable = "no metric can have this name"


def _is_key(parts: object) -> bool:
    if not isinstance(parts, list) or len(parts) != 4:
        return False
    family, name, labels, documentation = parts
    return (
        isinstance(family, str)
        and isinstance(name, str)
        and not isinstance(documentation, (list, dict))  # a help text need not be a string
        and bool(name)
        and isinstance(labels, dict)
        and all(isinstance(value, str) for value in labels.values())
    )


def _bound(le: str) -> float | None:
    try:
        bound = float(le)
    except ValueError:
        return None
    return None if math.isnan(bound) else bound


HEADER_BYTES = 8
FIRST_BYTES = 1 << 16
"""The size of a new file; it doubles when it is full."""
_LENGTH = struct.Struct("=I")
_NUMBERS_BYTES = 16
"""A value and its timestamp, behind each key."""


class Values(NamedTuple):
    """The numbers of a file, in the order of its keys; timestamps are a gauge's only."""

    values: tuple[float, ...]
    timestamps: tuple[float, ...]


class OtherKeys(Exception):
    """The file does not begin with the keys of this layout."""


class Layout:
    """The keys of a file. Files with the same keys in the same order share one object.

    Args:
        timed: whether timestamps are wanted.
    """

    def __init__(self, keys: tuple[Key, ...], timed: bool) -> None:
        self.keys = keys
        self.timed = timed
        self.families: dict[str, str] = {}
        """Name and documentation of each family, as its first key has it."""
        self.left_out: dict[str, str] = {}
        """Names of families whose keys cannot be used, and why."""
        for key in keys:
            if key.unusable:
                self.left_out.setdefault(key.family, key.unusable)
            else:
                self.families.setdefault(key.family, key.documentation)
        self._blobs = tuple(key.blob for key in keys)
        self.used = HEADER_BYTES + sum(map(len, self._blobs)) + _NUMBERS_BYTES * len(keys)
        numbers = "dd" if timed else "d8x"
        self._struct = struct.Struct(f"={HEADER_BYTES}x" + "".join(f"{len(blob)}s{numbers}" for blob in self._blobs))

    def read(self, data: bytes, used: int) -> Values:
        """Return the numbers in a file, whose keys are compared each time.

        Nothing else tells for sure that it still is the same file: one that takes another's place often gets its inode
        number too.

        Raises:
            OtherKeys: it is another one.
        """
        if used < self.used:
            raise OtherKeys
        found = self._struct.unpack_from(data)
        step = 3 if self.timed else 2
        if found[::step] != self._blobs:
            raise OtherKeys
        return Values(found[1::step], found[2::step] if self.timed else ())


class Layouts:
    """All layouts there are. Keys and layouts are forgotten with the last file that has them."""

    def __init__(self) -> None:
        self._keys: WeakValueDictionary[bytes, Key] = WeakValueDictionary()
        self._layouts: WeakValueDictionary[tuple[bool, tuple[Key, ...]], Layout] = WeakValueDictionary()

    def empty(self, *, timed: bool) -> Layout:
        """Return the layout of a file without entries."""
        return self.of((), timed=timed)

    def extended(self, layout: Layout, data: bytes, used: int) -> Layout:
        """Return the layout of a file that begins with ``layout`` and continues up to ``used``.

        Raises:
            BadFile: what follows are no entries.
        """
        keys = list(layout.keys)
        at = layout.used
        while at < used:
            if at + _LENGTH.size > used:
                raise BadFile(f"half an entry at {at}")
            (length,) = _LENGTH.unpack_from(data, at)
            end = at + (_LENGTH.size + length) // 8 * 8 + 8  # there is at least one byte of padding
            if end + _NUMBERS_BYTES > used:
                raise BadFile(f"an entry at {at} that ends beyond what is used")
            blob = data[at:end]
            key = self._keys.get(blob)
            if key is None:
                key = self._keys[blob] = Key(blob, length)
            keys.append(key)
            at = end + _NUMBERS_BYTES
        return self.of(tuple(keys), timed=layout.timed)

    def of(self, keys: tuple[Key, ...], *, timed: bool) -> Layout:
        """Return the layout of a file with these keys in this order."""
        layout = self._layouts.get((timed, keys))
        if layout is None:
            layout = self._layouts[timed, keys] = Layout(keys, timed)
        return layout
