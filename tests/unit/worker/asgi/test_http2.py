"""Requests over HTTP/2: what their exceptions say, and how long bodies are that tell no length."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from gunicorn.http2.errors import HTTP2ConnectionError, HTTP2Error, HTTP2ProtocolError, HTTP2StreamError
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.exceptions import ProtocolError

from gunicorn_prom_hooks.shm.schema import ERROR_HANDLING, FAILED, REQUEST_SIZE_SUM, REQUESTS
from gunicorn_prom_hooks.worker.asgi.disconnects import is_cut_off
from gunicorn_prom_hooks.worker.recording.event_loop_hooks import with_streams
from gunicorn_prom_hooks.worker.recording.exceptions import is_client_disconnect
from tests.helpers.recording import KINDS, MakeHooks, Recorded, handled


def served(
    make: MakeHooks, error: BaseException | None = None, *, closed: bool = False, sent: bool = False, body: Any = 0
) -> Recorded:
    """What is recorded of a stream on which the application was sent so many bytes, and that ended like this."""
    recorded = Recorded()
    pre_request, post_request = with_streams(make(recorded.recorder, None, recorded.errors), recorded.errors)
    request, environ, response = handled()
    request.stream = SimpleNamespace(body_size=body)
    response.h2_conn = SimpleNamespace(is_closed=closed)
    response.headers_sent = sent
    pre_request(SimpleNamespace(alive=True), request)
    try:
        if error is not None:
            raise error
        post_request(None, request, environ, response)
    except BaseException as caught:
        if caught is not error:
            raise
        post_request(SimpleNamespace(alive=True), request, environ, response)
    return recorded


def refused_by_h2() -> BaseException:
    """What h2 raises where something is to be sent on a connection that is closed."""
    connection = H2Connection(H2Configuration(client_side=False))
    connection.initiate_connection()
    connection.close_connection()
    try:
        connection.send_headers(1, [(":status", "200")])
    except ProtocolError as exc:
        return exc
    raise AssertionError("h2 has sent it")


@pytest.mark.parametrize("make", KINDS[1:])
@pytest.mark.parametrize("error", [HTTP2StreamError(1), HTTP2ConnectionError(), HTTP2ProtocolError()])
def test_stream_ended_by_the_client_is_499_and_not_a_failure(make: MakeHooks, error: BaseException) -> None:
    """A stream, or its connection, that the client has ended is a 499, and nothing has failed."""
    assert is_client_disconnect(error)
    recorded = served(make, error, sent=True)
    assert recorded.requests() == {("GET", "/items/:id", "499"): 1.0}
    assert recorded.counts(FAILED) == recorded.counts(ERROR_HANDLING) == recorded.errors.counts == {}


@pytest.mark.parametrize("make", KINDS[1:])
@pytest.mark.parametrize("sent", [False, True])
def test_exception_on_a_stream_is_a_failure_and_counted_as_handled(make: MakeHooks, sent: bool) -> None:
    """The application's exception is a failure, and reaches gunicorn's error handling without a call that told."""
    recorded = served(make, ValueError("x"), sent=sent)
    assert recorded.requests() == {("GET", "/items/:id", "200" if sent else "500"): 1.0}
    assert recorded.counts(FAILED) == recorded.counts(ERROR_HANDLING) == {("GET", "/items/:id", "ValueError"): 1.0}
    assert recorded.recorder.failing == {}


@pytest.mark.parametrize(("closed", "status"), [(True, "499"), (False, "500")])
def test_send_refused_by_h2_is_499_on_a_closed_connection_and_500_else(closed: bool, status: str) -> None:
    """On a connection that the client has ended it is the client's doing, on any other the application's."""
    assert served(KINDS[1], refused_by_h2(), closed=closed).requests() == {("GET", "/items/:id", status): 1.0}


def test_http2_error_by_the_application_is_500_also_on_a_closed_connection() -> None:
    """An application that asks gunicorn for what HTTP/2 has not got fails, also where the connection is closed."""
    assert not is_client_disconnect(HTTP2Error())
    assert served(KINDS[1], HTTP2Error(), closed=True).requests() == {("GET", "/items/:id", "500"): 1.0}


@pytest.mark.parametrize("make", KINDS[1:])
@pytest.mark.parametrize("size", [0, 5000])
def test_body_without_a_length_has_the_size_received_on_the_stream(make: MakeHooks, size: int) -> None:
    """What came on the stream is the size of a body without a Content-Length."""
    recorded = served(make, body=size)
    assert sum(cells[REQUEST_SIZE_SUM] for cells in recorded.series(REQUESTS).values()) == size
    assert [labels[3] for labels in recorded.series(REQUESTS)] == ["2" if size else "0"]


def test_unreadable_stream_size_is_an_exporter_error_and_the_request_is_counted() -> None:
    """A size that cannot be looked at costs a count of our failures, and the size; the request is counted."""

    class Broken:
        @property
        def body_size(self) -> int:
            raise RuntimeError("another gunicorn")

    recorded = Recorded()
    pre_request, post_request = with_streams(KINDS[1](recorded.recorder, None, recorded.errors), recorded.errors)
    request, environ, response = handled()
    request.stream = Broken()
    pre_request(None, request)
    post_request(None, request, environ, response)
    assert recorded.requests() == {("GET", "/items/:id", "200"): 1.0}
    assert recorded.errors.counts == {"post_request": 1}


@pytest.mark.parametrize("closing", [False, True])
def test_is_cut_off_is_the_closing_state_of_the_transport_if_there_is_one(closing: bool) -> None:
    """gunicorn's receiver has the transport behind its protocol, uvicorn's cycle has it at hand, others have none."""
    transport = SimpleNamespace(is_closing=lambda: closing)
    assert is_cut_off(SimpleNamespace(transport=transport)) is closing
    assert is_cut_off(SimpleNamespace(protocol=SimpleNamespace(transport=transport))) is closing
    assert not is_cut_off(SimpleNamespace())
    assert not is_cut_off(SimpleNamespace(protocol=SimpleNamespace(transport=None)))
