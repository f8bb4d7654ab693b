"""The plan of a run: which fault happens when, made from the seed alone."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

WORKER_CLASSES: Final = {
    "sync": "sync",
    "gthread": "gthread",
    "gevent": "gevent",
    "tornado": "tornado",
    "asgi": "asgi",
    "uvicorn": "uvicorn_worker.UvicornWorker",
}
"""Each kind of worker, and gunicorn's setting for it."""
WORKERS, FEWEST, MOST = 3, 2, 5
WORKER_TIMEOUT: Final = 4.0
"""gunicorn's ``timeout``."""
APP_ATTACKS: Final = ("garbage", "tls_garbage", "reset", "connect_close", "half_closed", "huge_headers")
METRICS_ATTACKS: Final = (*APP_ATTACKS, "idle", "slow_writers", "slow_readers", "scrapes", "mixed")
CLOCK_STEPS: Final = (-86_400, -3_600, -5, 5, 3_600, 86_400)


class Fault(Enum):
    """What is done to the server."""

    KILL = "kill"
    SEGV = "segv"
    ABRT = "abrt"
    PAUSE = "pause"
    """STOP and, before the worker times out, CONT."""
    HANG = "hang"
    """STOP until the master has killed the worker."""
    HUP = "hup"
    TTIN = "ttin"
    TTOU = "ttou"
    USR1 = "usr1"
    USR2 = "usr2"
    """A new master takes over, then the old one is terminated."""
    PORT = "port"
    """Another process has the metrics port that a reload wants."""
    DISK = "disk"
    """The disk with the files of the application's metrics is full."""
    DESCRIPTORS = "descriptors"
    """Master and workers may open few more files."""
    CLOCK = "clock"
    """The wall clock steps, and steps back."""
    GARBAGE = "garbage"
    """A hostile client at the application's port."""
    METRICS_GARBAGE = "metrics garbage"
    """A hostile client at the metrics port."""


@dataclass(frozen=True)
class Event:
    """One fault.

    Attributes:
        at: seconds after the start of the faults.
        fault: what is done.
        seconds: for how long; of a fault that takes as long as it takes, what the plan leaves it.
        pick: which worker, from 0 to 1 over their list.
        detail: the attack, or the step of the clock.
    """

    at: float
    fault: Fault
    seconds: float = 0.0
    pick: float = 0.0
    detail: str = ""

    @property
    def end(self) -> float:
        """The planned end."""
        return self.at + self.seconds

    def __str__(self) -> str:
        """Return one line of the plan."""
        length = f" for {self.seconds:.1f} s" if self.seconds else ""
        return f"{self.at:6.1f} s  {self.fault.value}{' ' if self.detail else ''}{self.detail}{length}"


@dataclass(frozen=True)
class Plan:
    """All faults of one run.

    Attributes:
        seed: what it was made from, beside the kind of worker and the length.
        worker: the kind of worker, a key of ``WORKER_CLASSES``.
        seconds: for how long faults begin.
        preload: gunicorn's ``preload_app``.
        named_directory: whether ``PROMETHEUS_MULTIPROC_DIR`` is set.
        lanes: the events, one list for each thread that executes them one after the other.
    """

    seed: int
    worker: str
    seconds: float
    preload: bool
    named_directory: bool
    lanes: tuple[tuple[Event, ...], ...]

    @property
    def events(self) -> list[Event]:
        """All events in the order of their start."""
        return sorted((event for lane in self.lanes for event in lane), key=lambda event: event.at)

    def has(self, *faults: Fault) -> bool:
        """Return whether one of these faults is planned."""
        return any(event.fault in faults for lane in self.lanes for event in lane)

    def __str__(self) -> str:
        """Return the plan as text."""
        kind = f"preload_app={self.preload}, {'named' if self.named_directory else 'private'} directory"
        return "\n".join((f"{self.worker}, seed {self.seed}, {kind}", *map(str, self.events)))


