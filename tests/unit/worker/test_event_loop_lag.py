"""How late event loops are: the arithmetic, what a worker counts, what a scrape makes of it."""

from __future__ import annotations

import asyncio
import functools
import os
import random
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from gunicorn_prom_hooks.collectors.workers import EventLoopLag
from gunicorn_prom_hooks.errors import ErrorReporter
from gunicorn_prom_hooks.model.server_snapshot import ServerSnapshot
from gunicorn_prom_hooks.shm import schema
from gunicorn_prom_hooks.shm.layout import LOOP_DUE
from gunicorn_prom_hooks.shm.schema import LAG_BUCKETS, LOOP_LAG
from gunicorn_prom_hooks.worker import event_loop_lag
from gunicorn_prom_hooks.worker.event_loop_lag import LoopTimer
from tests.helpers.places import TOP
from tests.helpers.recording import Recorded
from tests.helpers.snapshots import SimulatedServer, one, samples

LAGS, BLOCKED = "gunicorn_worker_event_loop_lag_seconds", "gunicorn_worker_event_loop_blocked_seconds"
ID = "worker_1"


def brute(lag: float) -> list[float]:
    """The samples one by one."""
    found = []
    while lag >= 0.0:
        found.append(lag)
        lag -= schema.LAG_PERIOD_SECONDS
    return found


@pytest.mark.parametrize("lag", [0.0, 0.001, 0.005, 0.3, 0.499, 0.5, 0.7, 1.2, 3.3, 9.9, 10.0, 10.2, 61.7, 3600.1])
def test_lag_samples_of_a_late_timer_include_the_missed_timers(lag: float) -> None:
    """Number, smallest, sum and buckets are those of the samples counted one by one."""
    expected = brute(lag)
    number, smallest, total = schema.lag_samples(lag)
    assert number == len(expected)
    assert smallest == pytest.approx(min(expected), abs=1e-6)
    assert total == pytest.approx(sum(expected))
    counts = schema.lag_samples_per_bucket(lag)
    assert len(counts) == len(LAG_BUCKETS) + 1
    assert min(counts) >= 0
    assert sum(counts) == number
    for at, bound in enumerate(LAG_BUCKETS):
        exact = sum(sample <= bound for sample in expected)
        edge = sum(abs(sample - bound) < 1e-6 for sample in expected)
        assert abs(sum(counts[: at + 1]) - exact) <= edge


def test_lag_of_30_days_is_counted_at_once() -> None:
    """A process that was stopped for a month counts all at once."""
    assert sum(schema.lag_samples_per_bucket(30 * 86400.0)) == 2 * 30 * 86400 + 1


class Clock:
    """The time, as the worker and the scrape see it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(event_loop_lag, "monotonic", lambda: self.now)


class Loop:
    """A loop that the test runs by hand, with the timer in it, which is due at the end of each period."""

    def __init__(self, recorded: Any, monkeypatch: pytest.MonkeyPatch, errors: ErrorReporter | None = None) -> None:
        self.calls: list[Any] = []
        self.waits: list[float] = []
        self.moment = 1.0
        self.fails = False
        self.beats = 0
        self.clock = Clock(monkeypatch)
        monkeypatch.setattr(event_loop_lag, "_running_loop", lambda worker: self.later)
        self.worker: Any = Worker(self)
        self.timer = LoopTimer(recorded, errors or ErrorReporter())
        self.timer._random = lambda: self.moment
        self.timer.start_with(self.worker)

    def later(self, seconds: float, call: Any) -> None:
        """Sets a timer."""
        if self.fails:
            raise RuntimeError("the loop is closed")
        self.waits.append(seconds)
        self.calls.append(call)

    def come(self, at: float) -> None:
        """The timer comes, at this time."""
        self.clock.now = at
        self.calls.pop()()


class Worker:
    """gunicorn's, with a heartbeat."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop

    def notify(self) -> str:
        """The heartbeat."""
        self._loop.beats += 1
        return "beat"


def test_timer_starts_at_the_first_heartbeat_and_notify_is_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """No timer before, one after it, and the worker's own method is then in its place again."""
    recorded = Recorded()
    loop = Loop(recorded.recorder, monkeypatch)
    assert (loop.calls, recorded.slot.header[LOOP_DUE]) == ([], 0.0)
    assert loop.worker.notify() == "beat"
    assert "notify" not in vars(loop.worker)
    assert len(loop.calls) == 1
    assert recorded.slot.header[LOOP_DUE] == 100.5
    assert loop.worker.notify() == "beat"
    assert (loop.beats, len(loop.calls)) == (2, 1)


