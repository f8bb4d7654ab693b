"""The bound of each container in the master: none grows with time, generations, requests or their paths."""

from __future__ import annotations

import random
from array import array
from collections import deque
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from gunicorn.config import Config
from prometheus_client.core import GaugeMetricFamily

from gunicorn_prom_hooks.collectors import MetricsPage
from gunicorn_prom_hooks.collectors.name_conflicts import MAX_REPORTED, NameConflicts
from gunicorn_prom_hooks.errors import ErrorReporter
from gunicorn_prom_hooks.master.exit_log import MAX_PENDING
from gunicorn_prom_hooks.master.exit_reason import MAX_NOTABLE, MAX_REQUESTS, MAX_ROUTINE, ExitFacts
from gunicorn_prom_hooks.master.exits import MAX_LINES, WorkerExits
from gunicorn_prom_hooks.master.master import Master
from gunicorn_prom_hooks.model.exits import ExitReason
from gunicorn_prom_hooks.settings import Settings
from gunicorn_prom_hooks.shm.allocator import MAX_CORRUPT, SlotAllocator
from gunicorn_prom_hooks.shm.index import CorruptIndex
from gunicorn_prom_hooks.shm.layout import DIRECTORY_BYTES, RUNNING_AT
from gunicorn_prom_hooks.shm.schema import DEFAULT_BUCKETS, MAX_PATHS
from gunicorn_prom_hooks.shm.stack_file import StackFile
from gunicorn_prom_hooks.status.builder import StatusBuilder
from gunicorn_prom_hooks.status.history import KEEP_SECONDS, SPACING_SECONDS
from gunicorn_prom_hooks.worker.recording.recorder import METHODS, Recorder
from tests.helpers.recording import new_slot
from tests.helpers.snapshots import begin, request

ENDPOINTS, WORKERS = 20, 3
LABELS = (len(METHODS) + 1) * (ENDPOINTS + 2)
ENDS = len(ExitReason) * (256 + 65)
"""Reasons, and exit codes and signals."""


class Log:
    """gunicorn's logger; it keeps nothing."""

    def __getattr__(self, level: str) -> Any:
        return lambda *args, **kwargs: None


class Simulation:
    """A master, its page and its status page, with workers and requests that are never the same twice."""

    def __init__(self) -> None:
        self.server: Any = SimpleNamespace(
            cfg=Config(), log=Log(), WORKERS={}, LISTENERS=[], num_workers=WORKERS, timeout=30
        )
        self.errors = ErrorReporter()
        self.errors.log = self.server.log
        self.master = Master(self.server, Settings(port=0, max_endpoints=ENDPOINTS), self.errors)
        self.page = MetricsPage(self.master.take_snapshot, self.errors)
        self.status = StatusBuilder(lambda snapshot: {}, lambda snapshot: [])
        self._chance = random.Random(1)
        self._age = 0
        self._clock = 0.0

    def generation(self) -> None:
        """Fork a worker that serves new requests and is killed while others are in progress; gunicorn logs the exit."""
        self._age += 1
        age, chance = self._age, self._chance
        worker: Any = SimpleNamespace(age=age, pid=10_000_000 + age, aborted=age % 7 == 0, cfg=self.server.cfg)
        worker.tmp = SimpleNamespace(last_update=lambda: 0.0)
        self.master.before_fork(worker)
        self.server.WORKERS[worker.pid] = worker
        tracked = self.master.tracked_worker(worker)
        assert tracked is not None
        slot = tracked.lease.slot
        slot.header[RUNNING_AT] = 1.0
        recorder = Recorder(slot, ENDPOINTS)
        method = chance.choice([*METHODS, "<other>"])
        endpoint = recorder.endpoint(f"/served/x{age}")
        request(tracked.lease, recorder, labels=(method, endpoint, 200 + age % 3))
        recorder.path(method, f"/path/x{age}")
        for number in range(12):
            begin(tracked.lease, float(1 + number), number, method=method, path=f"/killed/y{age}-{number}")
        if age % 10 == 0:
            self.scrape()
        if age % 5 == 0:
            self.master.note_reload()
            self.master.note_resize(WORKERS)
        status: Any = chance.choice(("SIGKILL", "SIGSEGV", "SIGTERM", 1, 3 + age % 250))
        text = (
            "Worker (pid:%s) was sent %s! Perhaps out of memory?"
            if isinstance(status, str)
            else "Worker (pid:%s) exited with code %s."
        )
        self.master.observe_message(text, (worker.pid, status))
        self.master.observe_message(f"something else {age}", ())
        self.master.count_message(("error", "info")[age % 2])
        del self.server.WORKERS[worker.pid]
        self.master.worker_exited(worker)

    def scrape(self) -> None:
        """Render both pages, a second after the last time."""
        list(self.page.collect())
        self._clock += SPACING_SECONDS
        snapshot = self.master.take_snapshot()
        object.__setattr__(snapshot, "clock", self._clock)
        self.status.build(snapshot)

    def others(self, first: int, count: int) -> None:
        """Let children that are not workers exit: gunicorn logs each."""
        for pid in range(first, first + count):
            self.master.observe_message("Worker (pid:%s) exited with code %s.", (pid, 1))

    def sizes(self) -> dict[str, int]:
        """Return the length of each container by its path."""
        found: dict[str, int] = {}
        for name, root in (("master", self.master), ("page", self.page), ("status", self.status)):
            for where, size in walked(name, root, set()):
                found[where] = max(size, found.get(where, 0))
        return found


