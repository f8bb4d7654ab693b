"""What the master keeps, and the bound of each: nothing grows with time, generations, requests or their paths."""

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
from gunicorn_prom_hooks.master import exits as deaths
from gunicorn_prom_hooks.master.exit_log import MAX_ENDS
from gunicorn_prom_hooks.master.exit_reason import MAX_NEWS, MAX_REQUESTS, MAX_ROUTINE, Death
from gunicorn_prom_hooks.master.exits import MAX_LINES
from gunicorn_prom_hooks.master.master import Master
from gunicorn_prom_hooks.model.exits import ExitReason
from gunicorn_prom_hooks.settings import Settings
from gunicorn_prom_hooks.shm.allocator import MAX_CORRUPT, SlotAllocator
from gunicorn_prom_hooks.shm.index import CorruptIndex
from gunicorn_prom_hooks.shm.layout import DIRECTORY_BYTES, RUNNING_AT
from gunicorn_prom_hooks.shm.schema import MAX_PATHS
from gunicorn_prom_hooks.shm.stack_file import Stacks
from gunicorn_prom_hooks.status.builder import StatusBuilder
from gunicorn_prom_hooks.status.history import KEEP_SECONDS, SPACING_SECONDS
from gunicorn_prom_hooks.worker.recording.recorder import METHODS, Recorder
from tests.helpers.recording import new_slot
from tests.helpers.snapshots import begin, request

ENDPOINTS, WORKERS = 20, 3
LABELS = (len(METHODS) + 1) * (ENDPOINTS + 2)
ENDS = len(ExitReason) * (256 + 65)
"""Reasons, and exit codes and signals."""


class Kernel:
    """It has killed nobody for want of memory."""

    def look(self) -> None:
        """Nothing to see."""

    def claim(self) -> bool:
        """It was not the kernel."""
        return False


class Log:
    """gunicorn's logger, which forgets everything."""

    def __getattr__(self, level: str) -> Any:
        return lambda *args, **kwargs: None


class House:
    """A master, its page and its status page, and a world that never does the same thing twice."""

    def __init__(self) -> None:
        self.server: Any = SimpleNamespace(
            cfg=Config(), log=Log(), WORKERS={}, LISTENERS=[], num_workers=WORKERS, timeout=30
        )
        self.errors = ErrorReporter()
        self.errors.log = self.server.log
        self.master = Master(self.server, Settings(port=0, max_endpoints=ENDPOINTS), self.errors)
        self.page = MetricsPage(self.master.view, self.errors)
        self.status = StatusBuilder(lambda snapshot: {}, lambda snapshot: [])
        self._chance = random.Random(1)
        self._age = 0
        self._clock = 0.0

    def generation(self) -> None:
        """A worker comes, serves requests of its own, and is killed in the middle of others; gunicorn logs it."""
        self._age += 1
        age, chance = self._age, self._chance
        worker: Any = SimpleNamespace(age=age, pid=10_000_000 + age, aborted=age % 7 == 0, cfg=self.server.cfg)
        worker.tmp = SimpleNamespace(last_update=lambda: 0.0)
        self.master.forking(worker)
        self.server.WORKERS[worker.pid] = worker
        member = self.master.member(worker)
        assert member is not None
        slot = member.lease.slot
        slot.header[RUNNING_AT] = 1.0
        recorder = Recorder(slot, ENDPOINTS)
        method = chance.choice([*METHODS, "<other>"])
        endpoint = recorder.endpoint(f"/served/x{age}")
        request(member.lease, recorder, labels=(method, endpoint, 200 + age % 3))
        recorder.path(method, f"/path/x{age}")
        for number in range(12):
            begin(member.lease, float(1 + number), number, method=method, path=f"/killed/y{age}-{number}")
        if age % 10 == 0:
            self.scrape()
        if age % 5 == 0:
            self.master.reloaded()
            self.master.resized(WORKERS)
        how: Any = chance.choice(("SIGKILL", "SIGSEGV", "SIGTERM", 1, 3 + age % 250))
        text = (
            "Worker (pid:%s) was sent %s! Perhaps out of memory?"
            if isinstance(how, str)
            else "Worker (pid:%s) exited with code %s."
        )
        self.master.listen(text, (worker.pid, how))
        self.master.listen(f"something else {age}", ())
        self.master.message(("error", "info")[age % 2])
        del self.server.WORKERS[worker.pid]
        self.master.left(worker)

    def scrape(self) -> None:
        """Somebody looks at both pages, a second after the last time."""
        list(self.page.collect())
        self._clock += SPACING_SECONDS
        view = self.master.view()
        object.__setattr__(view, "clock", self._clock)
        self.status.build(view)

    def others(self, first: int, count: int) -> None:
        """Children that are no workers end: gunicorn logs each."""
        for pid in range(first, first + count):
            self.master.listen("Worker (pid:%s) exited with code %s.", (pid, 1))

    def sizes(self) -> dict[str, int]:
        """The length of everything that the house keeps, by where it is."""
        found: dict[str, int] = {}
        for name, root in (("master", self.master), ("page", self.page), ("status", self.status)):
            for where, size in walked(name, root, set()):
                found[where] = max(size, found.get(where, 0))
        return found


