"""Listeners, event loops and missing capacity on the status page."""

from __future__ import annotations

import dataclasses
import re
from bisect import bisect_left

import pytest

from gunicorn_prom_hooks.collectors.listeners import ListenerQueue
from gunicorn_prom_hooks.model.server_snapshot import ServerSnapshot
from gunicorn_prom_hooks.shm.allocator import Lease
from gunicorn_prom_hooks.shm.layout import LOOP_DUE
from gunicorn_prom_hooks.shm.schema import LAG_BUCKETS
from gunicorn_prom_hooks.status import page_data
from gunicorn_prom_hooks.status.builder import StatusBuilder
from gunicorn_prom_hooks.status.page import render
from gunicorn_prom_hooks.worker.recording.recorder import Recorder
from tests.helpers.snapshots import SimulatedServer, begin


class Listener:
    """A listener of gunicorn's."""

    sock = None

    def __init__(self, name: str) -> None:
        self._name = name

    def __str__(self) -> str:
        return self._name


def queues(snapshot: ServerSnapshot) -> list[ListenerQueue]:
    """Return a listener with all numbers, and one without the number of unread connections."""
    return [ListenerQueue("one", 5, 64, 40), ListenerQueue("two", 7, 64, None)]


def text(html: bytes, start: str, end: str) -> list[str]:
    """Return the texts between two places of the page."""
    part = html.decode().partition(start)[2].partition(end)[0]
    return [found for found in re.split(r"<[^>]*>", part) if found]


@pytest.fixture
def server() -> SimulatedServer:
    """A worker with a request in progress, and two listeners."""
    server = SimulatedServer()
    lease, _ = server.add_worker(1)
    begin(lease, 98.5)
    server.listeners = [Listener("one"), Listener("two")]
    return server


def page(server: SimulatedServer, snapshot: ServerSnapshot | None = None) -> bytes:
    """Return the page, with these queues."""
    return render(StatusBuilder(queues=queues).build(snapshot or server.snapshot()), str)


def test_unread_connections_are_in_the_listeners_row_and_their_sum_in_a_tile(server: SimulatedServer) -> None:
    """Unread connections are in the row of their listener, and their sum is a tile; unknown is not 0."""
    found = StatusBuilder(queues=queues).build(server.snapshot())
    assert found.listeners == [page_data.Listener("one", 5, 64, 40), page_data.Listener("two", 7, 64, None)]
    html = page(server)
    assert text(html, '<table><caption id="listeners-caption">', "</table>")[1:] == [
        *("Listener", "Accept queue", "Limit", "Waiting in workers"),
        *("one", "5", "64", "40"),
        *("two", "7", "64", "n/a"),
    ]
    assert text(html, 'data-key="Waiting in workers">', "</div>") == ["Waiting in workers", "40"]
    none = render(StatusBuilder(queues=lambda snapshot: []).build(server.snapshot()), str)
    assert text(none, 'data-key="Waiting in workers">', "</div>") == ["Waiting in workers", "n/a"]


@pytest.mark.parametrize(
    ("late", "shown", "warns"), [(-0.3, "0 ms", False), (0.2, "200 ms", False), (3.4, "3.4 s", True)]
)
def test_blocked_event_loop_has_a_column_and_a_warning(
    server: SimulatedServer, late: float, shown: str, warns: bool
) -> None:
    """If a worker has an event loop there is a column, and a block beyond a timer's period is marked."""
    (lease,) = server.allocator.live
    lease.slot.header[LOOP_DUE] = server.clock - late
    found = StatusBuilder(queues=queues).build(server.snapshot())
    assert found.workers is not None
    assert found.workers.rows[0].loop_blocked_seconds == pytest.approx(max(0.0, late))
    html = page(server).decode()
    head, _, body = html.partition('id="workers-caption"')[2].partition("<tbody>")
    heads = re.findall(r"<th[^>]*>([^<]*)</th>", head)
    cells = re.findall(r"<t[hd][^>]*>", body.partition("</tr>")[0])
    assert len(heads) == len(cells)
    assert "Loop blocked" in heads
    assert (f'<td class="number warn">{shown}</td>' in html) is warns
    assert f">{shown}</td>" in html


def test_workers_without_event_loops_have_no_column(server: SimulatedServer) -> None:
    """Without any event loop there are no such columns."""
    assert b"Loop blocked" not in page(server)
    assert b"Loop lag" not in page(server)
    found = StatusBuilder(queues=queues).build(server.snapshot())
    assert found.workers is not None
    assert found.workers.rows[0].loop_lag_p99_seconds is None


def count_lags(lease: Lease, recorder: Recorder, *lags: float) -> None:
    """Count samples of the event loop's lag, as a worker does."""
    at = recorder.loop_lag
    for lag in lags:
        lease.slot.words[at + 1 + bisect_left(LAG_BUCKETS, lag)] += 1.0


def lag(found: page_data.StatusData) -> float | None:
    """Return the lag of the last worker."""
    assert found.workers is not None
    return found.workers.rows[-1].loop_lag_p99_seconds


def test_event_loop_lag_is_that_of_the_period_with_the_lag_so_far_of_a_blocked_loop(server: SimulatedServer) -> None:
    """Earlier lags do not count, the lowest bucket is 0.0, a block that goes on counts, no sample is no lag."""
    lease, recorder = server.add_worker(2)
    lease.slot.header[LOOP_DUE] = 1000.0
    builder = StatusBuilder(lambda snapshot: {}, queues)
    assert lag(builder.build(server.snapshot())) is None
    count_lags(lease, recorder, *[0.001] * 98, 0.3, 0.3)
    since_start = StatusBuilder(lambda snapshot: {}, queues).build(server.snapshot())
    assert lag(since_start) == 0.375
    server.clock += 10.0
    builder.build(server.snapshot())
    server.clock += 55.0
    assert lag(builder.build(server.snapshot())) is None
    count_lags(lease, recorder, *[0.001] * 99)
    server.clock += 4.0
    found = builder.build(server.snapshot())
    assert lag(found) == 0.0
    assert text(render(found, str), ">Loop lag p99<", "/table>").count("< 5 ms".replace("<", "&lt;")) == 1
    lease.slot.header[LOOP_DUE] = server.clock - 20.0
    assert lag(builder.build(server.snapshot())) == 10.0
    assert "&gt; 10 s" in page(server).decode()


def test_load_without_capacity_is_a_number_alone(server: SimulatedServer) -> None:
    """If one worker has no limit the server has none: the requests in progress are a number alone."""
    server.add_worker(2)
    snapshot = server.snapshot()
    workers = [snapshot.workers[0], dataclasses.replace(snapshot.workers[1], capacity=None)]
    snapshot = dataclasses.replace(snapshot, workers=workers)
    found = StatusBuilder(queues=queues).build(snapshot)
    assert found.load == page_data.Load(in_progress=1, capacity=None, hanging=0, hanging_after_seconds=10.0)
    assert found.workers is not None
    assert [row.capacity for row in found.workers.rows] == [1, None]
    assert text(page(server, snapshot), 'data-key="In progress">', "</div>") == ["In progress", "1"]
    assert text(page(server), 'data-key="In progress">', "</div>") == ["In progress", "1 of 2"]
