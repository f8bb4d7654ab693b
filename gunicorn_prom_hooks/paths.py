"""Paths of requests: normalized to the name of an endpoint that has no route, and escaped for display."""

from __future__ import annotations

import re
from typing import Final

MAX_PATH: Final = 200
"""Number of characters of a path that are displayed."""
MAX_SEGMENTS: Final = 16
MAX_LENGTH: Final = 200
"""In characters. The part of a path beyond these bounds becomes one last segment."""
REST: Final = ":rest"

_VARIABLE = re.compile(
    r"""(?<![0-9A-Za-z])(?:
        [0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}  # UUID
        | (?=[A-Fa-f]*[0-9])[0-9A-Fa-f]{8,}                                          # long hex
        | [A-Fa-f]{16,}                                                              # too long for a word
        | \d+
    )(?![0-9A-Za-z])""",
    re.VERBOSE,
)


def normalize_path(path: str) -> str:
    """Return the path with every number, UUID and long hex string replaced: ``/items/7`` gives ``/items/:id``.

    A number inside a word stays: ``/v1/items``. A path that has too many segments, or that
    is too long, keeps the first ones; the others become one: ``/a/b/:rest``.
    """
    general = _VARIABLE.sub(":id", path)
    if len(general) <= MAX_LENGTH and general.count("/") <= MAX_SEGMENTS:
        return general
    kept = general.split("/", MAX_SEGMENTS)[:MAX_SEGMENTS]
    room = MAX_LENGTH - len(REST) - sum(len(segment) + 1 for segment in kept)
    while room < 0 and kept:
        room += len(kept.pop()) + 1
    return "/".join([*kept, REST])


def escape_unprintable(text: str, limit: int = MAX_PATH) -> str:
    """Return the text with unprintable characters escaped, cut to ``limit`` characters."""
    shown = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text[:limit])
    return shown[:limit]
