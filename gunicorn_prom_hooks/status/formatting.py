"""Numbers as people read them."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Final

UNKNOWN: Final = "n/a"
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def count(number: int | None) -> str:
    """A whole number, with its thousands apart."""
    return UNKNOWN if number is None else f"{number:,}"


def rate(per_second: float) -> str:
    """So many a second: three digits that matter, as far as they do."""
    if per_second >= 100.0 or per_second == 0.0:
        return f"{per_second:,.0f}"
    return f"{per_second:.1f}" if per_second >= 10.0 else f"{per_second:.2f}"


def percent(value: float | None) -> str:
    """Percent, with one decimal."""
    return UNKNOWN if value is None else f"{value:.1f} %"


def memory(size_bytes: int | None) -> str:
    """A size, in MiB or GiB."""
    if size_bytes is None:
        return UNKNOWN
    mebibytes = size_bytes / 2**20
    return f"{mebibytes:.1f} MiB" if mebibytes < 1024.0 else f"{mebibytes / 1024.0:.2f} GiB"


def duration(seconds: float | None) -> str:
    """A time span, as far as its digits matter."""
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


def latency(seconds: float) -> str:
    """A time span of which tenths of a millisecond matter."""
    return f"{seconds * 1000.0:.1f} ms" if seconds < 0.09995 else duration(seconds)


def moment(unix: float) -> str:
    """A unix time, in UTC, to the second."""
    return datetime.fromtimestamp(unix, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")


def machine_moment(unix: float) -> str:
    """The same for a machine: the attribute ``datetime`` of a ``time`` element."""
    return datetime.fromtimestamp(unix, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def of(value: int, most: int | None, between: str) -> str:
    """So many of so many, or just so many where nothing limits them."""
    return f"{value:,}" if most is None else f"{value:,}{between}{most:,}"