def test_notify_that_the_user_has_set_is_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """A function that a hook of the user's has set on this worker, as for a watchdog, is called at each heartbeat."""
    loop = Loop(Recorded().recorder, monkeypatch)
    calls = []
    worker: Any = Worker(loop)
    worker.notify = theirs = lambda: calls.append(loop.clock.now)
    loop.timer.start_with(worker)
    assert worker.notify is not theirs
    worker.notify()
    worker.notify()
    assert worker.notify is theirs
    assert (calls, len(loop.calls)) == ([100.0, 100.0], 1)


def test_replaced_notify_stays_and_only_one_timer_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A function that other code has put around our wrapper stays, and the wrapper starts one timer only."""
    loop = Loop(Recorded().recorder, monkeypatch)
    ours = loop.worker.notify
    loop.worker.notify = functools.partial(ours)
    theirs = loop.worker.notify
    assert [loop.worker.notify(), loop.worker.notify()] == ["beat", "beat"]
    assert loop.worker.notify is theirs
    assert len(loop.calls) == 1


def test_lags_are_counted_in_buckets_and_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each comes into its bucket, and into the sum; the next timer is due in the next period without a sample."""
    recorded = Recorded()
    loop = Loop(recorded.recorder, monkeypatch)
    loop.worker.notify()
    for at in (100.5, 101.0 + 0.02, 101.5 + 0.3, 102.0 + 1.2):
        loop.come(at)
    assert recorded.slot.header[LOOP_DUE] == pytest.approx(103.5)
    assert loop.waits == pytest.approx([0.5, 0.5, 0.48, 0.2, 0.3])
    (cells,) = recorded.series(LOOP_LAG).values()
    assert cells[0] == pytest.approx(0.02 + 0.3 + 1.2 + 0.7 + 0.2)
    found = {bound: count for bound, count in zip([*LAG_BUCKETS, None], cells[1:], strict=True) if count}
    assert found == {0.005: 1, 0.025: 1, 0.25: 1, 0.5: 1, 1.0: 1, 2.5: 1}


def test_next_due_time_is_written_before_the_lag_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scrape in between, or a worker that is killed there, misses a sample: none is ever in there twice."""
    recorded = Recorded()
    loop = Loop(recorded.recorder, monkeypatch)
    loop.worker.notify()
    moments = []

    def later(seconds: float, call: Any) -> None:
        moments.append((recorded.slot.header[LOOP_DUE], recorded.series(LOOP_LAG)))

    loop.later = later  # type: ignore[method-assign]
    loop.timer._later = later
    loop.come(100.9)
    assert moments == [(101.0, {})]
    assert recorded.series(LOOP_LAG)


def test_next_sample_of_a_period_that_has_begun_may_be_due_already(monkeypatch: pytest.MonkeyPatch) -> None:
    """The moment is chosen in advance: what became ready at it has waited since, and is called at once."""
    recorded = Recorded()
    loop = Loop(recorded.recorder, monkeypatch)
    loop.worker.notify()
    loop.moment = 0.2
    loop.come(100.9)
    assert recorded.slot.header[LOOP_DUE] == pytest.approx(100.6)
    assert loop.waits[-1] == 0.0
    loop.come(100.9)
    (cells,) = recorded.series(LOOP_LAG).values()
    assert cells[0] == pytest.approx(0.4 + 0.3)


@pytest.mark.parametrize("seconds", [0.02, 0.1, 0.25, 0.3, 0.5, 1.0])
def test_samples_are_those_of_random_moments_in_a_loop_with_equal_calls(
    monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    """Of calls that follow each other and take equally long, an event waits for half of one, and evenly up to one."""
    recorded = Recorded()
    loop = Loop(recorded.recorder, monkeypatch)
    loop.timer._random = random.Random(11).random
    loop.worker.notify()
    now, ready = 100.0, 100.0 + loop.waits[-1]
    while now < 3100.0:
        now += seconds
        while loop.calls and ready <= now:
            loop.come(now)
            ready = now + loop.waits[-1]
    (cells,) = recorded.series(LOOP_LAG).values()
    number = sum(cells[1:])
    assert number == pytest.approx(6000, abs=3)
    assert cells[0] / number == pytest.approx(seconds / 2, rel=0.05)
    for at, bound in enumerate(LAG_BUCKETS):
        if bound < seconds:
            assert sum(cells[1 : at + 2]) / number == pytest.approx(bound / seconds, abs=0.03)


def test_early_timer_has_lag_0(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop's clock may be some microseconds ahead: that is no negative lag."""
    recorded = Recorded()
    loop = Loop(recorded.recorder, monkeypatch)
    loop.worker.notify()
    loop.come(100.4999)
    (cells,) = recorded.series(LOOP_LAG).values()
    assert cells[:2] == [0.0, 1.0]


