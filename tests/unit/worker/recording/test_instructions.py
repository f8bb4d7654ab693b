"""Bytecode instructions and calls per request on the hot path: a bound that no load on the machine changes.

Counted by tracing each opcode of this package's own frames, for a request of a kind that was recorded before.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NamedTuple

import pytest

import gunicorn_prom_hooks
from gunicorn_prom_hooks.worker.asgi import middleware
from gunicorn_prom_hooks.worker.recording.event_loop_hooks import many_at_a_time
from gunicorn_prom_hooks.worker.recording.sync_hooks import one_at_a_time
from gunicorn_prom_hooks.worker.recording.threaded_hooks import one_per_thread
from gunicorn_prom_hooks.worker.wsgi import application
from tests.helpers import asgi
from tests.helpers.recording import MakeHooks, Recorded, handled

PACKAGE = str(Path(gunicorn_prom_hooks.__file__).parent)


class Cost(NamedTuple):
    """What a request takes in this package: bytecode instructions, and calls of its functions."""

    instructions: int
    calls: int


def cost_by_tracing(request: Callable[[], object]) -> Cost:
    """Return what the package executes during this call, with ``sys.settrace``."""
    instructions = calls = 0

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal instructions, calls
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        if event == "call":
            calls += 1
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
        elif event == "opcode":
            instructions += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        request()
    finally:
        sys.settrace(before)
    return Cost(instructions, calls)


def cost_by_monitoring(request: Callable[[], object]) -> Cost:
    """Return the same with ``sys.monitoring``, for Python 3.12 and newer, where tracing misses instructions."""
    monitoring: Any = sys.monitoring  # type: ignore[attr-defined,unused-ignore]
    found = {monitoring.events.INSTRUCTION: 0, monitoring.events.PY_START: 0}

    def count(event: int) -> Callable[[CodeType, int], None]:
        def called(code: CodeType, offset: int) -> None:
            found[event] += code.co_filename.startswith(PACKAGE)

        return called

    tool = monitoring.PROFILER_ID
    monitoring.use_tool_id(tool, "instructions")
    try:
        for event in found:
            monitoring.register_callback(tool, event, count(event))
        monitoring.set_events(tool, sum(found))
        request()
    finally:
        monitoring.set_events(tool, 0)
        monitoring.free_tool_id(tool)
    return Cost(found[monitoring.events.INSTRUCTION], found[monitoring.events.PY_START])


cost = cost_by_monitoring if sys.version_info >= (3, 12) else cost_by_tracing


def hooks(make: MakeHooks) -> Callable[[], object]:
    """Return one request through the hooks of a kind of worker."""
    recorded = Recorded()
    pre_request, post_request = make(recorded.recorder, None, recorded.errors)
    request, environ, response = handled()

    def call() -> None:
        pre_request(None, request)
        post_request(None, request, environ, response)

    return call


def wsgi() -> Callable[[], object]:
    """Return one request through the wrapped application of gevent_pywsgi or tornado."""
    bench = asgi.Bench()

    def app(environ: application.Environ, start_response: Callable[..., Any]) -> list[bytes]:
        start_response("200 OK", [])
        return [b"ok"]

    served = application.recorded(app, bench.worker, bench.calls)

    def call() -> None:
        environ: application.Environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/x"}
        body: Any = served(environ, lambda status, headers, exc_info=None: lambda data: None)
        for _ in body:
            pass
        body.close()

    return call


def asgi_request() -> Callable[[], object]:
    """Return one request through the wrapped application of an ASGI worker."""
    bench = asgi.Bench()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(asgi.START)
        await send(asgi.BODY)

    served = middleware.recorded(app, bench.worker, bench.calls, middleware.GUNICORN)
    client = asgi.Client()

    def call() -> None:
        client.messages.clear()
        scope = {"type": "http", "method": "GET", "path": "/x", "headers": [(b"host", b"x"), (b"accept", b"*/*")]}
        coroutine = served(scope, client.receive, client.send)
        with pytest.raises(StopIteration):
            coroutine.send(None)  # type: ignore[attr-defined]

    return call


KINDS: dict[str, tuple[Callable[[], Callable[[], object]], Cost]] = {
    "sync": (lambda: hooks(one_at_a_time), Cost(170, 4)),
    "gthread": (lambda: hooks(one_per_thread), Cost(217, 6)),
    "gevent": (lambda: hooks(many_at_a_time), Cost(218, 4)),
    "wsgi": (wsgi, Cost(566, 19)),
    "asgi": (asgi_request, Cost(340, 5)),
}
"""A request of each kind, and the most that it takes with Python 3.10 to 3.13."""


@pytest.mark.parametrize("kind", KINDS)
def test_instructions_of_a_request_on_the_hot_path_are_bounded(kind: str) -> None:
    """The count is the same for each request of a kind that is known, and does not grow unnoticed."""
    make, most = KINDS[kind]
    request = make()
    for _ in range(20):
        request()
    costs = [cost(request) for _ in range(21)]
    found = min(costs)  # one that is interrupted for a millisecond takes the way of slower ones
    assert costs.count(found) > 10, costs
    assert found.instructions <= most.instructions, found
    assert found.calls <= most.calls, found
