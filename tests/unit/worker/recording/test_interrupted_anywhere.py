"""A worker killed at any instant of the recording: the request is either counted or interrupted, never both."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from gunicorn_prom_hooks.shm.layout import EXIT_CAUSE, INFLIGHT_ENTRIES, QUIT_AT
from gunicorn_prom_hooks.shm.reader import SlotReader
from gunicorn_prom_hooks.shm.schema import COUNTS, REQUESTS
from gunicorn_prom_hooks.shm.slot import Slot
from gunicorn_prom_hooks.worker.recording.event_loop_hooks import many_at_a_time
from gunicorn_prom_hooks.worker.recording.labels import Resolve
from gunicorn_prom_hooks.worker.recording.threaded_hooks import one_per_thread
from tests.helpers.asgi import BODY, MORE, START, sends
from tests.helpers.asgi import Bench as AsgiBench
from tests.helpers.recording import KINDS, MakeHooks, Recorded, handled, interruption, tally, values

CELLS, DIRECTORY = 18_000, 20_000


def small() -> Recorded:
    """A slot of which many copies can be made."""
    return Recorded(slot=Slot(CELLS, DIRECTORY))


def at_every_instruction(slot: Slot, step: Callable[[], None]) -> list[bytes]:
    """Return the slot's content before each instruction of our code in this step, and after the last."""
    held: list[bytes] = []

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if "gunicorn_prom_hooks" not in frame.f_code.co_filename:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            held.append(bytes(slot.memory))
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        step()
    finally:
        sys.settrace(before)
    return [*held, bytes(slot.memory)]


def after_death(memory: bytes) -> tuple[int, int]:
    """Return counted and interrupted requests, as the master reads them after the worker's exit."""
    slot = Slot(CELLS, DIRECTORY)
    slot.memory[:] = memory
    reader = SlotReader(slot)
    reader.update()
    interrupted_requests = reader.interrupted_requests()
    assert all((request.method, request.path) == ("GET", "/items/7") for request in interrupted_requests)
    reader.commit_pending()
    assert reader.commit_pending() == 0, "it is counted once"
    rows = tally(slot).series(REQUESTS.number).values()
    return int(sum(sum(cells[COUNTS]) for cells in rows)), len(interrupted_requests) + reader.untracked().number


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize("before", [0, 1, 2])
def test_request_killed_at_any_instruction_is_counted_or_interrupted(make: MakeHooks, before: int) -> None:
    """Whichever instruction is the last: first nothing, then in progress, then counted; new paths and known ones."""
    recorded = small()
    pre_request, post_request = make(recorded.recorder, None, recorded.errors)
    request, environ, response = handled()

    def serve() -> None:
        pre_request(None, request)
        post_request(None, request, environ, response)

    for _ in range(before):
        serve()
    seen = [after_death(memory) for memory in at_every_instruction(recorded.slot, serve)]
    assert seen == sorted(seen, key=[(before, 0), (before, 1), (before + 1, 0)].index)
    assert len(set(seen)) == 3
    assert not recorded.errors.counts


@pytest.mark.parametrize("plain", [False, True], ids=["short", "stream"])
@pytest.mark.parametrize("resolve", [None, lambda scope: "/items/{number}"], ids=["path", "template"])
@pytest.mark.parametrize("before", [0, 1, 2])
def test_asgi_request_killed_at_any_instruction_is_counted_or_interrupted(
    plain: bool, resolve: Resolve | None, before: int
) -> None:
    """The same for the calls of an ASGI application."""
    bench = AsgiBench(resolve, slot=Slot(CELLS, DIRECTORY))
    app = sends(START, MORE, BODY)

    def serve() -> None:
        bench.call(app, plain=plain)

    for _ in range(before):
        serve()
    seen = [after_death(memory) for memory in at_every_instruction(bench.slot, serve)]
    assert seen == sorted(seen, key=[(before, 0), (before, 1), (before + 1, 0)].index)
    assert len(set(seen)) == 3
    assert not bench.errors.counts