def test_stopped_timer_counts_nothing_and_is_not_set_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker on its way out has no loop that could be blocked, and the timer does not come again."""
    recorded = Recorded()
    loop = Loop(recorded.recorder, monkeypatch)
    loop.worker.notify()
    loop.timer.stop()
    assert recorded.slot.header[LOOP_DUE] == 0.0
    loop.come(109.0)
    assert (loop.calls, recorded.series(LOOP_LAG)) == ([], {})
    assert recorded.slot.header[LOOP_DUE] == 0.0


def test_forked_process_counts_no_lag(monkeypatch: pytest.MonkeyPatch) -> None:
    """It inherits the loop with the timer in it, and the slot."""
    recorded = Recorded()
    loop = Loop(recorded.recorder, monkeypatch)
    loop.worker.notify()
    pid = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: pid + 1)
    loop.come(102.0)
    assert (loop.calls, recorded.series(LOOP_LAG)) == ([], {})


def test_failed_timer_is_an_exporter_error_and_the_heartbeat_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the heartbeat nor the loop gets to see that a timer cannot be set."""
    errors = ErrorReporter()
    loop = Loop(Recorded().recorder, monkeypatch, errors)
    loop.fails = True
    assert loop.worker.notify() == "beat"
    assert errors.counts == {"event_loop_lag": 1}
    loop = Loop(Recorded().recorder, monkeypatch, errors)
    loop.worker.notify()
    loop.fails = True
    loop.come(100.6)
    assert errors.counts == {"event_loop_lag": 2}


def test_worker_without_a_replaceable_notify_is_an_exporter_error() -> None:
    """An unknown class without a heartbeat, or with one that cannot be replaced, costs the lag alone."""
    errors = ErrorReporter()

    class Fixed:
        __slots__ = ()

        def notify(self) -> None:
            """A heartbeat that nothing can be put in front of."""

    for worker in (object(), Fixed()):
        LoopTimer(Recorded().recorder, errors).start_with(worker)
    assert errors.counts == {"event_loop_lag": 2}


def test_worker_without_a_loop_has_no_timer() -> None:
    """A worker that runs none has no timer, and its heartbeat is its own from the first one on."""
    recorded = Recorded()
    worker = Worker(SimpleNamespace(beats=0))  # type: ignore[arg-type]
    LoopTimer(recorded.recorder, ErrorReporter()).start_with(worker)
    assert worker.notify() == "beat"
    assert "notify" not in vars(worker)
    assert recorded.slot.header[LOOP_DUE] == 0.0


def test_asyncio_loop_closes_with_a_pending_timer() -> None:
    """No task is in the loop, nothing is said to its exception handler, and it closes at once."""
    recorded = Recorded()
    worker = Worker(SimpleNamespace(beats=0))  # type: ignore[arg-type]
    LoopTimer(recorded.recorder, ErrorReporter()).start_with(worker)
    told: list[Any] = []

    async def serve() -> int:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))
        worker.notify()
        return len(asyncio.all_tasks())

    assert asyncio.run(serve(), debug=True) == 1
    assert told == []
    assert recorded.slot.header[LOOP_DUE] > 0.0


GEVENT = """
import sys, time
sys.path[:0] = sys.argv[1:]
import gevent
from tests.helpers.recording import Recorded
from gunicorn_prom_hooks.errors import ErrorReporter
from gunicorn_prom_hooks.shm.schema import LOOP_LAG
from gunicorn_prom_hooks.worker.event_loop_lag import LoopTimer

class Base:
    def notify(self):
        pass

GeventWorker = type("GeventWorker", (Base,), {"__module__": "gunicorn.workers.ggevent"})
recorded, worker = Recorded(), GeventWorker()
LoopTimer(recorded.recorder, ErrorReporter()).start_with(worker)
worker.notify()
gevent.sleep(1.3)
((total, *counts),) = recorded.series(LOOP_LAG).values()
print(sum(counts) in (2.0, 3.0))
try:
    gevent.get_hub().switch()
except gevent.exceptions.LoopExit:
    print("nothing else to do")
"""


