"""WSGI applications that are called through a recording function, for worker classes without request hooks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.http.wsgi import WSGIErrorsWrapper

from gunicorn_prom_hooks.shm.schema import FAILED, REQUESTS, RESPONSE_SIZE_SUM, WEBSOCKETS
from gunicorn_prom_hooks.worker.frameworks.annotations import note_route, noted
from gunicorn_prom_hooks.worker.recording.requests import Requests
from gunicorn_prom_hooks.worker.wsgi import application as wsgi
from tests.helpers.recording import Recorded

Start = Callable[..., Callable[[bytes], Any]]


class Worker:
    """What is looked at of gunicorn's."""

    alive = True


class Body:
    """A body that notes when it is closed, and may fail."""

    def __init__(self, *chunks: bytes, raises: BaseException | None = None) -> None:
        self.chunks = chunks
        self.raises = raises
        self.closed = 0

    def __iter__(self) -> Iterator[bytes]:
        yield from self.chunks
        if self.raises is not None:
            raise self.raises

    def close(self) -> None:
        self.closed += 1


class Bench(Recorded):
    """A slot, and applications called as a server calls them."""

    def call(self, app: wsgi.Application, start: Start = lambda *_: lambda data: None) -> list[bytes]:
        """One request, from its start to the closing of its body."""
        body = self.begin(app, start)
        try:
            return list(body)
        finally:
            close: Callable[[], None] | None = getattr(body, "close", None)
            if close is not None:
                close()

    def begin(self, app: wsgi.Application, start: Start = lambda *_: lambda data: None) -> Iterable[bytes]:
        """The body of a response."""
        requests = Requests(self.recorder, None, self.errors, "wsgi")
        environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/items/7"}
        return wsgi.recorded(app, Worker(), requests)(environ, start)

    def sent(self) -> float:
        """Bytes of all bodies."""
        return sum(cells[RESPONSE_SIZE_SUM] for cells in self.series(REQUESTS).values())


def answers(body: Iterable[bytes], status: str = "200 OK") -> wsgi.Application:
    """An application that gives this body."""

    def app(environ: wsgi.Environ, start: Start) -> Iterable[bytes]:
        start(status, [])
        return body

    return app


def test_request_ends_once_when_its_body_is_closed() -> None:
    """A request is in progress until then, is counted once, and the application's body is closed as well."""
    bench, body = Bench(), Body(b"ab", b"c")
    given = bench.begin(answers(body))
    assert list(given) == [b"ab", b"c"]
    assert bench.in_progress() == 1
    assert bench.requests() == {}
    for _ in range(2):
        given.close()  # type: ignore[attr-defined]  # an Iterable, for those who may not ask for more
    assert body.closed == 2
    assert bench.requests() == {("GET", "/items/:id", "200"): 1.0}
    assert bench.sent() == 3.0
    assert bench.in_progress() == 0


def test_websocket_of_a_server_is_counted_while_open_and_is_no_request() -> None:
    """gevent-websocket has done the handshake, and does not close what the application returns."""
    bench, seen = Bench(), []
    requests = Requests(bench.recorder, None, bench.errors, "wsgi")

    def app(environ: wsgi.Environ, start: Start) -> Iterable[bytes]:
        seen.append(bench.series(WEBSOCKETS))
        yield b""
        if environ["PATH_INFO"] == "/broken":
            raise ValueError("of the application")

    application = wsgi.recorded(app, Worker(), requests)
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/items/7", "wsgi.websocket": object()}
    assert list(application(environ, lambda *_: lambda data: None)) == [b""]
    with pytest.raises(ValueError, match="of the application"):
        list(application({**environ, "PATH_INFO": "/broken"}, lambda *_: lambda data: None))
    first, second = ("/items/:id",), ("/broken",)
    assert seen == [{first: [1.0, 0.0]}, {first: [1.0, 1.0], second: [1.0, 0.0]}]
    assert bench.series(WEBSOCKETS) == {first: [1.0, 1.0], second: [1.0, 1.0]}
    assert (bench.requests(), bench.in_progress(), bench.errors.counts) == ({}, 0, {})


def test_length_of_the_body_is_that_of_the_application_if_any() -> None:
    """A server makes a Content-Length of it: what has a length keeps it, what has none gets none."""
    bench = Bench()
    assert len(bench.begin(answers([b"one"]))) == 1  # type: ignore[arg-type]  # a list has one
    assert not hasattr(bench.begin(answers(iter([b"one"]))), "__len__")


def test_body_iterated_twice_is_complete_and_counted_once() -> None:
    """gevent_pywsgi goes through it once more for its length: all of it is there both times, and is counted once."""
    bench = Bench()
    given = bench.begin(answers([b"ab", b"", b"cde"]))
    sending = iter(given)
    assert next(sending) == b"ab"
    assert sum(map(len, given)) == 5
    assert list(sending) == [b"", b"cde"]
    given.close()  # type: ignore[attr-defined]  # as above
    assert bench.sent() == 5.0


