"""One rendering at a time, for all who have asked by then."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping

import pytest

from gunicorn_prom_hooks.exporter import render_queue as rendering
from gunicorn_prom_hooks.exporter.http import Reply, Wish
from gunicorn_prom_hooks.exporter.render_queue import Renderings

ONE, OTHER = Wish("/metrics", "a", gzip=False), Wish("/metrics", "a", gzip=True)


class Kitchen:
    """Renders when it is told to."""

    def __init__(self) -> None:
        self.asked: list[tuple[Wish, ...]] = []
        self.go_on = threading.Semaphore(0)
        self.done = threading.Event()
        self.fails = False
        self.failures: list[str] = []

    def render(self, wishes: Iterable[Wish]) -> Mapping[Wish, Reply]:
        """Numbered replies."""
        self.asked.append(tuple(wishes))
        assert self.go_on.acquire(timeout=30.0)
        if self.fails:
            raise SystemExit
        return {wish: Reply(b"%d" % len(self.asked), b"") for wish in self.asked[-1]}

    def finish(self, renderings: Renderings) -> dict[str, bytes]:
        """Lets the rendering in progress end; who gets what."""
        self.go_on.release()
        assert self.done.wait(30.0)
        self.done.clear()
        return {client: reply.head for client, reply in renderings.fulfilled()}


@pytest.fixture
def kitchen(monkeypatch: pytest.MonkeyPatch) -> Kitchen:
    """One that takes no breaks."""
    monkeypatch.setattr(rendering, "LONGEST_PAUSE_SECONDS", 0.0)
    return Kitchen()


def test_who_asks_meanwhile_shares_the_next_one(kitchen: Kitchen) -> None:
    """A rendering is for those who had asked when it began; all who ask while it goes on share the next."""
    renderings = Renderings(kitchen.render, kitchen.done.set, kitchen.failures.append)
    renderings.proceed()
    assert renderings.due() is None
    renderings.ask(ONE, "early")
    renderings.proceed()
    for client in ("a", "b"):
        renderings.ask(ONE, client)
    renderings.ask(OTHER, "c")
    assert renderings.due() is None
    renderings.proceed()
    assert kitchen.finish(renderings) == {"early": b"1"}
    renderings.proceed()
    assert kitchen.finish(renderings) == {"a": b"2", "b": b"2", "c": b"2"}
    assert [len(wishes) for wishes in kitchen.asked] == [1, 2]
    assert renderings.fulfilled() == []


def test_who_has_gone_gets_nothing_and_leaves_nothing(kitchen: Kitchen) -> None:
    """A client that has gone is forgotten at once, before its rendering and during it."""
    renderings = Renderings(kitchen.render, kitchen.done.set, kitchen.failures.append)
    renderings.ask(ONE, "stays")
    renderings.ask(ONE, "goes")
    renderings.proceed()
    renderings.withdraw(ONE, "goes")
    renderings.ask(OTHER, "goes too")
    renderings.withdraw(OTHER, "goes too")
    assert kitchen.finish(renderings) == {"stays": b"1"}
    assert renderings.due() is None


def test_a_rendering_that_dies_is_an_error_for_its_clients(kitchen: Kitchen) -> None:
    """Whatever ends the thread, its clients are answered, and the next rendering is one as ever."""
    kitchen.fails = True
    renderings = Renderings(kitchen.render, kitchen.done.set, kitchen.failures.append)
    renderings.ask(ONE, "a")
    renderings.proceed()
    assert kitchen.finish(renderings)["a"].startswith(b"HTTP/1.1 500 ")
    kitchen.fails = False
    renderings.ask(ONE, "b")
    renderings.proceed()
    assert kitchen.finish(renderings) == {"b": b"2"}


def test_a_flood_leaves_time_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a rendering comes a pause that is as long, up to a limit."""
    done = threading.Event()

    def render(wishes: Iterable[Wish]) -> Mapping[Wish, Reply]:
        time.sleep(0.1)
        return {}

    renderings = Renderings(render, done.set, print)
    renderings.ask(ONE, "a")
    renderings.proceed()
    assert done.wait(30.0)
    renderings.fulfilled()
    renderings.ask(ONE, "b")
    due = renderings.due()
    assert due is not None
    assert 0.05 < due - time.monotonic() <= rendering.LONGEST_PAUSE_SECONDS
    renderings.proceed()
    assert renderings.due() == due


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError()])
def test_without_another_thread_it_is_rendered_in_this_one(
    error: Exception, kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the system has no thread to give, clients are answered all the same, and the failure is told."""

    def none_left(*_: object) -> None:
        raise error

    monkeypatch.setattr(rendering, "original", lambda module, name: none_left)
    renderings = Renderings(kitchen.render, kitchen.done.set, kitchen.failures.append)
    kitchen.go_on.release()
    renderings.ask(ONE, "a")
    renderings.proceed()
    assert kitchen.finish(renderings) == {"a": b"1"}
    assert kitchen.failures == ["thread"]
    monkeypatch.undo()
    renderings.ask(ONE, "b")
    renderings.proceed()
    assert kitchen.finish(renderings) == {"b": b"2"}
    assert kitchen.failures == ["thread"]