@pytest.mark.parametrize("make", [many_at_a_time, one_per_thread])
def test_request_without_an_entry_killed_at_any_instruction_is_counted_once(
    make: MakeHooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request beyond those that the table has room for is in progress and then counted, too, and never both."""
    recorded = small()
    pre_request, post_request = make(recorded.recorder, None, recorded.errors)
    thread = 0
    monkeypatch.setattr("gunicorn_prom_hooks.worker.recording.threaded_hooks.get_ident", lambda: thread)
    others = [handled() for _ in range(INFLIGHT_ENTRIES + 2)]
    for thread, (request, _, _) in enumerate(others):  # noqa: B007 - it is what the hooks are told
        pre_request(None, request)
    post_request(None, *others.pop())
    thread += 1
    request, environ, response = handled()

    def serve() -> None:
        pre_request(None, request)
        post_request(None, request, environ, response)

    memories = at_every_instruction(recorded.slot, serve)
    seen = [after_death(memory) for memory in memories]
    before, during, after = (1, INFLIGHT_ENTRIES + 1), (1, INFLIGHT_ENTRIES + 2), (2, INFLIGHT_ENTRIES + 1)
    assert seen == sorted(seen, key=[before, during, after].index)
    assert len(set(seen)) == 3
    assert not recorded.errors.counts


def test_asgi_request_without_an_entry_killed_anywhere_is_counted_once() -> None:
    """The same for the calls of an ASGI application, with a path that is new and with one that is known."""
    bench = AsgiBench(slot=Slot(CELLS, DIRECTORY))
    for start in range(INFLIGHT_ENTRIES + 1):
        bench.calls.begin({"method": "GET", "path": "/items/7"}, 1.0 + start)

    def serve() -> None:
        bench.call(sends(START, BODY))

    for before in (0, 1):
        seen = [after_death(memory) for memory in at_every_instruction(bench.slot, serve)]
        stages = [(before, INFLIGHT_ENTRIES + 1), (before, INFLIGHT_ENTRIES + 2), (before + 1, INFLIGHT_ENTRIES + 1)]
        assert seen == sorted(seen, key=stages.index)
        assert len(set(seen)) == 3
    assert not bench.errors.counts


def test_finished_requests_of_idle_threads_are_not_counted_again() -> None:
    """Other threads went on counting in the cell that an idle thread counted in last: it needs no finishing."""
    recorded = small()
    pre_request, post_request = KINDS[2](recorded.recorder, None, recorded.errors)
    some = [handled() for _ in range(3)]
    for request, _, _ in some:
        pre_request(None, request)
    for request, environ, response in some:
        post_request(None, request, environ, response)
    assert after_death(bytes(recorded.slot.memory)) == (3, 0)


def test_request_ended_by_system_exit_of_a_signal_is_interrupted() -> None:
    """SystemExit out of a signal handler ends the request: it is answered 500, and counted as interrupted.

    One of the application's does not, also in a worker that has been told to quit.
    """
    ends: list[tuple[BaseException, int]] = [(SystemExit(1), 0), (interruption("handle_quit"), 1)]
    for error, interrupted_requests in ends:
        recorded = small()
        pre_request, post_request = KINDS[0](recorded.recorder, None, recorded.errors)
        request, environ, response = handled()
        pre_request(None, request)
        recorded.slot.header[QUIT_AT] = 1700000000.0
        try:
            raise error
        except SystemExit:
            post_request(None, request, environ, response)
        assert after_death(bytes(recorded.slot.memory)) == (1, interrupted_requests)


def test_invalid_in_flight_entry_changes_no_cell() -> None:
    """An in-flight entry with invalid content changes no cell."""
    recorded = small()
    reader = SlotReader(recorded.slot)
    reader.update()
    before = values(reader)
    for start in (-1.0, -1e300, -0.5, float("nan"), float("-inf"), -4192.5):
        recorded.slot.words[64 + 31] = start
        recorded.slot.words[64 + 29] = 1.0
        assert reader.commit_pending() == 0
        reader.interrupted_requests()
    recorded.slot.header[EXIT_CAUSE] = float("nan")
    assert values(reader) == before