def test_gevent_loop_ends_with_a_pending_timer() -> None:
    """The timer comes once in each half second, and is nothing that a loop with nothing else to do waits for."""
    result = subprocess.run(
        [sys.executable, "-c", GEVENT, str(TOP)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.stdout == "True\nnothing else to do\n", result.stderr


def page(server: SimulatedServer, collector: EventLoopLag) -> Any:
    """What the collector says."""
    return samples(collector.collect(server.snapshot()))


def test_blocked_loop_is_in_the_scrape_while_blocked_and_after(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has not come yet counts above all bounds, and in the sum; when it has come, in its buckets."""
    server = SimulatedServer()
    lease, recorder = server.add_worker(1)
    collector = EventLoopLag()
    loop = Loop(recorder, monkeypatch)
    assert page(server, collector) == {}  # it does not serve yet
    loop.worker.notify()
    found = page(server, collector)
    assert (one(found, LAGS + "_count", worker_id=ID), one(found, BLOCKED, worker_id=ID)) == (0.0, 0.0)
    server.clock = 100.5 + 1.2
    found = page(server, collector)
    assert one(found, BLOCKED, worker_id=ID) == pytest.approx(1.2)
    assert one(found, LAGS + "_count", worker_id=ID) == one(found, LAGS + "_bucket", worker_id=ID, le="+Inf") == 3.0
    assert one(found, LAGS + "_bucket", worker_id=ID, le="10.0") == 0.0
    assert one(found, LAGS + "_sum", worker_id=ID) == pytest.approx(1.2 + 0.7 + 0.2)
    loop.come(102.0)
    server.clock = 102.1
    found = page(server, collector)
    assert one(found, BLOCKED, worker_id=ID) == 0.0
    assert one(found, LAGS + "_count", worker_id=ID) == 4.0
    assert one(found, LAGS + "_bucket", worker_id=ID, le="2.5") == 4.0
    assert one(found, LAGS + "_sum", worker_id=ID) == pytest.approx(1.5 + 1.0 + 0.5 + 0.0)
    assert lease.slot.header[LOOP_DUE] == 102.5


class Late:
    """A view that was taken at one moment, and is looked at when the timer has come meanwhile."""

    def __init__(self, server: SimulatedServer, loop: Loop, come: float) -> None:
        self._server, self._loop, self._come = server, loop, come

    def snapshot(self) -> ServerSnapshot:
        """Taken, and then the timer comes."""
        snapshot = self._server.snapshot()
        self._loop.come(self._come)
        return snapshot


def test_lag_counters_never_decrease_between_scrapes(monkeypatch: pytest.MonkeyPatch) -> None:
    """However scrapes and timers fall, also a timer between the copy and the look at it, no number ever goes down."""
    chance = random.Random(7)
    server = SimulatedServer()
    _, recorder = server.add_worker(1)
    loop = Loop(recorder, monkeypatch)
    loop.worker.notify()
    collector = EventLoopLag()
    before: dict[Any, float] = {}
    now = 100.0
    for _ in range(500):
        now += chance.choice((0.01, 0.3, 0.5, 2.0))
        server.clock = now
        due = recorder.slot.header[LOOP_DUE]
        kind = chance.randrange(3)
        if kind == 0 and due <= now:
            loop.come(now)
        view = Late(server, loop, now + 0.001).snapshot() if kind == 1 and due <= now else server.snapshot()
        found = samples(collector.collect(view))
        counted = {key: value for key, value in found.items() if key[0] != BLOCKED}
        assert all(value >= before.get(key, 0.0) for key, value in counted.items())
        cumulative = [one(found, LAGS + "_bucket", worker_id=ID, le=le) for le in (*LAG_BUCKETS, "+Inf")]
        assert cumulative == sorted(cumulative)
        before = counted
    (cells,) = server.snapshot().totals.series(LOOP_LAG.number).values()
    late = now - recorder.slot.header[LOOP_DUE]
    pending = schema.lag_samples(late)[0] if late > 0.0 else 0
    assert one(found, LAGS + "_count", worker_id=ID) == sum(cells[1:]) + pending


def test_lag_counters_of_a_successor_start_at_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next worker in the slot has counts of its own, and none before its loop runs."""
    server = SimulatedServer()
    lease, recorder = server.add_worker(1)
    collector = EventLoopLag()
    loop = Loop(recorder, monkeypatch)
    loop.worker.notify()
    loop.come(100.5)
    server.clock = 100.7
    assert one(page(server, collector), LAGS + "_count", worker_id=ID) == 1.0
    server.allocator.release(lease)
    _, recorder = server.add_worker(2)
    assert page(server, collector) == {}
    loop = Loop(recorder, monkeypatch)
    loop.worker.notify()
    server.clock = 100.2
    assert one(page(server, collector), LAGS + "_count", worker_id="worker_2") == 0.0
