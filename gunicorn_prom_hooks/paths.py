"""Paths of requests: normalized to the name of an endpoint that has no route, and escaped for display."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Sequence
from typing import Final
from urllib.parse import unquote

PathPattern = str | re.Pattern[str]
"""A path in which ``*`` stands for any characters, or a regular expression for whole paths."""
MAX_PATH: Final = 200
"""Number of characters of a path that are displayed."""
MAX_SEGMENTS: Final = 16
MAX_LENGTH: Final = 200
"""In characters. The part of a path beyond these bounds becomes one last segment."""
REST: Final = ":rest"
MAX_DECIDED: Final = 4096
"""Number of paths for which a filter remembers whether they match."""
MAX_DECIDED_LENGTH: Final = 256
"""In characters, of such a path."""

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


def path_filter(patterns: Sequence[PathPattern]) -> Callable[[str], bool] | None:
    """Return a function that tells whether a path matches one of the patterns; None if there are no patterns.

    In a text, ``*`` stands for any characters. A regular expression matches whole paths. A path matches as it was sent,
    or with its percent-encoding decoded: servers hand on one or the other. The function remembers the results for
    ``MAX_DECIDED`` paths.
    """
    if not patterns:
        return None
    pieces = [pattern.split("*") for pattern in patterns if isinstance(pattern, str)]
    expressions = [pattern for pattern in patterns if not isinstance(pattern, str)]
    decided: dict[str, bool] = {}

    def is_match(path: str) -> bool:
        found = decided.get(path)
        if found is None:
            forms = _forms(path)
            found = any(_matches(form, *pattern) for form in forms for pattern in pieces) or any(
                expression.fullmatch(form) for form in forms for expression in expressions
            )
            if len(path) <= MAX_DECIDED_LENGTH:
                if len(decided) >= MAX_DECIDED:
                    decided.clear()
                decided[path] = found
        return found

    return is_match


def _forms(path: str) -> set[str]:
    """Return the path, also without scheme and host, without percent-encoding, and as UTF-8 in place of latin-1."""
    forms = {path}
    if not path.startswith("/") and "://" in path:
        forms.add("/" + path.partition("://")[2].partition("/")[2].partition("?")[0])
    forms |= {unquote(form) for form in forms if "%" in form}
    for form in tuple(forms):
        with contextlib.suppress(UnicodeError):
            forms.add(form.encode("latin-1").decode())  # PATH_INFO holds bytes as latin-1
    return forms


def _matches(path: str, first: str, *others: str) -> bool:
    """Return whether a path consists of these pieces, with any characters between them.

    Not by a regular expression: with several stars, a client could choose a path that takes it minutes.
    """
    if not others:
        return path == first
    *middle, last = others
    if not path.startswith(first) or len(path) < len(first) + len(last) or not path.endswith(last):
        return False
    at, end = len(first), len(path) - len(last)
    for piece in middle:
        at = path.find(piece, at, end)
        if at < 0:
            return False
        at += len(piece)
    return True


def escape_unprintable(text: str, limit: int = MAX_PATH) -> str:
    """Return the text with unprintable characters escaped, cut to ``limit`` characters."""
    shown = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text[:limit])
    return shown[:limit]
