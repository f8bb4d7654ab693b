"""Recording in a process that a worker has forked, while a request is in progress."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gunicorn_prom_hooks.worker.recording.requests import Requests
from gunicorn_prom_hooks.worker.wsgi.application import recorded
from tests.helpers.recording import KINDS, Bench, MakeHooks, Recorded, answers, raises


@pytest.mark.parametrize("make", KINDS)
def test_hooks_write_into_the_slot_no_more(make: MakeHooks) -> None:
    """The slot stays as it is: no request that ends or comes, fails or is new, changes a byte of it."""
    with Bench(make=make) as bench:
        left: list[bytes] = []

        def forking(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
            left.append(bytes(bench.slot.memory))
            bench.recorder.leave_slot()
            return list(answers()(environ, start_response))

        assert bench.get(b"/items/7", answers()).endswith(b"ok")
        assert bench.get(b"/items/7", forking).endswith(b"ok")
        for path in (b"/items/7", b"/new", b"/new/1"):
            assert bench.get(path, answers()).endswith(b"ok")
        bench.get(b"/broken", raises(ValueError("of the child")))
        bench.send(b"nonsense\r\n\r\n", answers())
        bench.recorder.message("error")
        bench.recorder.exporter_error("fork")
        assert [bytes(bench.slot.memory)] == left
        assert bench.errors.counts == {}


def test_wrapped_application_writes_into_the_slot_no_more() -> None:
    """The same for the requests of gevent_pywsgi and Tornado."""
    found = Recorded()
    requests = Requests(found.recorder, None, found.errors, "wsgi")
    left: list[bytes] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        if environ["PATH_INFO"] == "/fork":
            left.append(bytes(found.slot.memory))
            found.recorder.leave_slot()
        start_response("200 OK", [])
        return [b"ok"]

    application = recorded(app, None, requests)
    for path in ("/before", "/fork", "/before", "/after"):
        body: Any = application({"REQUEST_METHOD": "GET", "PATH_INFO": path}, lambda *given: lambda data: None)
        assert list(body) == [b"ok"]
        body.close()
    assert [bytes(found.slot.memory)] == left
    assert found.errors.counts == {}
