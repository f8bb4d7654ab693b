"""What the status page says of what waits, of event loops, and of a capacity that there is not."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator

import pytest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from gunicorn_prom_hooks.model.server_snapshot import ServerSnapshot
from gunicorn_prom_hooks.shm.layout import LOOP_DUE
from gunicorn_prom_hooks.status import page_data
from gunicorn_prom_hooks.status.builder import Snapshots
from gunicorn_prom_hooks.status.page import render
from tests.helpers.snapshots import Scene, begin


class Listener:
    """A listener of gunicorn's."""

    sock = None

    def __init__(self, name: str) -> None:
        self._name = name

    def __str__(self) -> str:
        return self._name


def queues(view: ServerSnapshot) -> Iterator[Metric]:
    """A listener of which the kernel tells all, and one of which it does not tell what is unread."""
    values = {"backlog": (5, 7), "backlog_limit": (64, 64), "waiting_connections": (40,)}
    for name, of in values.items():
        family = GaugeMetricFamily(f"gunicorn_listener_{name}", "Help.", labels=("listener",))
        for listener, value in zip(("one", "two"), of, strict=False):
            family.add_metric((listener,), value)
        yield family


def text(html: bytes, start: str, end: str) -> list[str]:
    """The texts between two places of the page."""
    part = html.decode().partition(start)[2].partition(end)[0]
    return [found for found in re.split(r"<[^>]*>", part) if found]


@pytest.fixture
def scene() -> Scene:
    """A worker that is at a request, and two listeners."""
    scene = Scene()
    lease, _ = scene.hire(1)
    begin(lease, 98.5)
    scene.listeners = [Listener("one"), Listener("two")]
    return scene


def page(scene: Scene, view: ServerSnapshot | None = None) -> bytes:
    """The page, with these queues."""
    return render(Snapshots(queues=queues).take(view or scene.view()), str)


def test_what_waits_in_workers(scene: Scene) -> None:
    """It is in the row of its listener, and its sum is a tile; what is not known is no 0."""
    found = Snapshots(queues=queues).take(scene.view())
    assert found.listeners == [page_data.Listener("one", 5, 64, 40), page_data.Listener("two", 7, 64, None)]
    html = page(scene)
    assert text(html, '<table><caption id="listeners-caption">', "</table>")[1:] == [
        *("Listener", "Accept queue", "Limit", "Waiting in workers"),
        *("one", "5", "64", "40"),
        *("two", "7", "64", "n/a"),
    ]
    assert text(html, 'data-key="Waiting in workers">', "</div>") == ["Waiting in workers", "40"]
    none = render(Snapshots(queues=lambda view: []).take(scene.view()), str)
    assert text(none, 'data-key="Waiting in workers">', "</div>") == ["Waiting in workers", "n/a"]


@pytest.mark.parametrize(
    ("late", "shown", "warns"), [(-0.3, "0 ms", False), (0.2, "200 ms", False), (3.4, "3.4 s", True)]
)
def test_a_blocked_loop(scene: Scene, late: float, shown: str, warns: bool) -> None:
    """Where a worker has an event loop there is a column, and a block of some time stands out in it."""
    (lease,) = scene.allocator.live
    lease.slot.header[LOOP_DUE] = scene.clock - late
    found = Snapshots(queues=queues).take(scene.view())
    assert found.workers is not None
    assert found.workers.rows[0].loop_blocked_seconds == pytest.approx(max(0.0, late))
    html = page(scene).decode()
    head, _, body = html.partition('id="workers-caption"')[2].partition("<tbody>")
    heads = re.findall(r"<th[^>]*>([^<]*)</th>", head)
    cells = re.findall(r"<t[hd][^>]*>", body.partition("</tr>")[0])
    assert len(heads) == len(cells)
    assert "Loop blocked" in heads
    assert (f'<td class="number warn">{shown}</td>' in html) is warns
    assert f">{shown}</td>" in html


def test_a_worker_without_a_loop(scene: Scene) -> None:
    """Without any event loop there is no such column."""
    assert b"Loop blocked" not in page(scene)


def test_no_capacity(scene: Scene) -> None:
    """Where one worker has no limit the server has none: what is in progress is a number of its own."""
    scene.hire(2)
    view = scene.view()
    workers = [view.workers[0], dataclasses.replace(view.workers[1], capacity=None)]
    view = dataclasses.replace(view, workers=workers)
    found = Snapshots(queues=queues).take(view)
    assert found.load == page_data.Load(in_progress=1, capacity=None)
    assert found.workers is not None
    assert [row.capacity for row in found.workers.rows] == [1, None]
    assert text(page(scene, view), 'data-key="In progress">', "</div>") == ["In progress", "1"]
    assert text(page(scene), 'data-key="In progress">', "</div>") == ["In progress", "1 of 2"]
