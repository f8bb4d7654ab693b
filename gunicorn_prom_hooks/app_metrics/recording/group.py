"""The values of one metric with one set of label values."""

from __future__ import annotations

from typing import Any
from weakref import ref


class Group:
    """The values of one metric with one set of label values. All of them are in the file, or none.

    Attributes:
        kind: the beginning of the file's name.
        attached: the generation of processes in which they were put into the file, or could not be.
        failed: in that generation they are kept in memory only.
    """

    __slots__ = ("__weakref__", "attached", "failed", "kind", "values")

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.values: list[ref[Any]] = []
        self.attached = -1
        self.failed = False
