"""Workers with threads."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

from gunicorn_prom_hooks.shm.layout import INFLIGHT_ENTRIES
from gunicorn_prom_hooks.shm.schema import FAILED, REQUEST_SIZE_SUM, REQUESTS, RESPONSE_SIZE_SUM
from gunicorn_prom_hooks.worker.recording.in_flight import OVERFLOW_AT
from gunicorn_prom_hooks.worker.recording.threaded_hooks import one_per_thread
from tests.helpers.recording import Recorded, handled

THREADS = 32
EACH = 300
RAW = b"%s /items/%d HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc"
STATUSES = ("200 OK", "503 Service Unavailable")
METHODS = ("POST", "PUT", "PATCH", "GET")


@contextlib.contextmanager
def quick_switches() -> Iterator[None]:
    """Threads are switched far more often than by default."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def test_requests_of_32_threads_are_all_counted() -> None:
    """32 threads that begin and end requests all at once: every count and sum is exact, and nothing is in progress."""
    recorded = Recorded()
    pre_request, post_request = one_per_thread(recorded.recorder, None, recorded.errors)
    together = threading.Barrier(THREADS, timeout=30.0)
    served = [
        [handled(RAW % (METHODS[number % 4].encode(), n), STATUSES[n % 10 == 0]) for n in range(EACH)]
        for number in range(THREADS)
    ]

    def hammer(number: int) -> None:
        together.wait()
        for request, environ, response in served[number]:
            pre_request(None, request)
            post_request(None, request, environ, response)

    threads = [threading.Thread(target=hammer, args=(number,), daemon=True) for number in range(THREADS)]
    with quick_switches():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    total = float(THREADS * EACH)
    expected: dict[tuple[str, ...], float] = {}
    for method in METHODS:
        expected[method, "/items/:id", "200"] = total / 4 * 0.9
        expected[method, "/items/:id", "503"] = total / 4 * 0.1
    assert recorded.requests() == expected
    assert recorded.counts(FAILED) == {(method, "/items/:id", "HTTP 503"): total / 40 for method in METHODS}
    rows = recorded.series(REQUESTS).values()
    assert sum(row[REQUEST_SIZE_SUM] for row in rows) == 3 * total
    assert sum(row[RESPONSE_SIZE_SUM] for row in rows) == 2 * total
    assert recorded.in_progress() == 0
    assert recorded.errors.counts == {}


def test_concurrent_threads_have_their_own_in_flight_entries() -> None:
    """While threads are at their requests, each has its own in-flight entry, with its own method and path."""
    recorded = Recorded()
    pre_request, post_request = one_per_thread(recorded.recorder, None, recorded.errors)
    served = [handled(RAW % (METHODS[number % 4].encode(), number)) for number in range(THREADS)]
    together = threading.Barrier(THREADS + 1, timeout=30.0)

    def serve(number: int) -> None:
        for _ in range(2):
            pre_request(None, served[number][0])
            together.wait()
            together.wait()
            post_request(None, *served[number])

    threads = [threading.Thread(target=serve, args=(number,), daemon=True) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    found = []
    for _ in range(2):
        together.wait()
        found.append({(request.method, request.path) for request in recorded.reader.in_flight()})
        together.wait()
    for thread in threads:
        thread.join()
    assert found == [{(METHODS[number % 4], f"/items/{number}") for number in range(THREADS)}] * 2
    assert recorded.in_progress() == 0
    assert sum(recorded.requests().values()) == 2.0 * THREADS


def test_concurrent_threads_keep_the_endpoint_of_their_own_request() -> None:
    """The user's endpoint of a request goes to that request, however many others are being named meanwhile."""
    recorded = Recorded()
    together = threading.Barrier(4, timeout=30.0)

    def resolve(environ: Mapping[str, Any]) -> str:
        together.wait()
        return str(environ["PATH_INFO"])

    pre_request, post_request = one_per_thread(recorded.recorder, resolve, recorded.errors)
    served = [handled(RAW % (b"POST", number)) for number in range(4)]

    def serve(number: int) -> None:
        for _ in range(50):
            pre_request(None, served[number][0])
            post_request(None, *served[number])

    threads = [threading.Thread(target=serve, args=(number,), daemon=True) for number in range(4)]
    with quick_switches():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert recorded.requests() == {("POST", f"/items/{number}", "200"): 50.0 for number in range(4)}


def test_requests_of_threads_beyond_the_table_are_in_progress_until_they_end() -> None:
    """With more threads than the in-flight table has entries, the surplus is in progress too, and ends as well."""
    recorded = Recorded()
    pre_request, post_request = one_per_thread(recorded.recorder, None, recorded.errors)
    count = INFLIGHT_ENTRIES + 20
    served = [handled(RAW % (b"POST", number)) for number in range(count)]
    together = threading.Barrier(count + 1, timeout=30.0)

    def serve(number: int) -> None:
        request, environ, response = served[number]
        pre_request(None, request)
        together.wait()
        together.wait()
        post_request(None, request, environ, response)

    before = time.monotonic()
    threads = [threading.Thread(target=serve, args=(number,), daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    together.wait()
    now = time.monotonic()
    assert len(recorded.reader.in_flight()) == INFLIGHT_ENTRIES
    number, starts = recorded.reader.untracked()
    assert number == 20
    assert before <= starts / 20 <= now
    together.wait()
    for thread in threads:
        thread.join()
    assert recorded.in_progress() == 0
    assert recorded.requests() == {("POST", "/items/:id", "200"): float(count)}
    assert recorded.slot.words[OVERFLOW_AT] == 0.0, "nothing is left there that could be finished in another's name"
