"""Requests that a gevent worker cuts off on its way out."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from greenlet import GreenletExit  # type: ignore[import-untyped]

from gunicorn_prom_hooks.shm.layout import INFLIGHT_ENTRIES
from gunicorn_prom_hooks.shm.schema import FAILED
from gunicorn_prom_hooks.worker.recording.event_loop_hooks import many_at_a_time
from gunicorn_prom_hooks.worker.recording.exceptions import is_cut_off
from tests.helpers.recording import GET, Recorded, handled, interruption

CUTS = (interruption("handle_quit"), interruption("handle_abort"), GreenletExit())
OWN = (SystemExit(1), KeyboardInterrupt(), ValueError("x"))
"""What the application raises itself, in a worker on its way out as in any other."""


class Loop:
    """The hooks of a gevent worker, and the worker that calls them."""

    def __init__(self) -> None:
        self.recorded = Recorded()
        self.worker = SimpleNamespace(alive=True)
        self.hooks = many_at_a_time(self.recorded.recorder, None, self.recorded.errors)

    def begin(self, path: bytes) -> Any:
        """Begins a request to this path."""
        served = handled(GET % path)
        self.hooks[0](self.worker, served[0])
        return served

    def end(self, served: Any, error: BaseException | None = None) -> None:
        """Ends it, as gunicorn does, while this exception is on its way."""
        try:
            if error is not None:
                raise error
            self.hooks[1](self.worker, *served)
        except BaseException as caught:
            if caught is not error:
                raise
            self.hooks[1](self.worker, *served)

    def in_flight(self) -> list[str]:
        """Paths of the requests that are in the in-flight table."""
        return sorted(request.path for request in self.recorded.reader.in_flight())


@pytest.mark.parametrize("error", [*CUTS, *OWN, OSError(), StopIteration()])
@pytest.mark.parametrize("alive", [True, False])
def test_is_cut_off_is_true_for_gunicorn_exits_in_a_stopping_worker(alive: bool, error: BaseException) -> None:
    """What gunicorn ends requests with does, in a worker on its way out, and nothing that an application raises."""
    assert is_cut_off(error, SimpleNamespace(alive=alive)) is (not alive and error in CUTS)


@pytest.mark.parametrize("error", CUTS)
def test_request_cut_off_is_not_counted_and_keeps_its_entry(error: BaseException) -> None:
    """It is not counted and has not failed: it stays in the in-flight table, and no other request takes its entry."""
    loop = Loop()
    served, other = loop.begin(b"/cut"), loop.begin(b"/other")
    loop.worker.alive = False
    loop.end(served, error)
    assert loop.recorded.requests() == loop.recorded.counts(FAILED) == {}
    assert loop.in_flight() == ["/cut", "/other"]
    loop.end(other)
    loop.begin(b"/last")
    assert loop.in_flight() == ["/cut", "/last"]
    assert loop.recorded.requests() == {("GET", "/other", "200"): 1.0}
    assert loop.recorded.errors.counts == {}


@pytest.mark.parametrize("error", CUTS)
def test_request_cut_off_without_an_entry_stays_untracked_in_progress(error: BaseException) -> None:
    """One that found no free entry stays among those that have none."""
    loop = Loop()
    served = [loop.begin(b"/%d" % number) for number in range(INFLIGHT_ENTRIES + 2)]
    loop.worker.alive = False
    loop.end(served[-1], error)
    assert loop.recorded.reader.untracked().number == 2
    loop.end(served[-2])
    assert loop.recorded.reader.untracked().number == 1
    assert loop.recorded.in_progress() == INFLIGHT_ENTRIES + 1
    assert sum(loop.recorded.requests().values()) == 1.0


@pytest.mark.parametrize(
    ("alive", "error"), [(False, None), *((alive, error) for error in OWN for alive in (False, True)), (True, CUTS[2])]
)
def test_request_not_cut_off_is_counted_with_its_failure(alive: bool, error: BaseException | None) -> None:
    """Failures in a worker on its way out, and exits that an application raises in one that is not, are counted."""
    loop = Loop()
    served = loop.begin(b"/x")
    loop.worker.alive = alive
    loop.end(served, error)
    assert sum(loop.recorded.requests().values()) == 1.0
    failed = {} if error is None else {("GET", "/x", type(error).__name__): 1.0}
    assert loop.recorded.counts(FAILED) == failed
    assert loop.recorded.in_progress() == 0
    assert loop.recorded.errors.counts == {}
