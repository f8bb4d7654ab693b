"""The key of an entry: which sample the value belongs to."""

from __future__ import annotations

import json
import math

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

    Raises:
        BadFile: it is no key of prometheus_client's.
    """

    __slots__ = ("__weakref__", "blob", "bound", "documentation", "family", "is_bucket", "labels", "name")

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
        self.documentation = clean(parts[3])
        self.is_bucket = "le" in parts[2]
        self.bound = _bound(parts[2]["le"]) if self.is_bucket else None
        """The ``le`` as a number; None if there is none or it is no number."""
        try:
            Metric(self.family, self.documentation, "unknown")
        except ValueError as error:
            raise BadFile("a key with a name that no metric can have") from error


def _is_key(parts: object) -> bool:
    if not isinstance(parts, list) or len(parts) != 4:
        return False
    family, name, labels, documentation = parts
    texts = (family, name, documentation)
    return (
        all(isinstance(text, str) for text in texts)
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
