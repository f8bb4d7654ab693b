"""The hot path: what runs before and after every request.

Everything that can be decided before the first request is decided in ``request_hooks``: which kind of worker this is,
what names endpoints, where the cells are. What is left per request are plain stores.
"""

from __future__ import annotations

import sys
from bisect import bisect_left
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any, Final

from ..guard import Guard
from ..scoreboard.families import (
    DURATION_BUCKETS,
    FAILED,
    FIRST_BUCKET,
    OTHER,
    REQUEST_SIZE_SUM,
    RESPONSE_SIZE_SUM,
    SIZE_BUCKETS,
    UNKNOWN_SIZE,
    UNMATCHED,
)
from ..scoreboard.layout import INFLIGHT_ENTRY
from ..scoreboard.slot import inflight_offset, inflight_start
from .endpoints import Resolve, normalise
from .errors import CLIENT_GONE, is_goodbye, real_exception, remember_failing, status_of
from .recorder import METHODS, Recorder, method_label

Rows = dict[str, dict[int, int]]
"""Where rows start among the slot's doubles, by endpoint or path, then by kind (see ``kind_of``); of one method."""
Methods = dict[str, tuple[bytes, Rows]]
"""By request method: its text for the in-flight table, its rows."""
PreRequest = Callable[[Any, Any], None]
PostRequest = Callable[[Any, Any, Any, Any], None]
Hooks = tuple[PreRequest, PostRequest]
Load = Callable[[float, Rows, int], None]
"""Makes another request the current one: when it started, the rows of its method, its place in the in-flight table."""

NO_STATUS: Final = 500
"""Where the application never called start_response, and yet nothing was raised; gunicorn 27 then sends no status."""
BELIEVED_DIGITS: Final = 13
"""A Content-Length with more digits than this is anybody's word: nothing of that size was ever sent."""
CACHED_KEYS: Final = 1024
CACHED_KEY: Final = 256
"""Bounds of the rows kept per method: endpoints and paths, and length of one that is kept."""

if sys.version_info >= (3, 11):
    current_exception = sys.exception
else:

    def current_exception() -> BaseException | None:
        """The exception being handled."""
        return sys.exc_info()[1]


def new_methods() -> tuple[Methods, tuple[bytes, Rows]]:
    """The registered methods, and what stands for any other."""
    return {name: (name.encode(), {}) for name in METHODS}, (OTHER.encode(), {})


