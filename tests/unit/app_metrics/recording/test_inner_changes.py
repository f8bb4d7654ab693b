"""Changes in the middle of another change in the same thread: by finalizers, signal handlers and their exceptions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import Counter, Gauge, values

from gunicorn_prom_hooks.app_metrics.recording.mapped_file import MappedFile
from tests.helpers.recorded_metrics import App, Disk, counter, histogram, read

pytestmark = pytest.mark.usefixtures("_value_class")


class Interrupting:
    """The memory of a cell; the first store in it is preceded by a call, as by a finalizer's."""

    def __init__(self, memory: Any, call: Callable[[], object]) -> None:
        self._memory = memory
        self._calls = [call]

    def __setitem__(self, place: slice, data: bytes) -> None:
        if self._calls:
            self._calls.pop()()
        self._memory[place] = data


def interrupt(metric: Any, call: Callable[[], object]) -> None:
    """Have this called in the middle of the next change of the metric."""
    cell = metric._value.cell
    cell.memory = Interrupting(cell.memory, call)


def gauge(mode: Any = "livesum") -> Any:
    return Gauge("busy", "Help.", registry=None, multiprocess_mode=mode)


def test_change_within_a_change_is_not_lost(tmp_path: Path) -> None:
    """Both changes of a counter, and of a gauge, are in the process and on the page."""
    app = App(tmp_path)
    orders, busy = counter(), gauge()
    interrupt(orders, lambda: orders.inc(10))
    orders.inc()
    interrupt(busy, lambda: busy.inc(10))
    busy.set(5)
    interrupt(busy, busy.dec)
    busy.inc(3)
    assert (read(orders), read(busy)) == ({"orders_total": 11}, {"busy": 17})
    assert app.page() == {"orders_total": 11, "busy": 17}
    interrupt(busy, lambda: busy.set(2))
    busy.inc()
    assert (read(busy), app.page()["busy"]) == ({"busy": 2}, 2)


@pytest.mark.parametrize("announced", [False, True])
@pytest.mark.parametrize("seam", ["identity", "cells"])
def test_change_while_a_file_is_opened_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seam: str, announced: bool
) -> None:
    """A change of the same metric, of another one, and a new metric: all of it is counted, once."""
    app = App(tmp_path, "m", announced=announced, worker=False)
    orders, other, seconds = counter(), counter("other"), histogram()
    calls = [True]
    real = MappedFile.cells

    def inner() -> None:
        if calls:
            calls.pop()
            for metric in (orders, other, counter("new"), orders):
                metric.inc()
            seconds.observe(1)

    def cells(self: MappedFile, keys: Any) -> Any:
        keys = list(keys)
        inner()
        return real(self, keys)

    if seam == "cells":
        monkeypatch.setattr(MappedFile, "cells", cells)
    else:
        app.ensure = inner
    orders.inc(10)
    assert (read(orders), read(other), read(seconds)["seconds_count"]) == ({"orders_total": 12}, {"other_total": 1}, 1)
    page = app.page()
    assert (page["orders_total"], page["other_total"], page["new_total"], page["seconds_count"]) == (12, 1, 1, 1)


def test_change_while_a_lost_file_is_written_again_is_not_lost(tmp_path: Path) -> None:
    """A change after the copy of the lost file was made is in the new one."""
    app = App(tmp_path)
    orders = counter()
    orders.inc()
    (tmp_path / "counter_s0.db").unlink()
    app.place.changed(str(tmp_path))
    mapped = app.store._files["counter"]
    real, calls = mapped._map, [lambda: orders.inc(10)]

    def mapping(descriptor: int, capacity: int) -> Any:
        if calls:
            calls.pop()()
        return real(descriptor, capacity)

    mapped._map = mapping  # type: ignore[method-assign]
    orders.inc(100)
    assert (read(orders), app.page()) == ({"orders_total": 111}, {"orders_total": 111})


class TooLongError(Exception):
    """What a signal handler of the application raises."""