def walked(name: str, thing: Any, seen: set[int]) -> Iterator[tuple[str, int]]:
    """Yield path and length of each container that is reachable by attributes."""
    if id(thing) in seen:
        return
    seen.add(id(thing))
    if isinstance(thing, (dict, list, set, frozenset, deque, tuple, array)):
        yield name, len(thing)
        items = (
            [*thing.keys(), *thing.values()] if isinstance(thing, dict) else [] if isinstance(thing, array) else thing
        )
        for item in items:
            yield from walked(f"{name}[]", item, seen)
    elif type(thing).__module__.startswith("gunicorn_prom_hooks"):
        for attribute in [*getattr(thing, "__dict__", ()), *getattr(thing, "__slots__", ())]:
            if attribute not in ("server", "settings"):
                yield from walked(f"{name}.{attribute}", getattr(thing, attribute, None), seen)


BOUNDS = {
    "master._exits.exit_log._pending": MAX_PENDING,
    "master._exits.exit_log.messages": 5,
    "master._exits.exit_stats.exits": ENDS,
    "master._exits.exit_stats.restarts": 3,
    "master._exits.exit_stats.killed": LABELS * len(ExitReason),
    "master._exits.exit_stats._since": ENDS + LABELS * len(ExitReason),
    "master._exits.exit_stats._notable": MAX_NOTABLE,
    "master._exits.exit_stats._routine": MAX_ROUTINE,
    "master._exits.exit_stats._notable[].requests": MAX_REQUESTS,
    "master._exits._lines": MAX_LINES,
    "master._exits.exit_stats._cap._shown": ENDPOINTS,
    "master._exits.exit_stats._cap.folded": 0,
    "master._workers._by_age": WORKERS,
    "master._workers._queued_exits": WORKERS,
    "master._workers.departed": WORKERS,
    "master._workers.allocator.readers": WORKERS + MAX_CORRUPT,
    "master._workers.allocator._leases": WORKERS,
    "master._workers.allocator.readers[].series[].labels": LABELS * 4 + MAX_PATHS,
    "master._workers.allocator.readers[].series[].offsets": LABELS * 4 + MAX_PATHS,
    "master._workers.allocator.readers[]._index._locations": LABELS * 4,
    "master._cap._shown": ENDPOINTS,
    "master._cap.folded": WORKERS * ENDPOINTS,
    "master._errors._counts": 30,
    "master._errors._last": 30,
    "page._collectors": 20,
    "page._runner._threads": 20,
    "status._history._samples": int(KEEP_SECONDS / SPACING_SECONDS) + 1,
    "status._history._samples[].endpoints": LABELS,
    "status._history._samples[].endpoints[]": len(DEFAULT_BUCKETS.bounds) + 1,
    "status._history._places": LABELS,
}
"""Maximum lengths by path. All other containers must be short."""


