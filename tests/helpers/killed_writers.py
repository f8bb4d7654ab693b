"""Workers that are killed in mid-store, one after the other; run by test_killed_writers in a process of its own.

A process that has threads should not fork, and a test runner may have some: hence the process of its own.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import sys
import time

from gunicorn_prom_hooks.errors import ErrorReporter
from gunicorn_prom_hooks.shm.allocator import Lease, SlotAllocator
from gunicorn_prom_hooks.shm.reader import SlotReader
from gunicorn_prom_hooks.shm.schema import COUNTS, FAILED, REQUESTS
from gunicorn_prom_hooks.shm.slot import Slot, SlotWriter
from gunicorn_prom_hooks.worker.recording.event_loop_hooks import many_at_a_time
from gunicorn_prom_hooks.worker.recording.recorder import Recorder
from tests.helpers.recording import KINDS, entries, handled, own, totals, values

KILLS = 400
PER_SLOT = 25
LONGEST_SECONDS = 0.004
PATHS = [f"/{letter * 40}" for letter in "abcdefgh"]
SERVED = [handled(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()) for path in PATHS]


def write(lease: Lease, number: int) -> None:
    """Record requests, one or many at a time, and new series, until the process is killed."""
    recorder, errors = Recorder(lease.slot, 50), ErrorReporter()
    make_hooks = KINDS[number % len(KINDS)]
    pre_request, post_request = make_hooks(recorder, None, errors)
    for step in itertools.count():
        if step % 4 == 0:
            recorder.row("GET", "/rows", 1000 * number + step, 0, 0)
            recorder.count(FAILED, "GET", "/rows", recorder.error_type("ValueError"))
        together = 1 + step % 4 if make_hooks is many_at_a_time else 1
        some = [SERVED[(step + place) % len(SERVED)] for place in range(together)]
        for request, _, _ in some:
            pre_request(None, request)
        for request, environ, response in some:
            post_request(None, request, environ, response)
        if errors.counts:
            os._exit(1)


def kill_one(lease: Lease, number: int) -> None:
    """Fork a worker that writes, and kill it at a random instant."""
    pid = os.fork()
    if pid == 0:
        try:
            write(lease, number)
        finally:
            os._exit(1)
    time.sleep(random.uniform(0.0, LONGEST_SECONDS))  # the random instant
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status), f"the writer failed before it was killed: {status}"


def check(allocator: SlotAllocator, lease: Lease, before: list[float]) -> list[float]:
    """Check that the slot is readable, has not decreased and can be continued. Return its values."""
    fresh = SlotReader(lease.slot)
    fresh.update()
    found = totals(allocator)
    cells_now = values(lease.reader)
    assert {number: series.labels for number, series in fresh.series.items()} == {
        number: series.labels for number, series in lease.reader.series.items()
    }
    assert all(now >= then for now, then in itertools.zip_longest(cells_now, before, fillvalue=0.0))
    for labels, cells in found.series(REQUESTS.number).items():
        assert labels[0] == "GET"
        assert all(count == int(count) for count in cells[COUNTS])
    assert min(own(allocator, lease).requests, default=0.0) >= 0.0
    for request in lease.reader.in_flight():
        assert request.start > 0.0
        assert request.method == "GET"
        assert request.path in PATHS
    assert SlotWriter(lease.slot, known=fresh.all_series).series == SlotWriter(lease.slot).series
    return cells_now


def main() -> None:
    counted = series = in_flight = 0.0
    for generation in range(KILLS // PER_SLOT):
        allocator, cells = SlotAllocator(lambda: Slot(100_000, 400_000)), list[float]()
        for number in range(PER_SLOT):
            lease = allocator.lease(number + 1, time.time())
            assert lease.number == 0
            kill_one(lease, generation + number)
            cells = check(allocator, lease, cells)
            in_flight += len(lease.reader.in_flight())
            allocator.release(lease)
        counted += sum(sum(row[COUNTS]) for row in totals(allocator).series(REQUESTS.number).values())
        series += len(entries(allocator.readers[0].slot))
    json.dump({"kills": KILLS, "counted": counted, "series": series, "in_flight": in_flight}, sys.stdout)


if __name__ == "__main__":
    main()
