"""Requests that end with an exception, raised where and how gunicorn itself raises it."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable, Iterator
from ssl import SSLError
from types import SimpleNamespace
from typing import Any

import pytest
from gunicorn.util import write

from gunicorn_prom_hooks.shm.schema import ERROR_HANDLING, FAILED, INVALID
from gunicorn_prom_hooks.worker.recording.exceptions import interrupted_by, is_client_disconnect, is_clients_fault
from tests.helpers.recording import KINDS, Bench, MakeHooks, Sink, answers, interruption, raises


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize("error", [ValueError("x"), KeyError(), SystemExit(1), MemoryError(), TimeoutError()])
def test_exception_before_the_response_is_500_and_a_failure_by_its_class(make: MakeHooks, error: BaseException) -> None:
    """What the application raises before it answers is a 500 and a failure of that type."""
    with Bench(make=make) as bench:
        bench.get(b"/x", raises(error))
        assert bench.requests() == {("GET", "/x", "500"): 1.0}
        assert bench.counts(FAILED) == {("GET", "/x", type(error).__name__): 1.0}
        assert bench.in_progress() == 0
        assert bench.errors.counts == {}


def test_exception_handled_by_gunicorn_is_counted_once_with_its_endpoint() -> None:
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
def test_exception_in_mid_response_is_a_failure_by_its_own_class(make: MakeHooks) -> None:
    """Where gunicorn raises StopIteration in its place, the application's exception is the one that counts."""
    with Bench(make=make) as bench:
        assert bench.get(b"/x", begins_then_raises).endswith(b"the beginning")
        assert bench.requests() == {("GET", "/x", "200"): 1.0}
        assert bench.counts(FAILED) == {("GET", "/x", "LookupError"): 1.0}
        assert bench.counts(ERROR_HANDLING) == {}