@pytest.fixture
def simulation(no_oom_kills: None) -> Simulation:
    """A simulation without OOM kills."""
    return Simulation()


def test_every_container_is_bounded(simulation: Simulation) -> None:
    """After hundreds of generations and thousands of exits each container is within its bound, and stops growing."""
    simulation.others(1, MAX_PENDING + 500)
    for _ in range(660):
        simulation.generation()
    before = simulation.sizes()
    simulation.others(1_000_000, MAX_PENDING)
    for _ in range(600):
        simulation.generation()
    after = simulation.sizes()
    assert simulation.errors.counts == {}
    assert BOUNDS.keys() <= after.keys() | {"master._workers.allocator._leases"}
    for where, bound in BOUNDS.items():
        assert after.get(where, 0) <= bound, where
    unnamed = {where: size for where, size in after.items() if where not in BOUNDS and size > 64}
    assert unnamed == {}
    # Reasons, signals, codes and methods come up as chance has it; nothing else is new after so many generations.
    by_chance = tuple(f"master._exits.exit_stats.{name}" for name in ("exits", "killed", "_since"))
    grown = {where: (before.get(where, 0), size) for where, size in after.items() if size > before.get(where, 0)}
    assert {where: sizes for where, sizes in grown.items() if where not in by_chance} == {}


def test_paths_of_killed_requests_are_not_kept(simulation: Simulation) -> None:
    """For any number of different paths, no more than max_endpoints are kept."""
    for number in range(100_000):
        simulation.master._exits.exit_stats.count(
            ExitFacts(status="SIGKILL"), [("GET", f"/report/{'x' * 100}-{number:x}")]
        )
    killed = simulation.master._exits.exit_stats.killed
    assert sum(killed.values()) == 100_000
    assert len(killed) <= ENDPOINTS + 1
    sizes = {where: size for where, size in simulation.sizes().items() if where.startswith("master._exits.")}
    exits = len(simulation.master._exits.exit_stats.exits)
    assert sizes.pop("master._exits.exit_stats._since") <= exits + len(killed) + len(ExitReason)
    assert max(sizes.values()) <= max(ENDPOINTS + 1, exits)


def test_raised_max_endpoints_applies_to_later_killed_requests() -> None:
    """What was counted as other stays so, new endpoints get their own series: none goes backwards."""
    exits = WorkerExits(Log(), ErrorReporter(), 1, StackFile())
    for path in ("/a", "/b", "/c"):
        exits.exit_stats.count(ExitFacts(status="SIGKILL"), [("GET", path)])
    exits.exit_stats.limit_endpoints(3)
    for path in ("/b", "/a"):
        exits.exit_stats.count(ExitFacts(status="SIGKILL"), [("GET", path)])
    found = {endpoint: count for (_, endpoint, _), count in exits.exit_stats.killed.items()}
    assert found == {"/a": 2, "<other>": 2, "/b": 1}


def test_logged_name_conflicts_are_bounded() -> None:
    """An application that makes up metric names has a bounded number of them remembered."""
    conflicts = NameConflicts(ErrorReporter())
    for number in range(20_000):
        name = f"gunicorn_x_{number}"
        list(conflicts.without_conflicts([GaugeMetricFamily(name, "x")], [GaugeMetricFamily(name, "x")]))
    assert len(conflicts._reported) == MAX_REPORTED


def test_replaced_corrupt_slots_are_bounded() -> None:
    """After MAX_CORRUPT corrupt slots no more are mapped: memory does not grow with generations."""
    allocator, mapped = SlotAllocator(new_slot), 0
    for age in range(1, 200):
        try:
            lease = allocator.lease(age, 0.0)
        except CorruptIndex:
            continue
        mapped += 1
        lease.slot.header[DIRECTORY_BYTES] = float("nan")
        allocator.release(lease)
    assert mapped == len(allocator.readers) == MAX_CORRUPT
