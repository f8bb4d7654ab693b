"""Numbers and times as text for people."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Final

UNKNOWN: Final = "n/a"
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def count(number: int | None) -> str:
    """Return a whole number with separators of thousands."""
    return UNKNOWN if number is None else f"{number:,}"


def rate(per_second: float) -> str:
    """Return a rate with three significant digits."""
    if per_second >= 100.0 or per_second == 0.0:
        return f"{per_second:,.0f}"
    return f"{per_second:.1f}" if per_second >= 10.0 else f"{per_second:.2f}"


def percent(value: float | None) -> str:
    """Return a percentage with one decimal."""
    return UNKNOWN if value is None else f"{value:.1f} %"


def memory(size_bytes: int | None) -> str:
    """Return a size in MiB or GiB."""
    if size_bytes is None:
        return UNKNOWN
    mebibytes = size_bytes / 2**20
    return f"{mebibytes:.1f} MiB" if mebibytes < 1024.0 else f"{mebibytes / 1024.0:.2f} GiB"


def duration(seconds: float | None) -> str:
    """Return a time span, rounded to at most two units."""
    if seconds is None:
        return UNKNOWN
    if seconds < 0.9995:
        return f"{seconds * 1000.0:.0f} ms"
    if seconds < _MINUTE - 0.5:
        return f"{seconds:.{1 if seconds < 9.95 else 0}f} s"
    whole = round(seconds)
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE} s"
    if whole < _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE} min"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR} h"


def latency(seconds: float | None, lowest: float, highest: float) -> str:
    """Return a percentile, with tenths of a millisecond if it is short.

    Args:
        seconds: None without an observation.
        lowest: bound of the lowest bucket. No more is known of a value up to it.
        highest: bound of the highest bucket below +Inf. No more is known of a value from it on.
    """
    if seconds is None:
        return UNKNOWN
    if seconds <= lowest:
        return f"< {bound(lowest)}"
    if seconds >= highest:
        return f"> {bound(highest)}"
    return f"{seconds * 1000.0:.1f} ms" if seconds < 0.09995 else duration(seconds)


def bound(seconds: float) -> str:
    """Return a limit, exactly."""
    return f"{seconds * 1000.0:.12g} ms" if seconds < 1.0 else f"{seconds:.12g} s"


def moment(unix: float) -> str:
    """Return a unix time in UTC, to the second."""
    return datetime.fromtimestamp(unix, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")


def machine_moment(unix: float) -> str:
    """Return a unix time as the attribute ``datetime`` of a ``time`` element has it."""
    return datetime.fromtimestamp(unix, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def out_of(value: int, limit: int | None, between: str) -> str:
    """Return a value and its limit, or the value alone if nothing limits it."""
    return f"{value:,}" if limit is None else f"{value:,}{between}{limit:,}"