def request_hooks(
    recorder: Recorder,
    resolve: Resolve | None,
    guard: Guard,
    all_methods: tuple[Methods, tuple[bytes, Rows]],
    number: int,
) -> tuple[PreRequest, PostRequest, Load]:
    """pre_request, post_request, and what makes another request the one that post_request ends.

    One long function, and nothing called that need not be: between two requests the processor has forgotten all
    of this, and each function, cell and line of memory that it must fetch again costs more than what it then does.
    """
    words, memory = recorder.slot.words, recorder.slot.memory
    write_entry = INFLIGHT_ENTRY.pack_into
    methods, other = all_methods
    offset = inflight_offset(number)
    at = inflight_start(number)
    started = 0.0
    rows: Rows = {}

    def pre_request(worker: Any, req: Any) -> None:
        nonlocal rows, started
        started = monotonic()
        try:
            try:
                text, rows = methods[req.method]
            except KeyError:
                text, rows = other
            write_entry(memory, offset, text, req.path.encode(), started)
        except Exception:  # noqa: BLE001 - the request must be served
            guard.failed("pre_request")

    def post_request(worker: Any, req: Any, environ: Any, resp: Any) -> None:
        try:
            took = monotonic() - started
            if resolve is None:
                label, key = None, req.path
            else:
                label = resolve(environ)
                key = label or "\0" + req.path
            exc = current_exception()
            if exc is None or is_goodbye(exc):
                try:
                    status = resp.status_code or NO_STATUS
                except AttributeError:
                    status = NO_STATUS
                if status >= 500:
                    failed(req, resp, label, f"HTTP {status}")
                sent = resp.sent
                if sent:
                    response_size = 0 if sent <= 1024 else bisect_left(SIZE_BUCKETS, sent)
                else:
                    sent, response_size = _unsent_size(req, resp, status)
            else:
                status = excepted(req, label, resp, exc)
                sent = 0 if resp is None else resp.sent
                response_size = bisect_left(SIZE_BUCKETS, sent)
            if "CONTENT_LENGTH" in environ or "HTTP_TRANSFER_ENCODING" in environ:
                received, request_size = _request_size(environ)
            else:
                received = request_size = 0
            kind = status if request_size == response_size == 0 else kind_of(status, request_size, response_size)
            try:
                row = rows[key][kind]
            except KeyError:
                row = look_up(req, resp, label, rows, key, (status, request_size, response_size))
            if received:
                words[row + REQUEST_SIZE_SUM] += received
            if sent:
                words[row + RESPONSE_SIZE_SUM] += sent
            # From here on it is no longer in progress; then it has taken its time; then it is counted.
            words[at] = 0.0
            words[row] += took
            if took <= 0.005:
                words[row + FIRST_BUCKET] += 1.0
            else:
                words[row + FIRST_BUCKET + bisect_left(DURATION_BUCKETS, took)] += 1.0
        except Exception:  # noqa: BLE001 - the next request must be served
            words[at] = 0.0
            guard.failed("post_request")

    def load(its_start: float, its_rows: Rows, its_place: int) -> None:
        nonlocal started, rows, at
        started, rows, at = its_start, its_rows, its_place

    def look_up(req: Any, resp: Any, label: str | None, rows: Rows, key: str, kind: tuple[int, int, int]) -> int:
        endpoint = endpoint_label(req, resp, label)
        row = recorder.row(method_label(req.method), endpoint, *kind)
        # What a scanner sends is not kept: it must not push out what real clients ask for again and again.
        if endpoint not in (UNMATCHED, OTHER) and len(key) <= CACHED_KEY:
            if len(rows) >= CACHED_KEYS and key not in rows:
                rows.clear()
            rows.setdefault(key, {})[kind_of(*kind)] = row
        return row

    def endpoint_label(req: Any, resp: Any, label: str | None) -> str:
        if label:
            return recorder.endpoint(label)
        # The application's word, not the status: who hangs up on a 404 has asked for nothing that there is, either.
        if getattr(resp, "status_code", None) == 404:
            return UNMATCHED
        return recorder.endpoint(normalise(req.path))

    def failed(req: Any, resp: Any, label: str | None, error_type: str) -> tuple[str, str]:
        method, endpoint = method_label(req.method), endpoint_label(req, resp, label)
        recorder.count(FAILED, method, endpoint, recorder.error_type(error_type))
        return method, endpoint

    def excepted(req: Any, label: str | None, resp: Any, raised: BaseException) -> int:
        exc = real_exception(raised)
        status = status_of(exc, resp)
        if status != CLIENT_GONE:
            labels = failed(req, resp, label, type(exc).__name__)
            if not isinstance(raised, (StopIteration, OSError)):
                remember_failing(recorder, req, *labels)
        return status

    return pre_request, post_request, load


def kind_of(status: int, request_size: int, response_size: int) -> int:
    """Status and the two size classes as one number; the status itself where both bodies are small or empty."""
    return status + 1000 * request_size + 10000 * response_size


def _request_size(environ: Mapping[str, Any]) -> tuple[int, int]:
    """Bytes of the request's body and their class; a chunked body has no length that anybody told."""
    length = environ.get("CONTENT_LENGTH", "")
    if not length.isdecimal() or len(length) > BELIEVED_DIGITS:
        return 0, UNKNOWN_SIZE
    received = int(length)
    return received, bisect_left(SIZE_BUCKETS, received)


def _unsent_size(req: Any, resp: Any, status: int) -> tuple[int, int]:
    """Bytes of body, and their class, where gunicorn's ``resp.sent`` has none: it leaves out what ``sendfile`` sent.

    Without a Content-Length nothing tells a file from an empty body.
    """
    if req.method == "HEAD" or status in (204, 304):
        return 0, 0
    if resp.response_length is None:
        return 0, UNKNOWN_SIZE
    sent = int(resp.response_length)
    return sent, bisect_left(SIZE_BUCKETS, sent)
