"""Internal failures, and failures of user-supplied callables: the request is served, the failure is counted."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from gunicorn_prom_hooks.errors import ErrorReporter
from gunicorn_prom_hooks.shm.schema import EXPORTER_ERRORS
from gunicorn_prom_hooks.worker.recording.labels import resolver
from gunicorn_prom_hooks.worker.recording.threaded_hooks import one_per_thread
from tests.helpers.recording import KINDS, Bench, MakeHooks, Recorded, answers, handled


@pytest.mark.parametrize("make", KINDS)
def test_failing_resolver_is_counted_and_the_request_is_served(make: MakeHooks) -> None:
    """A hook that fails lets the request be served, counts itself, and leaves nothing in progress."""

    def resolve(environ: Any) -> str:
        raise RuntimeError("a bug")

    with Bench(resolve, make=make) as bench:
        assert bench.get(b"/x", answers()).endswith(b"ok")
        assert bench.errors.counts == {"post_request": 1}
        assert bench.in_progress() == 0


@pytest.mark.parametrize("make", KINDS)
def test_failing_resolver_is_counted_in_the_slot(make: MakeHooks) -> None:
    """The master can see in the slot that a hook failed, and where: in each kind of worker."""

    def resolve(environ: Any) -> str:
        raise RuntimeError("a bug")

    with Bench(resolve, make=make) as bench:
        bench.get(b"/x", answers())
        assert bench.counts(EXPORTER_ERRORS) == {("post_request",): 1.0}


def test_failure_with_the_lock_held_is_counted_and_does_not_block() -> None:
    """A hook that fails in the middle of recording, with the lock held, neither hangs nor goes uncounted."""
    recorded = Recorded()
    pre_request, post_request = one_per_thread(recorded.recorder, None, recorded.errors)
    request, environ, _ = handled()

    def serve() -> None:
        pre_request(None, request)
        post_request(None, request, environ, "no response")

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    thread.join(10.0)
    assert not thread.is_alive()
    assert recorded.counts(EXPORTER_ERRORS) == {("post_request",): 1.0}
    assert recorded.in_progress() == 0


def test_endpoint_callable_is_called_without_the_lock() -> None:
    """What the user's callable does, a query say, holds up no other thread; under gevent it would hang the worker."""
    free = []

    def try_lock() -> None:
        free.append(bench.recorder.lock.acquire(blocking=False))
        bench.recorder.lock.release()

    def resolve(environ: Any) -> str:
        other = threading.Thread(target=try_lock)
        other.start()
        other.join()
        return "mine"

    with Bench(resolve, make=one_per_thread) as bench:
        bench.get(b"/x", answers())
        assert free == [True]
        assert bench.requests() == {("GET", "mine", "200"): 1.0}


@pytest.mark.parametrize("endpoint", [lambda environ: environ["no.such"], lambda environ: 7])
def test_failing_endpoint_callable_leaves_the_path_and_is_counted(endpoint: Any) -> None:
    """Where the user's callable fails, in a worker with threads, the request has its path, and the failure counts."""
    errors = ErrorReporter()
    with Bench(resolver(endpoint, errors), make=one_per_thread) as bench:
        errors.publish = bench.recorder.exporter_error
        bench.get(b"/items/7", answers())
        assert bench.requests() == {("GET", "/items/:id", "200"): 1.0}
        assert bench.counts(EXPORTER_ERRORS) == {("endpoint",): 1.0}
