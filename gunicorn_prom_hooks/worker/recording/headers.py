"""Sizes of bodies, where the obvious number is not the right one."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from typing import Any, Final

from ...shm.schema import SIZE_BUCKETS, UNKNOWN_SIZE

BELIEVED_DIGITS: Final = 13
"""A Content-Length with more digits than this is anybody's word: nothing of that size was ever sent."""


def size_received(environ: Mapping[str, Any]) -> tuple[int, int]:
    """Bytes of the request's body and their class; a chunked body has no length that anybody told."""
    return size_told(environ.get("CONTENT_LENGTH", ""))


def size_told(length: str) -> tuple[int, int]:
    """Bytes and their class of a body whose Content-Length is this."""
    if not length.isdecimal() or len(length) > BELIEVED_DIGITS:
        return 0, UNKNOWN_SIZE
    received = int(length)
    return received, bisect_left(SIZE_BUCKETS, received)


def size_unsent(req: Any, resp: Any, status: int) -> tuple[int, int]:
    """Bytes of body, and their class, where gunicorn's ``resp.sent`` has none: it leaves out what ``sendfile`` sent.

    Without a Content-Length nothing tells a file from an empty body.
    """
    if req.method == "HEAD" or status in (204, 304):
        return 0, 0
    if resp.response_length is None:
        return 0, UNKNOWN_SIZE
    sent = int(resp.response_length)
    return sent, bisect_left(SIZE_BUCKETS, sent)


def length_told(req: Any, environ: Mapping[str, Any]) -> Mapping[str, Any]:
    """The environ with the length of a body that came over HTTP/2, where it needs no Content-Length to come with."""
    size = getattr(getattr(req, "stream", None), "body_size", 0)
    return {**environ, "CONTENT_LENGTH": str(size)} if size and "CONTENT_LENGTH" not in environ else environ
