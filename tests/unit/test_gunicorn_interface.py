"""gunicorn's private interface, and that of the servers it runs, as ``_gunicorn.py`` has it, in what is installed."""

from __future__ import annotations

import importlib
import importlib.resources
import importlib.util
import inspect
import re
import signal
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import pytest

from gunicorn_prom_hooks import _gunicorn
from gunicorn_prom_hooks._gunicorn import Attribute, attributes, handled_signal


def has(cls: type, name: str) -> bool:
    """Return whether objects of this class have the attribute: a member of it, or assigned by one of its methods."""
    return hasattr(cls, name) or any(
        re.search(rf"\bself\.{name}(: [^=\n]+)? = ", inspect.getsource(base))
        for base in cls.__mro__
        if base.__module__ != "builtins" and not base.__module__.startswith(("asyncio", "abc"))
    )


@pytest.mark.parametrize("attribute", attributes(), ids=lambda each: f"{each.owner}.{each.name}")
def test_attribute_that_is_read_exists_in_the_installed_version(attribute: Attribute) -> None:
    """Each attribute that the worker's side reads exists in the installed version."""
    owner = getattr(importlib.import_module(attribute.module), attribute.owner)
    assert has(owner, attribute.name)


@pytest.mark.parametrize("attribute", attributes(), ids=lambda each: f"{each.owner}.{each.name}")
def test_attribute_is_named_by_the_module_in_the_table(attribute: Attribute) -> None:
    """The table has no attribute that its module, or one beside it in the same folder, no longer names."""
    module = importlib.import_module(f"gunicorn_prom_hooks.worker.{attribute.used_by}")
    package = importlib.import_module(f"gunicorn_prom_hooks.worker.{attribute.used_by}".rpartition(".")[0])
    folder = [
        inspect.getsource(module),
        inspect.getsource(_gunicorn)[: inspect.getsource(_gunicorn).index("class Attr")],
    ]
    folder += [path.read_text() for path in importlib.resources.files(package).iterdir() if path.name.endswith(".py")]
    assert any(re.search(rf"\b{attribute.name}\b", source) for source in folder)


def test_missing_attribute_is_detected() -> None:
    """The check finds an attribute that a class does not have."""
    assert not has(importlib.import_module("gunicorn.http.wsgi").Response, "bytes_sent")


@pytest.mark.parametrize("known", [_gunicorn.SYNC, _gunicorn.GTHREAD, _gunicorn.GREENLETS, _gunicorn.GEVENT])
def test_worker_class_has_its_module_and_name(known: _gunicorn.WorkerClass) -> None:
    """Each worker class has the module and the name by which it is recognized."""
    module, name = known
    assert _gunicorn.is_a(getattr(importlib.import_module(module), name), known)


@pytest.mark.parametrize("known", [_gunicorn.TORNADO, _gunicorn.ASGI, _gunicorn.UVICORN[0]])
def test_worker_class_of_another_library_has_its_module_and_name(known: _gunicorn.WorkerClass) -> None:
    """The same for those that need another library."""
    module, name = known
    assert _gunicorn.is_a(getattr(importlib.import_module(module), name), known)


def test_asgi_send_closes_over_the_variables_that_are_read() -> None:
    """The asgi worker's request handler has the variables whose values ``send`` closes over."""
    source = inspect.getsource(importlib.import_module("gunicorn.asgi.protocol").ASGIProtocol)
    names = _gunicorn.SEND_LENGTH, _gunicorn.SEND_SENT, _gunicorn.SEND_STARTED
    assert all(re.search(rf"nonlocal .*\b{name}\b", source) for name in names)


def test_httptools_protocol_of_uvicorn_has_the_attributes_that_are_read() -> None:
    """The class has the attributes, by its source: the module cannot be imported without httptools."""
    spec = importlib.util.find_spec(_gunicorn.HTTPTOOLS_MODULE)
    assert spec is not None
    assert spec.origin is not None
    source = Path(spec.origin).read_text()
    assert all(f"self.{name}" in source for name in _gunicorn.HTTPTOOLS_ATTRIBUTES)


def test_uvicorn_logs_a_refused_request_with_the_known_message() -> None:
    """uvicorn logs a request that it cannot parse, or that is above its limit, with this message, by this logger."""
    source = inspect.getsource(importlib.import_module("uvicorn.protocols.http.h11_impl"))
    assert f'"{_gunicorn.UVICORN_REFUSAL}"' in source
    assert f'"{_gunicorn.UVICORN_LIMIT}"' in source
    assert f'getLogger("{_gunicorn.UVICORN_LOGGER}")' in source


def test_body_size_is_counted_by_the_stream_or_is_that_of_the_body_it_keeps() -> None:
    """The size is the stream's count, or else the length of the body that it keeps; 0 without either."""
    assert _gunicorn.body_size(SimpleNamespace(body_size=5, request_body=BytesIO(b"123"))) == 5
    assert _gunicorn.body_size(SimpleNamespace(request_body=BytesIO(b"123"))) == 3
    assert _gunicorn.body_size(SimpleNamespace()) == 0


def test_departure_is_read_from_what_the_servers_functions_close_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Either a closed connection or a closed stream is a departure; where exceptions tell, nothing is read."""
    self = SimpleNamespace(_closed=False)
    stream = SimpleNamespace(state=SimpleNamespace(name="OPEN"))

    def receive() -> object:
        return stream

    def send() -> object:
        return self

    monkeypatch.setattr(_gunicorn, "SENDS_TO_NOBODY", True)
    has_left = _gunicorn.departure(receive, send)
    assert has_left is not None
    assert not has_left()
    stream.state.name = "CLOSED"
    assert has_left()
    stream.state.name, self._closed = "OPEN", True
    assert has_left()
    assert _gunicorn.departure(len, len) is None
    monkeypatch.setattr(_gunicorn, "SENDS_TO_NOBODY", False)
    assert _gunicorn.departure(receive, send) is None


def test_handled_signal_is_found_in_the_frame_of_the_quit_handler() -> None:
    """Its number is found in gunicorn's handler, however far up; without one there is none."""

    def handle_quit(sig: int, frame: object) -> int:
        return worker_int()

    def worker_int() -> int:
        return handled_signal()

    assert handle_quit.__name__ == _gunicorn.QUIT_HANDLER
    assert handle_quit(signal.SIGQUIT, None) == signal.SIGQUIT
    assert worker_int() == 0
