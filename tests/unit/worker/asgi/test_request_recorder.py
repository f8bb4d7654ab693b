"""ASGI applications that do what they should not: they are served, and counted once."""

from __future__ import annotations

import contextlib
from enum import Enum
from typing import Any

import pytest

from gunicorn_prom_hooks.shm.layout import INFLIGHT_ENTRIES
from gunicorn_prom_hooks.shm.schema import REQUEST_SIZE_SUM, REQUESTS
from gunicorn_prom_hooks.worker.asgi.disconnects import Receive, Scope, Send
from tests.helpers.asgi import BODY, START, Bench, Client, plain, sends


@plain
def test_second_response_is_not_counted_and_frees_no_second_entry(plain: bool) -> None:
    """What is sent after a response is the server's to refuse: the request is counted once, and its place free once."""
    bench = Bench()
    for _ in range(3):
        bench.call(sends(START, BODY, START, BODY), plain=plain)
    assert bench.requests() == {("GET", "/items/:id", "200"): 3.0}
    assert bench.in_progress() == 0
    assert len(set(bench.calls.in_flight.free)) == len(bench.calls.in_flight.free) == INFLIGHT_ENTRIES


def test_unknown_messages_are_passed_on_and_not_the_response() -> None:
    """What is no message is the server's to refuse; trailers and informational ones are not the response."""
    bench = Bench()
    bench.call(sends({"type": "http.response.informational", "status": 103}, START, BODY, {"type": "http.x"}, BODY))
    assert bench.requests() == {("GET", "/items/:id", "200"): 1.0}
    bench.call(sends({}))
    assert bench.requests()["GET", "/items/:id", "500"] == 1.0


class Code(int, Enum):
    """A status with a text of its own, as those of ``http.HTTPStatus`` were before Python 3.11."""

    FINE = 200


def test_enum_status_is_counted_by_its_number() -> None:
    """Its number is the label."""
    bench = Bench()
    bench.call(sends({**START, "status": Code.FINE}, BODY))
    assert bench.requests() == {("GET", "/items/:id", "200"): 1.0}


@plain
@pytest.mark.parametrize(
    "headers",
    [None, 7, [()], [(b"one",)], [(["unhashable"], b"")], [(b"x-request-start", 7)], [("x-request-start", None), None]],
)
def test_replaced_headers_in_the_scope_lose_no_count_and_free_the_entry(plain: bool, headers: Any) -> None:
    """A scope that is not as it was costs its request neither its count nor its place in the in-flight table."""
    bench = Bench()
    bench.call(sends(START, BODY), plain=plain)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["headers"] = headers
        await sends(START, BODY)(scope, receive, send)

    assert bench.call(app, plain=plain).messages == [START, BODY]
    assert bench.requests() == {("GET", "/items/:id", "200"): 2.0}
    assert bench.in_progress() == 0
    assert len(bench.calls.in_flight.free) == INFLIGHT_ENTRIES
    assert bench.errors.counts == {"asgi": 1}


@plain
@pytest.mark.parametrize("key", ["path", "method"])
@pytest.mark.parametrize("end", ["response", "exception", "nothing"])
def test_removed_key_in_the_scope_loses_no_count_and_frees_the_entry(plain: bool, key: str, end: str) -> None:
    """The server sees the same messages and the same exception; the request is counted, and its entry is free."""
    bench = Bench()
    bench.call(sends(START, BODY), plain=plain)
    messages = [START, BODY] if end == "response" else []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        del scope[key]
        await sends(*messages)(scope, receive, send)
        if end == "exception":
            raise ZeroDivisionError

    client = Client()
    with pytest.raises(ZeroDivisionError) if end == "exception" else contextlib.nullcontext():
        bench.call(app, client, plain=plain)
    assert client.messages == messages
    assert sum(bench.requests().values()) == 2.0
    assert bench.in_progress() == 0
    assert len(bench.calls.in_flight.free) == INFLIGHT_ENTRIES
    assert bench.errors.counts == {}


@plain
@pytest.mark.parametrize("status", [-1, 1200, 10_200])
def test_invalid_status_number_is_counted_as_sent(plain: bool, status: int) -> None:
    """Whatever the application says is what it is counted under, and for nothing else."""
    bench = Bench()
    bench.call(sends(START, BODY), plain=plain, headers=[(b"content-length", b"2000")])
    bench.call(sends(START, {**BODY, "body": bytes(2000)}), plain=plain)
    for said in (200, status, 200, status):
        bench.call(sends({**START, "status": said}, BODY), plain=plain)
    assert bench.requests() == {("GET", "/items/:id", "200"): 4.0, ("GET", "/items/:id", str(status)): 2.0}
    assert bench.in_progress() == 0


class Odd(BaseException):
    """Neither an ``Exception`` nor the end of the worker."""


@plain
def test_base_exception_is_a_failure_and_system_exit_stays_in_progress(plain: bool) -> None:
    """It ends the task and not the worker: a failure. What ends the worker is what the request goes down with."""
    bench = Bench()
    for error, running in ((Odd(), 0), (SystemExit(1), 1)):

        async def app(scope: Scope, receive: Receive, send: Send, error: BaseException = error) -> None:
            raise error

        with pytest.raises(type(error)):
            bench.call(app, plain=plain)
        assert bench.in_progress() == running
    assert bench.requests() == {("GET", "/items/:id", "500"): 1.0}
    assert bench.failures() == {("GET", "/items/:id", "Odd"): 1.0}


@plain
def test_request_size_has_a_class_and_a_sum_and_a_chunked_body_is_unknown(plain: bool) -> None:
    """A Content-Length counts in its size class and to the byte; a chunked body is of unknown size."""
    bench = Bench()
    bench.call(sends(START, BODY), plain=plain, headers=[(b"content-length", b"2000")])
    bench.call(sends(START, BODY), plain=plain, headers=[(b"transfer-encoding", b"chunked")])
    sizes = {labels[3]: cells[REQUEST_SIZE_SUM] for labels, cells in bench.series(REQUESTS).items()}
    assert sizes == {"1": 2000.0, "8": 0.0}