def walked(name: str, thing: Any, seen: set[int]) -> Iterator[tuple[str, int]]:
    """Where each container is that can be reached from here, by attributes, and its length."""
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
    "master._deaths.ends._ends": MAX_ENDS,
    "master._deaths.ends.messages": 5,
    "master._deaths.exit_stats.exits": ENDS,
    "master._deaths.exit_stats.restarts": 3,
    "master._deaths.exit_stats.killed": LABELS * len(ExitReason),
    "master._deaths.exit_stats._news": MAX_NEWS,
    "master._deaths.exit_stats._routine": MAX_ROUTINE,
    "master._deaths.exit_stats._news[].requests": MAX_REQUESTS,
    "master._deaths._lines": MAX_LINES,
    "master._deaths._cap._shown": ENDPOINTS,
    "master._deaths._cap.folded": 0,
    "master._workers._members": WORKERS,
    "master._workers._left": WORKERS,
    "master._workers.departed": WORKERS,
    "master._workers.leases.readers": WORKERS + MAX_CORRUPT,
    "master._workers.leases._taken": WORKERS,
    "master._workers.leases.readers[].series[].labels": LABELS * 4 + MAX_PATHS,
    "master._workers.leases.readers[].series[].offsets": LABELS * 4 + MAX_PATHS,
    "master._workers.leases.readers[]._index._places": LABELS * 4,
    "master._cap._shown": ENDPOINTS,
    "master._cap.folded": WORKERS * ENDPOINTS,
    "master._errors.counts": 30,
    "master._errors._last": 30,
    "page._collectors": 20,
    "page._runner._threads": 20,
    "status._history._samples": int(KEEP_SECONDS / SPACING_SECONDS) + 1,
    "status._history._places": LABELS,
}
"""What the master keeps, and how much of it at most. What is in none of these lines must be short."""


@pytest.fixture
def house(monkeypatch: pytest.MonkeyPatch) -> House:
    """A house on a kernel that kills nobody."""
    monkeypatch.setattr(deaths, "OomKills", Kernel)
    return House()


def test_everything_has_a_bound(house: House) -> None:
    """After hundreds of generations and thousands of ends each thing is within its bound, and grows no more."""
    house.others(1, MAX_ENDS + 500)
    for _ in range(660):
        house.generation()
    before = house.sizes()
    house.others(1_000_000, MAX_ENDS)
    for _ in range(600):
        house.generation()
    after = house.sizes()
    assert house.errors.counts == {}
    assert BOUNDS.keys() <= after.keys() | {"master._workers.leases._taken"}
    for where, bound in BOUNDS.items():
        assert after.get(where, 0) <= bound, where
    unnamed = {where: size for where, size in after.items() if where not in BOUNDS and size > 64}
    assert unnamed == {}
    # Reasons, signals, codes and methods come up as chance has it; nothing else is new after so many generations.
    by_chance = ("master._deaths.exit_stats.exits", "master._deaths.exit_stats.killed")
    grown = {where: (before.get(where, 0), size) for where, size in after.items() if size > before.get(where, 0)}
    assert {where: sizes for where, sizes in grown.items() if where not in by_chance} == {}


def test_killed_requests_leave_no_paths_behind(house: House) -> None:
    """However many different paths killed requests had, so many are kept as there may be endpoints."""
    for number in range(100_000):
        house.master._deaths.exit_stats.book(Death(end="SIGKILL"), [("GET", f"/report/{'x' * 100}-{number:x}")])
    killed = house.master._deaths.exit_stats.killed
    assert sum(killed.values()) == 100_000
    assert len(killed) <= ENDPOINTS + 1
    sizes = {where: size for where, size in house.sizes().items() if where.startswith("master._deaths.")}
    assert max(sizes.values()) <= max(ENDPOINTS + 1, len(house.master._deaths.exit_stats.exits))


def test_a_raised_limit_of_killed_endpoints_counts_on() -> None:
    """What was counted as another endpoint stays so, what comes now has its own: no series goes backwards."""
    books = deaths.WorkerExits(Log(), ErrorReporter(), 1, Stacks())
    for path in ("/a", "/b", "/c"):
        books.exit_stats.book(Death(end="SIGKILL"), [("GET", path)])
    books.limit_endpoints(3)
    for path in ("/b", "/a"):
        books.exit_stats.book(Death(end="SIGKILL"), [("GET", path)])
    found = {endpoint: count for (_, endpoint, _), count in books.exit_stats.killed.items()}
    assert found == {"/a": 2, "<other>": 2, "/b": 1}


def test_names_that_clash_are_told_so_often_and_no_more() -> None:
    """An application that makes up names has so many of them remembered."""
    conflicts = NameConflicts(ErrorReporter())
    for number in range(20_000):
        name = f"gunicorn_x_{number}"
        list(conflicts.without_conflicts([GaugeMetricFamily(name, "x")], [GaugeMetricFamily(name, "x")]))
    assert len(conflicts._reported) == MAX_REPORTED


def test_an_application_that_writes_into_every_slot() -> None:
    """So many slots are lost to it, and then workers are not measured: memory does not grow with generations."""
    leases, mapped = SlotAllocator(new_slot), 0
    for age in range(1, 200):
        try:
            lease = leases.take(age, 0.0)
        except CorruptIndex:
            continue
        mapped += 1
        lease.slot.header[DIRECTORY_BYTES] = float("nan")
        leases.give_back(lease)
    assert mapped == len(leases.readers) == MAX_CORRUPT