def test_write_to_a_disconnected_client_is_499_and_not_a_failure() -> None:
    """Where gunicorn cannot write because the client is gone, the status is 499 and nothing has failed."""
    with Bench() as bench:
        bench.send(b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n", answers(), client_leaves=True)
        assert bench.requests() == {("GET", "/x", "499"): 1.0}
        assert bench.counts(FAILED) == bench.counts(ERROR_HANDLING) == {}
        assert bench.errors.counts == {}


def test_broken_pipe_is_a_client_disconnect_only_if_raised_in_gunicorn() -> None:
    """The same BrokenPipeError is the client's in gunicorn's hands, and the application's own otherwise."""
    ours, theirs = socket.socketpair()
    theirs.close()
    with ours:
        with pytest.raises(BrokenPipeError) as gunicorns:
            write(ours, b"x")
        with pytest.raises(BrokenPipeError) as applications:
            ours.sendall(b"x")
    assert is_client_disconnect(gunicorns.value, ours)
    assert not is_client_disconnect(applications.value, ours)


def reset_by_peer() -> Any:
    """A file of a connection whose peer, of the application's, has reset it."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with socket.create_connection(listener.getsockname()) as upstream:
            peer, _ = listener.accept()
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.close()
            return upstream.makefile("rb")


@pytest.mark.parametrize("wrapped", [True, False])
def test_body_read_from_a_reset_connection_is_a_failure(wrapped: bool) -> None:
    """What breaks off a connection that the application passes on in gunicorn's own hands is none of the client's."""

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        start_response("200 OK", [("Content-Type", "text/plain")])
        body = reset_by_peer()
        return environ["wsgi.file_wrapper"](body) if wrapped else body

    with Bench() as bench:
        bench.get(b"/x", app)
        assert bench.requests() == {("GET", "/x", "500"): 1.0}
        assert bench.counts(FAILED) == {("GET", "/x", "ConnectionResetError"): 1.0}


def test_write_error_is_a_client_disconnect_only_if_the_socket_is_closed() -> None:
    """An error in gunicorn's hands is the client's leaving only if the kernel has ended the client's connection."""
    gone, peer = socket.socketpair()
    client, other = socket.socketpair()
    peer.close()
    with gone, client, other:
        with pytest.raises(BrokenPipeError) as error:
            write(gone, b"x")
        assert is_client_disconnect(error.value, gone)
        assert not is_client_disconnect(error.value, client)


@pytest.mark.parametrize("code", [errno.ECONNRESET, errno.EPIPE, errno.ETIMEDOUT])
def test_connection_error_raised_by_the_application_is_a_failure(code: int) -> None:
    """A connection error that the application raises, of its own database say, is a 500 and a failure."""
    error = OSError(code, "server closed the connection")
    with Bench() as bench:
        bench.get(b"/x", raises(error))
        assert bench.requests() == {("GET", "/x", "500"): 1.0}
        assert bench.counts(FAILED) == {("GET", "/x", type(error).__name__): 1.0}


def test_os_error_that_no_client_causes_is_a_failure() -> None:
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
def test_unparsable_request_is_invalid_and_handled_and_not_a_request(raw: bytes, error_type: str, method: str) -> None:
    """It calls no hook, but counts as an error handled and as an invalid request."""
    with Bench() as bench:
        assert b"HTTP/1.1 4" in bench.send(raw, answers()) or error_type == "InvalidHTTPVersion"
        assert bench.requests() == {}
        assert bench.counts(INVALID) == {(error_type,): 1.0}
        assert bench.counts(ERROR_HANDLING) == {(method, "<unmatched>", error_type): 1.0}


def test_malformed_packet_of_uwsgis_protocol_is_invalid() -> None:
    """Its exceptions are not derived from those of HTTP."""
    errors = pytest.importorskip("gunicorn.uwsgi.errors", reason="this gunicorn does not speak uWSGI's protocol")
    assert is_clients_fault(errors.UnsupportedModifier(1))
    assert is_clients_fault(errors.InvalidUWSGIHeader("short"))


def test_invalid_response_header_is_500_and_a_failure() -> None:
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
def test_response_without_a_status_is_500_and_a_failure(make: MakeHooks) -> None:
    """A response without a status is counted as the application's failure, not as an internal one."""
    with Bench(make=make) as bench:
        bench.get(b"/x", never_starts)
        assert bench.requests() == {("GET", "/x", "500"): 1.0}
        assert sum(bench.counts(FAILED).values()) == 1.0
        assert bench.errors.counts == {}


def never_starts_then_raises(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
    """An application that forgets to call start_response, and then fails."""
    yield b"x"
    raise LookupError("the rest")


def test_exception_after_a_response_without_a_status_is_the_failure() -> None:
    """An exception after a response without a status is the application's, and the request is counted."""
    with Bench() as bench:
        bench.get(b"/x", never_starts_then_raises)
        assert bench.requests() == {("GET", "/x", "500"): 1.0}
        assert bench.counts(FAILED) == {("GET", "/x", "LookupError"): 1.0}
        assert bench.errors.counts == {}


SIGNALS = [("handle_abort", 31.0, "timeout"), ("handle_abort", 1.0, "abort"), ("handle_quit", 31.0, "shutdown")]


@pytest.mark.parametrize("make", KINDS[:2])
@pytest.mark.parametrize(("handler", "heartbeat_age", "error_type"), SIGNALS)
@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("covered", [False, True])
def test_request_ended_by_a_signal_fails_with_the_name_of_the_reason(
    make: MakeHooks, handler: str, heartbeat_age: float, error_type: str, begun: bool, covered: bool
) -> None:
    """It has the name of the signal's reason, also in mid-response, and where a clean-up has failed on the way out."""
    error = interruption(handler, heartbeat_age)

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
        if begun:
            start_response("200 OK", [("Content-Length", "100")])
            yield b"x"
        try:
            raise error
        finally:
            if covered:
                raise ConnectionError("the transaction cannot be rolled back")

    with Bench(make=make) as bench:
        bench.get(b"/x", app)
        failed = bench.counts(FAILED)
        assert failed == {("GET", "/x", error_type): 1.0}
        assert bench.reader.interrupted_requests() != []
        assert bench.errors.counts == {}


def test_error_handled_after_a_signal_has_the_name_of_the_reason() -> None:
    """What reaches gunicorn's error handling has the same name, also where no request had begun."""
    with Bench() as bench:
        error = interruption("handle_abort", 31.0)
        bench.get(b"/x", raises(error))
        bench.worker.handle_error(None, Sink(), ("127.0.0.1", 1), error)
        assert bench.counts(ERROR_HANDLING) == {
            ("GET", "/x", "timeout"): 1.0,
            ("<other>", "<unmatched>", "timeout"): 1.0,
        }


def test_abort_without_a_configured_timeout_is_not_a_timeout() -> None:
    """Without a timeout of gunicorn's, a SIGABRT is no timeout, however old the heartbeat is."""
    assert interrupted_by(interruption("handle_abort", 1000.0, timeout=0)) == "abort"


@pytest.mark.parametrize("wrapped", [True, False])
def test_ssl_error_while_the_body_is_read_is_a_failure(wrapped: bool) -> None:
    """What TLS raises in a connection that the application passes on is none of the client's, in whosever hands."""
    transport: dict[str, Any] = {"__name__": "ssl", "error": SSLError(1, "record layer failure")}
    exec("def read(size=0):\n    raise error", transport)
    file = SimpleNamespace(read=transport["read"])

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return environ["wsgi.file_wrapper"](file) if wrapped else iter(file.read, b"")

    with Bench() as bench:
        bench.get(b"/x", app)
        assert bench.requests() == {("GET", "/x", "403"): 1.0}
        assert bench.counts(FAILED) == {("GET", "/x", "SSLError"): 1.0}


def test_ssl_error_of_the_application_is_403_and_a_failure_and_not_invalid() -> None:
    """gunicorn answers it with a 403, as one of the client's; it is a failure all the same, and no invalid request."""
    with Bench() as bench:
        assert b" 403 " in bench.get(b"/x", raises(SSLError(1, "certificate verify failed")))
        assert bench.requests() == {("GET", "/x", "403"): 1.0}
        failed = {("GET", "/x", "SSLError"): 1.0}
        assert bench.counts(FAILED) == bench.counts(ERROR_HANDLING) == failed
        assert bench.counts(INVALID) == {}