def test_piece_that_the_server_refuses_is_not_sent_and_leaves_no_status() -> None:
    """pywsgi refuses the body of a 204, and answers 500: it sends the headers with the first piece that it takes."""
    bench = Bench()
    body = bench.begin(answers([b"body"], "204 No Content"))
    assert next(iter(body)) == b"body"
    try:
        raise AssertionError("The 204 response must have no body")
    except AssertionError:
        body.close()  # type: ignore[attr-defined]  # as above
    assert bench.requests() == {("GET", "/items/:id", "500"): 1.0}
    assert bench.counts(FAILED) == {("GET", "/items/:id", "AssertionError"): 1.0}
    assert bench.sent() == 0.0


def test_bytes_sent_through_write_are_in_the_response_size() -> None:
    """What goes through the old ``write`` is of the body, too."""
    bench = Bench()

    def app(environ: wsgi.Environ, start: Start) -> Iterable[bytes]:
        start("200 OK", [])(b"12345")
        return []

    bench.call(app)
    assert bench.sent() == 5.0


@pytest.mark.parametrize("where", ["call", "first", "middle"])
def test_exception_is_a_failure_with_the_status_sent_and_is_raised_on(where: str) -> None:
    """The application's exception is counted, with the status that the client saw, and goes on to the server."""
    bench = Bench()

    def app(environ: wsgi.Environ, start: Start) -> Iterable[bytes]:
        if where == "call":
            raise KeyError("x")
        start("200 OK", [])
        return Body(*([b"x"] if where == "middle" else []), raises=KeyError("x"))

    with pytest.raises(KeyError):
        bench.call(app)
    status = "200" if where == "middle" else "500"
    assert bench.requests() == {("GET", "/items/:id", status): 1.0}
    assert bench.counts(FAILED) == {("GET", "/items/:id", "KeyError"): 1.0}
    assert bench.in_progress() == 0


def test_status_is_parsed_and_500_if_missing_or_invalid() -> None:
    """A status is a number with or without a reason; a 5xx is a failure; without any the client gets a 500."""
    bench = Bench()
    for status in ("404 Not Found", "503", "200 OK"):
        bench.call(answers([b""], status))
    bench.call(lambda environ, start: [])
    bench.call(answers([b""], "fine"))
    assert bench.requests() == {
        ("GET", "<unmatched>", "404"): 1.0,
        ("GET", "/items/:id", "503"): 1.0,
        ("GET", "/items/:id", "200"): 1.0,
        ("GET", "/items/:id", "500"): 2.0,
    }
    assert bench.counts(FAILED) == {
        ("GET", "/items/:id", "HTTP 503"): 1.0,
        ("GET", "/items/:id", "HTTP 500"): 2.0,
    }


@pytest.mark.parametrize("named", [True, False])
def test_restarted_response_has_the_later_status_and_passes_exc_info(named: bool) -> None:
    """The exception that it is for reaches the server, by position or by name, and the later status is the one."""
    bench, told = Bench(), []

    def app(environ: wsgi.Environ, start: Start) -> Iterable[bytes]:
        start("200 OK", [])
        try:
            raise KeyError("x")
        except KeyError:
            if named:
                start("503 Sorry", [], exc_info=sys.exc_info())
            else:
                start("503 Sorry", [], sys.exc_info())
        return [b""]

    def start(status: str, headers: Any, exc_info: Any = None) -> Callable[[bytes], Any]:
        told.append(exc_info and exc_info[0])
        return lambda data: None

    bench.call(app, start=start)
    assert told == [None, KeyError]
    assert bench.requests() == {("GET", "/items/:id", "503"): 1.0}


def test_stop_iteration_raised_by_close_is_a_failure() -> None:
    """What looks like gunicorn's own farewell to a connection is none where gunicorn does not call the hooks."""
    bench, body = Bench(), Body(b"ab")
    body.close = iter(()).__next__  # type: ignore[method-assign]
    with pytest.raises(StopIteration):
        bench.call(answers(body))
    assert bench.counts(FAILED) == {("GET", "/items/:id", "StopIteration"): 1.0}


def test_route_noted_in_a_copied_environ_is_found() -> None:
    """What a framework notes in a copy of the environ is in the environ that the hooks are given, of each request."""
    seen: list[str | None] = []
    shared = WSGIErrorsWrapper(Config())  # gunicorn's gevent_pywsgi worker has one for all requests

    def resolve(environ: Mapping[str, Any]) -> str | None:
        seen.append(noted(environ))
        return None

    def app(environ: wsgi.Environ, start_response: Any) -> list[bytes]:
        if environ["PATH_INFO"] != "/plain":
            note_route(dict(environ), environ["PATH_INFO"])
        return []

    recorded = Recorded()
    application = wsgi.recorded(app, Worker(), Requests(recorded.recorder, resolve, recorded.errors, "wsgi"))
    for path in ("/first", "/second", "/plain"):
        environ = {"REQUEST_METHOD": "GET", "PATH_INFO": path, "wsgi.errors": shared}
        body: Any = application(environ, lambda *_: print)
        body.close()
    assert seen == ["/first", "/second", None]