def make_plan(seed: int, worker: str, seconds: float) -> Plan:
    """Return the plan of this seed: always the same one."""
    rng = random.Random(f"{seed} {worker}")
    preload, named_directory = rng.random() < 0.3, rng.random() < 0.3
    master = _master_lane(random.Random(f"{seed} {worker} master"), seconds)
    return Plan(
        seed,
        worker,
        seconds,
        preload,
        named_directory,
        (
            _worker_lane(random.Random(f"{seed} {worker} worker"), seconds),
            master,
            _environment_lane(random.Random(f"{seed} {worker} environment"), seconds, master),
        ),
    )


def _deal(rng: random.Random, faults: tuple[Fault, ...]) -> Callable[[], Fault]:
    """Return a function that returns each fault once per round, in an order of its own."""
    deck: list[Fault] = []

    def draw() -> Fault:
        if not deck:
            deck.extend(faults)
            rng.shuffle(deck)
        return deck.pop()

    return draw


def _worker_lane(rng: random.Random, seconds: float) -> tuple[Event, ...]:
    draw = _deal(rng, (*(Fault.KILL,) * 5, Fault.SEGV, Fault.ABRT, Fault.ABRT, Fault.PAUSE, Fault.PAUSE, Fault.HANG))
    events: list[Event] = []
    at = rng.uniform(0.2, 1.0)
    while at < seconds:
        fault = draw()
        length = {Fault.PAUSE: rng.uniform(0.1, 1.5), Fault.HANG: WORKER_TIMEOUT + 2.5}.get(fault, 0.0)
        if fault is Fault.HANG and at + length > seconds + 2:
            fault, length = Fault.KILL, 0.0
        events.append(Event(at, fault, length, rng.random()))
        at += length + rng.uniform(0.1, 1.2)
    return tuple(events)


def _master_lane(rng: random.Random, seconds: float) -> tuple[Event, ...]:
    draw = _deal(
        rng, (Fault.HUP, Fault.HUP, Fault.TTIN, Fault.TTIN, Fault.TTOU, Fault.TTOU, Fault.USR1, Fault.USR2, Fault.PORT)
    )
    takes = {Fault.HUP: 3.0, Fault.USR2: 8.0, Fault.PORT: 7.0}
    events: list[Event] = []
    at, target = rng.uniform(0.5, 1.5), WORKERS
    while at < seconds:
        fault = draw()
        if fault is Fault.TTIN and target >= MOST:
            fault = Fault.TTOU
        elif fault is Fault.TTOU and target <= FEWEST:
            fault = Fault.TTIN
        if fault in (Fault.TTIN, Fault.TTOU):
            target += 1 if fault is Fault.TTIN else -1
        elif fault is not Fault.USR1:
            target = WORKERS
        length = takes.get(fault, 0.0)
        events.append(Event(at, fault, length, rng.random()))
        at += length + rng.uniform(0.3, 1.5)
    return tuple(events)


def _environment_lane(rng: random.Random, seconds: float, master: tuple[Event, ...]) -> tuple[Event, ...]:
    draw = _deal(rng, (Fault.DISK, Fault.DESCRIPTORS, Fault.CLOCK, Fault.GARBAGE, Fault.METRICS_GARBAGE))
    # A master that starts with few descriptors does not serve, without this package either.
    starts = [other for other in master if other.fault in (Fault.USR2, Fault.PORT)]
    events: list[Event] = []
    postponed = 0
    at = rng.uniform(0.5, 2.0)
    while at < seconds:
        length = rng.uniform(1.5, 3.5)
        is_free = not any(other.at < at + length + 0.5 and at < other.end + 0.5 for other in starts)
        if postponed and is_free:
            fault, postponed = Fault.DESCRIPTORS, postponed - 1
        else:
            fault = draw()
        if fault is Fault.DESCRIPTORS and not is_free:
            postponed += 1
            continue
        detail = {
            Fault.CLOCK: str(rng.choice(CLOCK_STEPS)),
            Fault.GARBAGE: rng.choice(APP_ATTACKS),
            Fault.METRICS_GARBAGE: rng.choice(METRICS_ATTACKS),
        }.get(fault, "")
        events.append(Event(at, fault, length, rng.random(), detail))
        at += length + rng.uniform(0.3, 1.5)
    return tuple(events)
