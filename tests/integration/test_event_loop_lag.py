"""Event loops of real workers: how late they are, and that measuring it changes nothing for them."""

from __future__ import annotations

import signal
import socket
import time

import pytest

from tests.helpers.blocking_apps import LOOPS, WSGI, blocked
from tests.helpers.places import APPLICATIONS
from tests.helpers.servers import Samples, Server, eventually
from tests.integration.conftest import Serve

LAGS, BLOCKED = "gunicorn_worker_event_loop_lag_seconds", "gunicorn_worker_event_loop_blocked_seconds"


def forward(before: Samples, after: Samples) -> None:
    """No count and no sum has gone backwards."""
    for (name, labels), value in before.values.items():
        if name.startswith(LAGS + "_"):
            assert after.values[name, labels] >= value, (name, labels)


def block(server: Server, seconds: float) -> tuple[Samples, Samples]:
    """The scrapes while the loop is blocked, for so long at least, and when it goes on."""
    address = "127.0.0.1", server.port
    with blocked(server, socket.AF_INET, address):

        def probe() -> Samples | None:
            samples = server.scrape()
            return samples if samples.one(BLOCKED) > seconds else None

        during = eventually(probe, "the loop is blocked")
    after = eventually(lambda: s if (s := server.scrape()).one(BLOCKED) < 0.5 else None, "the loop goes on")
    return during, after


@pytest.mark.parametrize("kind", LOOPS)
def test_blocked_loop_is_shown_at_once_and_stays_counted(serve: Serve, kind: str) -> None:
    """A loop that serves counts about two samples a second; one that is blocked shows at once, and stays counted."""
    app, config = LOOPS[kind]
    server = serve(config + "timeout = 120\n", app=app)
    idle = eventually(lambda: s if (s := server.scrape()).one(LAGS + "_count") >= 3 else None, "three samples")
    assert idle.one(LAGS + "_bucket", le="0.5") >= idle.one(LAGS + "_count") - 1  # this machine may be busy
    during, after = block(server, 1.1)
    forward(idle, during)
    forward(during, after)
    assert during.one(LAGS + "_count") >= idle.one(LAGS + "_count") + 2
    assert during.one(LAGS + "_sum") >= 1.1
    assert after.one(LAGS + "_sum") >= 1.1 + 0.6 + 0.1
    late = after.one(LAGS + "_count") - after.one(LAGS + "_bucket", le="1.0")
    assert late >= 1
    assert after.one(LAGS + "_bucket", le="10.0") == after.one(LAGS + "_count")
    assert after.sum("gunicorn_exporter_errors_total") == 0


@pytest.mark.parametrize("kind", ["asgi", "uvicorn"])
def test_lifespan_startup_is_not_counted_as_lag(serve: Serve, kind: str) -> None:
    """What the application does in the loop before it serves, 1.5 s of it here, blocks no request."""
    app, config = LOOPS[kind]
    server = serve(config, app=app)
    samples = eventually(lambda: s if (s := server.scrape()).all(LAGS + "_count") else None, "the loop has a timer")
    assert samples.one(LAGS + "_sum") < 1.0


@pytest.mark.parametrize("kind", LOOPS)
def test_worker_with_a_loop_timer_exits_in_time_and_its_successor_starts_anew(serve: Serve, kind: str) -> None:
    """A worker with the timer in its loop leaves in good time and good order, and its successor measures anew."""
    app, config = LOOPS[kind]
    server = serve(config + "workers = 1\ngraceful_timeout = 20\n", app=app)
    first = eventually(lambda: s if (s := server.scrape()).one(LAGS + "_count") >= 2 else None, "two samples")
    [(labels, _)] = first.all(LAGS + "_count")
    began = time.monotonic()
    server.signal(signal.SIGHUP)

    def probe() -> Samples | None:
        samples = server.scrape()
        found = samples.all(LAGS + "_count")
        return samples if len(found) == 1 and found[0][0] != labels and samples.sum("gunicorn_workers") == 1 else None

    samples = eventually(probe, "the successor is alone")
    assert time.monotonic() - began < 15
    assert samples.sum("gunicorn_worker_exits_total", reason="reload") == 1
    assert samples.one(LAGS + "_count") < 30
    assert "Traceback" not in server.log
    assert "failed" not in server.log


@pytest.mark.parametrize("config", ["", "worker_class = 'gthread'\nthreads = 2\n"], ids=["sync", "gthread"])
def test_workers_without_a_loop_have_no_loop_families(serve: Serve, config: str) -> None:
    """Where there is no event loop there is neither family."""
    server = serve(config, app=WSGI)
    server.get("/")
    assert not {family.name for family in server.settled(2).families} & {LAGS, BLOCKED}


FORKING = APPLICATIONS / "forking_gevent.py"


def test_forked_child_does_not_count_in_the_slot_of_its_parent(serve: Serve) -> None:
    """A process that the application forks runs the loop, too, and does not count in its parent's slot."""
    server = serve("worker_class = 'gevent'\nworkers = 1\n", app=FORKING)
    eventually(lambda: server.scrape().one(LAGS + "_count") >= 1, "it counts")
    before, began = server.scrape().one(LAGS + "_count"), time.monotonic()
    for _ in range(5):
        server.get("/fork")
    eventually(lambda: time.monotonic() - began > 3, "the children have run and ended")
    after = server.scrape().one(LAGS + "_count")
    assert after - before <= 2 * (time.monotonic() - began) + 1
