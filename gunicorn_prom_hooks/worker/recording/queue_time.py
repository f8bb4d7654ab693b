"""How long a request waited for a worker, by the header in which a proxy says when it passed it on."""

from __future__ import annotations

from typing import Final

ONE_UNIT: Final = 1e11
"""More than this is no number of seconds since 1970 but of milliseconds, and a thousand times more of microseconds."""
PLAUSIBLE_SECONDS: Final = 3600.0
"""What lies further from now, before or after, is no time at which this request was passed on."""


def environ_key(header: str) -> str:
    """Where the WSGI environ has this header."""
    return "HTTP_" + header.upper().replace("-", "_")


def waited(stamp: str, now: float) -> float | None:
    """Seconds from the proxy's time to ``now``, in unix seconds; 0.0 if the clocks disagree, None if it is no time.

    The unix time may be in seconds (nginx's ``t=${msec}``), milliseconds (Heroku) or microseconds (Apache's
    ``t=%t``), with or without ``t=``. Where several proxies have added theirs, the first counts.
    """
    try:
        seconds = float(stamp[2:] if stamp[:2] == "t=" else stamp)
    except ValueError:
        first, comma, _ = stamp.partition(",")
        return waited(first.strip(), now) if comma else None
    if seconds > ONE_UNIT:
        seconds /= 1e3 if seconds <= ONE_UNIT * 1e3 else 1e6
    wait = now - seconds
    if 0.0 <= wait <= PLAUSIBLE_SECONDS:
        return wait
    return 0.0 if -PLAUSIBLE_SECONDS <= wait < 0.0 else None
