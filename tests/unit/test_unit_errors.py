"""Requests that end with an exception, raised where and how gunicorn itself raises it."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from gunicorn.util import write
from unit_support import KINDS, Bench, MakeHooks, answers, raises

from gunicorn_prom_hooks.scoreboard.families import ERROR_HANDLING, FAILED, INVALID
from gunicorn_prom_hooks.worker.errors import client_left


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize("error", [ValueError("x"), KeyError(), SystemExit(1), MemoryError(), TimeoutError()])
def test_an_exception_is_a_failure(make: MakeHooks, error: BaseException) -> None:
    """What the application raises before it answers is a 500 and a failure of that type."""
    with Bench(make=make) as bench:
        bench.get(b"/x", raises(error))
        assert bench.requests() == {("GET", "/x", "500"): 1.0}
        assert bench.counts(FAILED) == {("GET", "/x", type(error).__name__): 1.0}
        assert bench.in_progress() == 0
        assert bench.guard.counts == {}


def test_an_exception_that_reaches_gunicorn_is_counted_there_once() -> None:
    """An error that gunicorn has to handle counts with the request's own method and endpoint."""
    with Bench() as bench:
        assert b" 500 " in bench.get(b"/items/7", raises(ValueError("x")))
        assert bench.counts(ERROR_HANDLING) == {("GET", "/items/:id", "ValueError"): 1.0}
        assert bench.recorder.failing == {}


def begins_then_raises(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
    """An application that fails in the middle of its response."""
    start_response("200 OK", [("Content-Length", "100")])
    yield b"the beginning"
    raise LookupError("the rest")


@pytest.mark.parametrize("make", KINDS)
def test_an_exception_in_mid_response_is_the_applications(make: MakeHooks) -> None:
    """Where gunicorn raises StopIteration in its place, the application's exception is the one that counts."""
    with Bench(make=make) as bench:
        assert bench.get(b"/x", begins_then_raises).endswith(b"the beginning")
        assert bench.requests() == {("GET", "/x", "200"): 1.0}
        assert bench.counts(FAILED) == {("GET", "/x", "LookupError"): 1.0}
        assert bench.counts(ERROR_HANDLING) == {}


def test_a_client_that_left_is_no_failure() -> None:
    """Where gunicorn cannot write because the client is gone, the status is 499 and nothing has failed."""
    with Bench() as bench:
        bench.send(b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n", answers(), client_leaves=True)
        assert bench.requests() == {("GET", "/x", "499"): 1.0}
        assert bench.counts(FAILED) == bench.counts(ERROR_HANDLING) == {}
        assert bench.guard.counts == {}


def test_who_used_the_socket_tells_a_client_from_a_database() -> None:
    """The same BrokenPipeError is the client's in gunicorn's hands, and the application's own otherwise."""
    ours, theirs = socket.socketpair()
    theirs.close()
    with ours:
        with pytest.raises(BrokenPipeError) as gunicorns:
            write(ours, b"x")
        with pytest.raises(BrokenPipeError) as applications:
            ours.sendall(b"x")
    assert client_left(gunicorns.value)
    assert not client_left(applications.value)


@pytest.mark.parametrize("code", [errno.ECONNRESET, errno.EPIPE, errno.ETIMEDOUT])
def test_a_peer_of_the_applications_that_left_is_a_failure(code: int) -> None:
    """A connection error that the application raises, of its own database say, is a 500 and a failure."""
    error = OSError(code, "server closed the connection")
    with Bench() as bench:
        bench.get(b"/x", raises(error))
        assert bench.requests() == {("GET", "/x", "500"): 1.0}
        assert bench.counts(FAILED) == {("GET", "/x", type(error).__name__): 1.0}


def test_another_os_error_is_a_failure() -> None:
    """An OSError that no client causes is a failure even in gunicorn's own hands."""

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        start_response("200 OK", [("Content-Length", "1")])
        environ["gunicorn.socket"].close()
        return [b"x"]

    with Bench() as bench:
        bench.get(b"/x", app)
        assert bench.requests() == {("GET", "/x", "500"): 1.0}
        assert bench.counts(FAILED) == {("GET", "/x", "OSError"): 1.0}


@pytest.mark.parametrize(
    ("raw", "error_type", "method"),
    [
        (b"GET / HTTP/9.9\r\n\r\n", "InvalidHTTPVersion", "<other>"),
        (b"nonsense\r\n\r\n", "InvalidRequestLine", "<other>"),
        (b"GET / HTTP/1.1\r\nBad Header: x\r\n\r\n", "InvalidHeaderName", "<other>"),
    ],
)
def test_a_request_that_cannot_be_parsed(raw: bytes, error_type: str, method: str) -> None:
    """It calls no hook, but counts as an error handled and as an invalid request."""
    with Bench() as bench:
        assert b"HTTP/1.1 4" in bench.send(raw, answers()) or error_type == "InvalidHTTPVersion"
        assert bench.requests() == {}
        assert bench.counts(INVALID) == {(error_type,): 1.0}
        assert bench.counts(ERROR_HANDLING) == {(method, "<unmatched>", error_type): 1.0}


def test_a_bad_response_header_is_the_applications_fault() -> None:
    """A header that gunicorn refuses to send is a 500 and a failure, and no invalid request."""
    with Bench() as bench:
        bench.get(b"/x", answers("200 OK", b"ok", ("X-Bad", "a\nb")))
        assert bench.requests() == {("GET", "/x", "500"): 1.0}
        assert bench.counts(FAILED) == {("GET", "/x", "InvalidResponseHeader"): 1.0}
        assert bench.counts(INVALID) == {}


def never_starts(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    """An application that forgets to call start_response."""
    return [b"x"]


@pytest.mark.parametrize("make", KINDS)
def test_an_application_that_never_starts_its_response_is_counted(make: MakeHooks) -> None:
    """A response without a status is a failure that is counted, and not one of ours."""
    with Bench(make=make) as bench:
        bench.get(b"/x", never_starts)
        assert bench.requests() == {("GET", "/x", "500"): 1.0}
        assert sum(bench.counts(FAILED).values()) == 1.0
        assert bench.guard.counts == {}


def never_starts_then_raises(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
    """An application that forgets to call start_response, and then fails."""
    yield b"x"
    raise LookupError("the rest")


def test_an_application_that_never_starts_its_response_may_fail_too() -> None:
    """An exception after a response without a status is the application's, and the request is counted."""
    with Bench() as bench:
        bench.get(b"/x", never_starts_then_raises)
        assert bench.requests() == {("GET", "/x", "500"): 1.0}
        assert bench.counts(FAILED) == {("GET", "/x", "LookupError"): 1.0}
        assert bench.guard.counts == {}