@pytest.mark.parametrize("error", [TooLongError, TimeoutError, KeyboardInterrupt])
@pytest.mark.parametrize("name", ["cells", "_append", "_extend", "_move"])
def test_exception_of_a_signal_handler_passes_through_and_leaves_the_file_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException], name: str
) -> None:
    """The exception is raised to the application; later changes count, and the page is what the process reads."""
    app = App(tmp_path)
    orders = counter("orders", "kind")
    orders.labels("a").inc()
    raised = [True]
    real = getattr(MappedFile, name)

    def interrupted(self: MappedFile, *args: Any) -> Any:
        result = real(self, *args)
        if raised:
            raised.pop()
            raise error
        return result

    monkeypatch.setattr(MappedFile, name, interrupted)

    def count() -> None:
        for number in range(2000):
            orders.labels(str(number) * 10).inc()

    with pytest.raises(error):
        count()
    count()
    orders.labels("a").inc()
    own = sum(child._value.get() for child in orders._metrics.values())
    assert app.total("orders_total") == own
    assert app.failures == 0


def test_exception_of_a_signal_handler_does_not_keep_a_lost_file_lost(tmp_path: Path) -> None:
    """It is tried again at the next change."""
    app = App(tmp_path)
    orders = counter()
    orders.inc()
    (tmp_path / "counter_s0.db").unlink()
    app.place.changed(str(tmp_path))
    raised = [True]

    def ensure() -> None:
        if raised:
            raised.pop()
            raise TimeoutError

    app.ensure = ensure
    with pytest.raises(TimeoutError):
        orders.inc()
    orders.inc()
    assert (read(orders), app.page(), app.failures) == ({"orders_total": 2}, {"orders_total": 2}, 0)


@pytest.mark.parametrize("mode", ["all", "livesum", "max", "mostrecent"])
def test_gauge_without_room_takes_its_value_into_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """A gauge that was raised where the disk was full is not below 0 when it is lowered where there is room."""
    disk = Disk(monkeypatch, 0)
    app = App(tmp_path)
    busy = gauge(mode)
    if mode == "mostrecent":
        busy.set(3)
    else:
        busy.inc(3)
    assert app.page() == {}
    disk.room = 1 << 20
    app.place.changed(str(tmp_path))
    if mode == "mostrecent":
        busy.set(2)
    else:
        busy.dec()
    assert (read(busy), app.page()) == ({"busy": 2}, {"busy": 2})


def test_amount_that_is_no_number_changes_nothing(tmp_path: Path) -> None:
    """It is refused, and the metric goes on."""
    app = App(tmp_path)
    busy = gauge()
    with pytest.raises(Exception, match="float"):
        busy.inc(1j)
    busy.inc()
    assert (read(busy), app.page()) == ({"busy": 1}, {"busy": 1})


def test_value_has_the_attributes_of_prometheus_clients_own(tmp_path: Path) -> None:
    """Applications read and set ``_value`` of a value, with its lock held."""
    app = App(tmp_path)
    orders: Counter = counter()
    orders.inc(3)
    value = orders._value
    assert value._value == 3
    with value._lock:
        value._value = 0.0
    orders.inc()
    assert (value._value, app.page()) == (1, {"orders_total": 1})


class Lazy:
    """A text that is translated when it is needed."""

    def __str__(self) -> str:
        return "Bestellungen."


class Broken:
    """A text that cannot be."""

    def __str__(self) -> str:
        raise LookupError


class Odd(str):
    """A text with ideas of its own."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        raise LookupError

    def __hash__(self) -> int:
        raise LookupError

    def __str__(self) -> str:
        return self


@pytest.mark.parametrize("text", [Lazy(), Broken(), Odd("Help."), None, 7])
def test_help_text_that_is_no_string_is_taken(tmp_path: Path, text: Any) -> None:
    """A metric with a help text that is translated later is made, and is on the page."""
    app = App(tmp_path)
    Counter("orders", text, registry=None).inc()
    assert app.page() == {"orders_total": 1}


def test_label_value_of_a_class_of_strings_is_taken(tmp_path: Path) -> None:
    """What a class of strings does when it is compared is not called."""
    app = App(tmp_path)
    values.ValueClass("counter", "orders", "orders_total", ("kind",), (Odd("a"),), "Help.").inc(2)
    assert app.total("orders_total") == 2
