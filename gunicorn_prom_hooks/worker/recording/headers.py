"""Values of request and response headers: sizes of bodies, and the time at which a proxy passed the request on."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from typing import Any, Final

from ..._gunicorn import body_size
from ...shm.schema import SIZE_BUCKETS, UNKNOWN_SIZE

MAX_LENGTH_DIGITS: Final = 13
"""A Content-Length with more digits is not believed: no body of that size was ever sent."""
MAX_SECONDS: Final = 1e11
"""A larger number is a unix time in milliseconds; above a thousand times as much, in microseconds."""
PLAUSIBLE_SECONDS: Final = 3600.0
"""A time that is further from now, before or after, is not the time at which the request was passed on."""


def size_received(environ: Mapping[str, Any]) -> tuple[int, int]:
    """Return the bytes of the request's body and its size class; the length of a chunked body is unknown."""
    if "CONTENT_LENGTH" in environ or "HTTP_TRANSFER_ENCODING" in environ:
        return size_of_length(environ.get("CONTENT_LENGTH", ""))
    return 0, 0


def size_of_length(length: object) -> tuple[int, int]:
    """Return the bytes and the size class of a body with this Content-Length; an application may have replaced it."""
    if not isinstance(length, str) or not length.isdecimal() or len(length) > MAX_LENGTH_DIGITS:
        return 0, UNKNOWN_SIZE
    received = int(length)
    return received, bisect_left(SIZE_BUCKETS, received)


def size_unsent(req: Any, resp: Any, status: int) -> tuple[int, int]:
    """Return the bytes of the response's body and its size class where gunicorn's ``resp.sent`` is 0.

    gunicorn leaves out of ``sent`` what ``sendfile`` sent. Without a Content-Length, nothing distinguishes a file from
    an empty body.
    """
    if req.method == "HEAD" or status in (204, 304):
        return 0, 0
    if resp.response_length is None:
        return 0, UNKNOWN_SIZE
    sent = int(resp.response_length)
    return sent, bisect_left(SIZE_BUCKETS, sent)


def with_stream_length(req: Any, environ: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the environ with the length of an HTTP/2 request's body, which may come without a Content-Length."""
    stream = getattr(req, "stream", None)
    if stream is None or "CONTENT_LENGTH" in environ:
        return environ
    size = body_size(stream)
    return {**environ, "CONTENT_LENGTH": str(size)} if size else environ


def environ_key(header: str) -> str:
    """Return the key of this header in a WSGI environ."""
    return "HTTP_" + header.upper().replace("-", "_")


def queue_seconds(stamp: str, now: float) -> float | None:
    """Return the seconds from the time in the header to ``now``, in unix seconds.

    0.0 if the clocks disagree, None if the value is no time. The unix time may be in seconds (nginx's ``t=${msec}``),
    milliseconds (Heroku) or microseconds (Apache's ``t=%t``), with or without ``t=``. Where several proxies have added
    the header, the first counts.
    """
    try:
        seconds = float(stamp[2:] if stamp[:2] == "t=" else stamp)
    except ValueError:
        first, comma, _ = stamp.partition(",")
        return queue_seconds(first.strip(), now) if comma else None
    if seconds > MAX_SECONDS:
        seconds /= 1e3 if seconds <= MAX_SECONDS * 1e3 else 1e6
    wait = now - seconds
    if 0.0 <= wait <= PLAUSIBLE_SECONDS:
        return wait
    return 0.0 if -PLAUSIBLE_SECONDS <= wait < 0.0 else None
