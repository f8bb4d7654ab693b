"""Reading of status.json, whatever is in it: a field that is missing or of another type is None or empty."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ...paths import escape_unprintable
from ...status.formatting import moment

Fields = Mapping[str, Any]
MAX_NUMBER: Final = 1e15
"""Larger numbers are not shown."""
MAX_MOMENT: Final = 250e9
"""Unix time up to which there is a date."""


def parse(text: str) -> Fields:
    """Return the data of a status.json.

    Raises:
        ValueError: it is not such a file.
    """
    try:
        found = json.loads(text)
    except RecursionError as error:
        raise ValueError("too deep") from error
    if not isinstance(found, dict) or "server" not in found:
        raise ValueError("it is not a status page")
    return found


def section(fields: Fields, name: str) -> Fields | None:
    """Return a part; None if it is unknown."""
    value = fields.get(name)
    return value if isinstance(value, dict) else None


def items(fields: Fields | None, name: str) -> Sequence[Fields]:
    """Return a list of parts; empty if it is unknown."""
    value = (fields or {}).get(name)
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def number(fields: Fields | None, name: str) -> float | None:
    """Return a number; None if it is unknown."""
    value = (fields or {}).get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= MAX_NUMBER:
        return None
    return float(value)


def whole(fields: Fields | None, name: str) -> int | None:
    """Return a whole number; None if it is unknown."""
    value = number(fields, name)
    return None if value is None else int(value)


def text(fields: Fields | None, name: str, otherwise: str = "?") -> str:
    """Return a text of one line, with unprintable characters escaped."""
    value = (fields or {}).get(name)
    return escape_unprintable(value) if isinstance(value, str) and value else otherwise


def time_of(seconds: float | None) -> str:
    """Return a unix time in UTC."""
    return "?" if seconds is None or not 0.0 <= seconds < MAX_MOMENT else moment(seconds)
