"""How long a request waited for a worker, by the header in which a proxy says when it passed it on."""

from __future__ import annotations

from typing import Final

LONGEST_TEXT: Final = 32
ONE_UNIT: Final = 1e11
"""More than this is no number of seconds since 1970 but of a thousandth of them, or of a thousandth of those."""
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
    text = stamp.partition(",")[0].strip().removeprefix("t=")
    if len(text) > LONGEST_TEXT or "_" in text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        return None
    if not 0.0 < seconds < ONE_UNIT**2:  # infinity and no number at all included
        return None
    while seconds > ONE_UNIT:
        seconds /= 1000.0
    wait = now - seconds
    return max(0.0, wait) if abs(wait) <= PLAUSIBLE_SECONDS else None
