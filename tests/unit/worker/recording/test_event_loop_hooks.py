"""Workers with an event loop, which have many requests in progress on one thread."""

from __future__ import annotations

import subprocess
import sys
from types import FrameType
from typing import Any

import pytest

from gunicorn_prom_hooks.shm.layout import INFLIGHT_ENTRIES
from gunicorn_prom_hooks.worker.recording.event_loop_hooks import many_at_a_time
from tests.helpers.places import TOP
from tests.helpers.recording import Recorded, handled

RAW = b"%s /items/%d HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc"


@pytest.mark.parametrize("excess", [0, 72])
def test_requests_beyond_the_in_flight_table_are_in_progress_until_they_end(excess: int) -> None:
    """Requests past the table's end are counted while they last, and not one remains when all have ended."""
    recorded = Recorded()
    pre_request, post_request = many_at_a_time(recorded.recorder, None, recorded.errors)
    count = INFLIGHT_ENTRIES + excess
    served = [handled(RAW % (b"POST", number)) for number in range(count)]
    for generation in (1, 2):
        for number, (request, _, _) in enumerate(served, 1):
            pre_request(None, request)
            assert recorded.in_progress() == number
        assert recorded.reader.untracked().number == excess
        paths = {request.path for request in recorded.reader.in_flight()}
        assert paths == {f"/items/{number}" for number in range(INFLIGHT_ENTRIES)} or generation == 2
        for number, (request, environ, response) in enumerate(served, 1):
            post_request(None, request, environ, response)
            assert recorded.in_progress() == count - number
        assert recorded.reader.untracked() == (0, 0.0)
        assert recorded.reader.in_flight() == []
    assert sum(recorded.requests().values()) == 2.0 * count


def test_overlapping_requests_keep_their_own_entries_and_labels() -> None:
    """What ends first need not have begun first: each request takes its own entry and labels with it."""
    recorded = Recorded()
    pre_request, post_request = many_at_a_time(recorded.recorder, None, recorded.errors)
    slow, quick = handled(b"GET /slow HTTP/1.1\r\n\r\n"), handled(b"PUT /quick HTTP/1.1\r\n\r\n")
    pre_request(None, slow[0])
    pre_request(None, quick[0])
    post_request(None, *quick)
    assert [(request.method, request.path) for request in recorded.reader.in_flight()] == [("GET", "/slow")]
    assert recorded.requests() == {("PUT", "/quick", "200"): 1.0}
    post_request(None, *slow)
    assert recorded.requests() == {("PUT", "/quick", "200"): 1.0, ("GET", "/slow", "200"): 1.0}
    assert recorded.reader.in_flight() == []


def test_freed_entry_is_used_by_the_next_request() -> None:
    """An entry that was freed serves the next request: one at a time never needs a second one."""
    recorded = Recorded()
    pre_request, post_request = many_at_a_time(recorded.recorder, None, recorded.errors)
    request, environ, response = handled()
    for _ in range(3 * INFLIGHT_ENTRIES):
        pre_request(None, request)
        assert recorded.reader.untracked() == (0, 0.0)
        post_request(None, request, environ, response)
    assert sum(recorded.requests().values()) == 3.0 * INFLIGHT_ENTRIES


GREENLETS = """
from gevent import monkey
monkey.patch_all()
import gevent
from tests.helpers.recording import Recorded, handled
from gunicorn_prom_hooks.worker.recording.event_loop_hooks import many_at_a_time

recorded = Recorded()
turn = gevent.event.Event()

def resolve(environ):
    turn.set() if environ["PATH_INFO"] == "/last" else turn.wait()
    return "mine"

pre_request, post_request = many_at_a_time(recorded.recorder, resolve, recorded.errors)

def serve(method, path):
    request, environ, response = handled(b"%s %s HTTP/1.1\\r\\n\\r\\n" % (method, path))
    pre_request(None, request)
    post_request(None, request, environ, response)

pairs = (b"GET", b"/first"), (b"POST", b"/second"), (b"PUT", b"/last")
gevent.joinall([gevent.spawn(serve, *pair) for pair in pairs], raise_error=True)
print(sorted(recorded.requests().items()), recorded.in_progress(), dict(recorded.errors.counts))
"""


def test_endpoint_callable_that_waits_does_not_block_other_greenlets() -> None:
    """Under gevent, a user's callable that lets other requests end first hangs nothing and mixes nothing up."""
    script = f"import sys; sys.path.insert(0, {str(TOP)!r})\n{GREENLETS}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    counts = [((method, "mine", "200"), 1.0) for method in ("GET", "POST", "PUT")]
    assert done.stdout == f"{counts} 0 {{}}\n"


FAREWELL = """
def handle_request(post_request):
    try:
        raise StopIteration()
    finally:
        post_request()
"""


def test_last_request_of_a_gevent_connection_takes_the_fast_path() -> None:
    """gunicorn's gevent worker ends a connection with an exception: each time behind a proxy that keeps none open."""
    recorded = Recorded()
    pre_request, post_request = many_at_a_time(recorded.recorder, None, recorded.errors)
    request, environ, response = handled()
    gunicorns: dict[str, Any] = {"__name__": "gunicorn.workers.base_async"}
    exec(FAREWELL, gunicorns)  # looks like a frame of gunicorn's
    called: list[str] = []

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call":
            called.append(frame.f_code.co_name)

    for _ in range(3):
        pre_request(None, request)
        called.clear()
        before = sys.getprofile()
        sys.setprofile(note)
        try:
            with pytest.raises(StopIteration):
                gunicorns["handle_request"](lambda: post_request(None, request, environ, response))
        finally:
            sys.setprofile(before)
    assert "slow_path" not in called
    assert recorded.requests() == {("GET", "/items/:id", "200"): 3.0}
