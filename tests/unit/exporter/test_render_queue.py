"""One rendering at a time, for all clients that have asked by then."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping

import pytest

from gunicorn_prom_hooks.exporter import render_queue as rendering
from gunicorn_prom_hooks.exporter.http import RenderKey, Reply
from gunicorn_prom_hooks.exporter.render_queue import RenderQueue

ONE, OTHER = RenderKey("/metrics", "a", gzip=False), RenderKey("/metrics", "a", gzip=True)


class Kitchen:
    """Renders when it is told to."""

    def __init__(self) -> None:
        self.asked: list[tuple[RenderKey, ...]] = []
        self.go_on = threading.Semaphore(0)
        self.done = threading.Event()
        self.fails = False
        self.failures: list[str] = []

    def render(self, keys: Iterable[RenderKey]) -> Mapping[RenderKey, Reply]:
        """Numbered replies."""
        self.asked.append(tuple(keys))
        assert self.go_on.acquire(timeout=30.0)
        if self.fails:
            raise SystemExit
        return {key: Reply(b"%d" % len(self.asked), b"") for key in self.asked[-1]}

    def finish(self, render_queue: RenderQueue) -> dict[str, bytes]:
        """Let the rendering in progress end; return the replies by client."""
        self.go_on.release()
        assert self.done.wait(30.0)
        self.done.clear()
        return {client: reply.head for client, reply in render_queue.pop_completed()}


@pytest.fixture
def kitchen(monkeypatch: pytest.MonkeyPatch) -> Kitchen:
    """One that takes no breaks."""
    monkeypatch.setattr(rendering, "LONGEST_PAUSE_SECONDS", 0.0)
    return Kitchen()


def test_requests_during_a_rendering_share_the_next_one(kitchen: Kitchen) -> None:
    """A rendering serves the clients that had asked when it began; later ones share the next."""
    render_queue = RenderQueue(kitchen.render, kitchen.done.set, kitchen.failures.append)
    render_queue.start_next()
    assert render_queue.due() is None
    render_queue.submit(ONE, "early")
    render_queue.start_next()
    for client in ("a", "b"):
        render_queue.submit(ONE, client)
    render_queue.submit(OTHER, "c")
    assert render_queue.due() is None
    render_queue.start_next()
    assert kitchen.finish(render_queue) == {"early": b"1"}
    render_queue.start_next()
    assert kitchen.finish(render_queue) == {"a": b"2", "b": b"2", "c": b"2"}
    assert [len(keys) for keys in kitchen.asked] == [1, 2]
    assert render_queue.pop_completed() == []


def test_canceled_client_gets_no_reply_and_is_not_kept(kitchen: Kitchen) -> None:
    """A client that has gone is forgotten at once, before its rendering and during it."""
    render_queue = RenderQueue(kitchen.render, kitchen.done.set, kitchen.failures.append)
    render_queue.submit(ONE, "stays")
    render_queue.submit(ONE, "goes")
    render_queue.start_next()
    render_queue.cancel(ONE, "goes")
    render_queue.submit(OTHER, "goes too")
    render_queue.cancel(OTHER, "goes too")
    assert kitchen.finish(render_queue) == {"stays": b"1"}
    assert render_queue.due() is None


def test_failed_rendering_is_500_and_the_next_one_succeeds(kitchen: Kitchen) -> None:
    """Whatever ends the thread, its clients are answered, and the next rendering is one as ever."""
    kitchen.fails = True
    render_queue = RenderQueue(kitchen.render, kitchen.done.set, kitchen.failures.append)
    render_queue.submit(ONE, "a")
    render_queue.start_next()
    assert kitchen.finish(render_queue)["a"].startswith(b"HTTP/1.1 500 ")
    kitchen.fails = False
    render_queue.submit(ONE, "b")
    render_queue.start_next()
    assert kitchen.finish(render_queue) == {"b": b"2"}


def test_rendering_is_followed_by_a_bounded_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a rendering comes a pause that is as long, up to a limit."""
    done = threading.Event()

    def render(keys: Iterable[RenderKey]) -> Mapping[RenderKey, Reply]:
        time.sleep(0.1)
        return {}

    render_queue = RenderQueue(render, done.set, print)
    render_queue.submit(ONE, "a")
    render_queue.start_next()
    assert done.wait(30.0)
    render_queue.pop_completed()
    render_queue.submit(ONE, "b")
    due = render_queue.due()
    assert due is not None
    assert 0.05 < due - time.monotonic() <= rendering.LONGEST_PAUSE_SECONDS
    render_queue.start_next()
    assert render_queue.due() == due


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError()])
def test_rendering_runs_in_the_calling_thread_if_none_can_start(
    error: Exception, kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the system has no thread to give, clients are answered all the same, and the failure is told."""

    def none_left(*_: object) -> None:
        raise error

    monkeypatch.setattr(rendering, "start_thread", none_left)
    render_queue = RenderQueue(kitchen.render, kitchen.done.set, kitchen.failures.append)
    kitchen.go_on.release()
    render_queue.submit(ONE, "a")
    render_queue.start_next()
    assert kitchen.finish(render_queue) == {"a": b"1"}
    assert kitchen.failures == ["thread"]
    monkeypatch.undo()
    render_queue.submit(ONE, "b")
    render_queue.start_next()
    assert kitchen.finish(render_queue) == {"b": b"2"}
    assert kitchen.failures == ["thread"]
