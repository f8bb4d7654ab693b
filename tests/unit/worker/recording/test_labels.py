"""The label endpoint."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from types import ModuleType, SimpleNamespace
from typing import Any

import flask
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from werkzeug.test import create_environ

from gunicorn_prom_hooks.errors import ErrorReporter
from gunicorn_prom_hooks.paths import REST, normalize_path
from gunicorn_prom_hooks.shm.schema import FAILED, QUEUE, REQUEST_SIZE_SUM
from gunicorn_prom_hooks.worker.recording import labels
from gunicorn_prom_hooks.worker.recording.labels import Naming, resolver
from tests.helpers.frameworks import only
from tests.helpers.recording import Bench, Recorded, answers

segment = st.one_of(
    st.from_regex(r"[0-9]{1,12}", fullmatch=True),
    st.from_regex(r"[0-9a-f]{6,12}", fullmatch=True),
    st.uuids().map(str),
    st.text(alphabet="abcv019-_.:%é~", max_size=12),
)
paths = st.one_of(st.text(max_size=60), st.lists(segment, max_size=6).map(lambda parts: "/" + "/".join(parts)))


@settings(deadline=None, max_examples=300)
@given(paths)
def test_normalize_path_is_idempotent_and_keeps_segments(path: str) -> None:
    """Normalizing again changes nothing, and no path segment is added or lost."""
    general = normalize_path(path)
    assert normalize_path(general) == general
    assert general.count("/") == path.count("/") or general.endswith(REST)


@settings(deadline=None, max_examples=300)
@given(st.lists(segment, max_size=6))
def test_normalize_path_replaces_every_number_uuid_and_digest_segment(parts: list[str]) -> None:
    """A segment that is digits only, a UUID, or long hex with a digit in it is replaced; words stay."""
    variable = re.compile(r"[0-9]+|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|(?=.*[0-9])[0-9a-f]{8,}")
    for before, after in zip(parts, normalize_path("/".join(parts)).split("/"), strict=bool(parts)):
        if variable.fullmatch(before):
            assert after == ":id"
        if not re.search("[0-9]", before):
            assert after == before


@pytest.mark.parametrize(
    ("path", "general"),
    [
        ("/", "/"),
        ("", ""),
        ("/items/7", "/items/:id"),
        ("/v1/items/7/", "/v1/items/:id/"),
        ("/api/v2.1/x", "/api/v2.:id/x"),
        ("/items/7/parts/0815", "/items/:id/parts/:id"),
        ("/2024-05-06/report.pdf", "/:id-:id-:id/report.pdf"),
        ("/users/6ba7b810-9dad-11d1-80b4-00c04fd430c8/edit", "/users/:id/edit"),
        ("/users/6BA7B810-9DAD-11D1-80B4-00C04FD430C8", "/users/:id"),
        ("/commit/9fceb02d0ae598e95dc970b74767f19372d61af8", "/commit/:id"),
        ("/facade/deadbeef/added", "/facade/deadbeef/added"),
        ("/cafe1", "/cafe1"),
        ("/mp3/item7", "/mp3/item7"),
        ("/7up/12345678z", "/7up/12345678z"),
        ("//7//", "//:id//"),
    ],
)
def test_normalize_path_replaces_ids_and_keeps_numbers_inside_words(path: str, general: str) -> None:
    """Numbers, UUIDs and digests become :id; numbers inside words stay."""
    assert normalize_path(path) == general


def test_endpoint_of_an_absolute_uri_without_a_path_is_the_root() -> None:
    """``GET http://localhost HTTP/1.1``: an empty label would be no label."""
    with Bench() as bench:
        bench.send(b"GET http://localhost HTTP/1.1\r\nHost: localhost\r\n\r\n", answers())
        bench.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", answers())
        assert bench.requests() == {("GET", "/", "200"): 2.0}


def test_normalize_path_of_8000_characters_does_not_backtrack() -> None:
    """The pattern does not backtrack: a path as long as gunicorn lets through is done at once."""
    for path in ("/" + "a" * 8000 + "g", "/" + "1" * 8000 + "g", "/" + "1234-" * 1600, "/" + "12345678-1234-" * 570):
        assert len(normalize_path(path)) <= len(path)


@pytest.fixture(autouse=True)
def only_flask(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hides what other tests of this process have imported."""
    only(monkeypatch, "flask")


def ask(endpoint: Any, environ: Mapping[str, Any] | None = None) -> tuple[str | None, ErrorReporter]:
    """What a resolver made for the user's callable says, and the guard that it had."""
    errors = ErrorReporter()
    resolve = resolver(endpoint, errors)
    assert resolve is not None
    return resolve(environ or {}), errors


def test_endpoint_callable_has_priority() -> None:
    """What the user's callable returns for the environ is the endpoint, whatever the framework says."""
    answer, errors = ask(lambda environ: environ["x.endpoint"], {"x.endpoint": "mine"})
    assert answer == "mine"
    assert errors.counts == {}


def served_by_flask(path: str) -> dict[str, Any]:
    """The environ of a request, after a real application has served it."""
    app = flask.Flask("app")
    app.add_url_rule("/items/<int:number>", "item", lambda number: "")
    environ = create_environ(path)
    b"".join(app(environ, lambda status, headers, exc_info=None: lambda data: None))
    return environ


def broken(environ: Mapping[str, Any]) -> str:
    """A user's callable with a bug."""
    raise KeyError("route")


@pytest.mark.parametrize(
    ("endpoint", "failures"),
    [(lambda environ: None, 0), (broken, 1), (lambda environ: 7, 1), (lambda environ: b"/x", 1)],
)
def test_endpoint_callable_without_a_text_leaves_the_endpoint_to_flask(endpoint: Any, failures: int) -> None:
    """A callable that returns None, raises or returns no text leaves the endpoint to others; the last two count."""
    errors = ErrorReporter()
    resolve = resolver(endpoint, errors)
    assert resolve is not None
    assert resolve(served_by_flask("/items/7")) == "/items/<int:number>"
    assert errors.counts == ({"endpoint": failures} if failures else {})
    assert ask(endpoint)[0] is None


def test_flask_rule_is_the_endpoint_without_a_callable() -> None:
    """Without a callable Flask's route template is the endpoint, and <unmatched> where Flask had no rule."""
    resolve = resolver(None, ErrorReporter())
    assert resolve is not None
    assert resolve(served_by_flask("/items/7")) == "/items/<int:number>"
    assert resolve(served_by_flask("/items/x")) == "<unmatched>"
    assert resolve({}) is None


def test_unknown_version_of_flask_is_counted_and_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A version of a framework that has not what we need costs a count, and its route templates."""
    monkeypatch.setitem(sys.modules, "flask", ModuleType("flask"))
    errors = ErrorReporter()
    assert resolver(None, errors) is None
    assert errors.counts == {"flask": 1}


def test_resolver_is_none_without_callable_and_framework(monkeypatch: pytest.MonkeyPatch) -> None:
    """An application that has imported no known framework gets no resolver at all, or the user's alone."""
    only(monkeypatch)
    assert resolver(None, ErrorReporter()) is None
    answer, _ = ask(lambda environ: "mine", {"werkzeug.request": None})
    assert answer == "mine"


class Kept:
    """A cache that notes what it is to keep."""

    def __init__(self) -> None:
        self.paths: list[str] = []

    def keep(self, method: str, path: str, *_: object) -> None:
        """Note the path."""
        self.paths.append(path)


def named(recorded: Recorded) -> tuple[Naming, Kept]:
    """Return what names endpoints in this slot, and its cache."""
    kept: Any = Kept()
    return Naming(recorded.recorder, kept), kept


@pytest.mark.parametrize("status", [404, 405])
def test_path_without_a_label_is_unmatched_after_404_and_405(status: int) -> None:
    """Without a template the status tells that no route has matched."""
    naming, _ = named(Recorded())
    assert naming.endpoint("/x/1", status, None) == "<unmatched>"
    assert naming.endpoint("/x/1", 403, None) == "/x/:id"
    assert naming.endpoint("/x/1", status, "mine") == "mine"


@pytest.mark.parametrize(
    ("path", "status", "kept"), [("/a", 200, True), ("/b", 499, False), ("/c", 404, False), ("/d", 500, True)]
)
@pytest.mark.parametrize("before", [0, 1])
def test_row_is_kept_unless_it_is_of_a_scanner_or_a_disconnect(path: str, status: int, kept: bool, before: int) -> None:
    """The cache keeps the row of a usual request. The size of the body is added to this row, wherever it begins."""
    recorded = Recorded()
    for _ in range(before):
        recorded.recorder.count(FAILED, "GET", "/", "x")  # a series of one cell
    naming, cache = named(recorded)
    row = naming.find_row({}, "GET", path, status, None, (status, 0, 0), 1234)
    assert cache.paths == [path] * kept
    words = recorded.slot.words
    assert words[row.at + REQUEST_SIZE_SUM] == 1234.0
    assert [at for at, value in enumerate(words) if value == 1234.0] == [row.at + REQUEST_SIZE_SUM]


@pytest.mark.parametrize(("late", "place"), [(0.002, 1), (0.03, 5), (0.25, 8), (100.0, 18)])
def test_time_in_queue_is_added_to_its_bucket(monkeypatch: pytest.MonkeyPatch, late: float, place: int) -> None:
    """The time from the proxy's stamp to the request's start is in the sum and in the bucket whose bound is next."""
    now = 1_800_000_000.0
    monkeypatch.setattr(labels, "time", lambda: now)
    recorded = Recorded()
    naming, _ = named(recorded)
    naming.queued(f"t={now - 3.0 - late:.3f}", 3.0)
    cells = recorded.series(QUEUE)[()]
    assert cells[0] == pytest.approx(late, abs=0.001)
    assert {at: count for at, count in enumerate(cells[1:]) if count} == {place: 1.0}


def framework(route: Callable[..., Any], module: str = "sys", prepare: Callable[[], None] = lambda: None) -> Any:
    """Return a framework that the application has imported."""
    return SimpleNamespace(MODULE=module, prepare=prepare, route=route)


def fail(*_: object) -> None:
    """Fail as with an unknown version of a framework."""
    raise LookupError


def test_framework_that_cannot_be_prepared_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """One framework of an unknown version is counted. Of the two others both are asked."""
    others = framework(lambda given: given.get("first")), framework(lambda given: given.get("second"), "os.path")
    monkeypatch.setattr(labels, "FRAMEWORKS", (framework(fail, "sys", fail), *others))
    errors = ErrorReporter()
    resolve = resolver(None, errors)
    assert resolve is not None
    assert errors.counts == {"sys": 1}
    assert resolve({"second": "/b"}) == "/b"
    assert resolve({"first": "/a", "second": "/b"}) == "/a"


def test_framework_that_fails_at_a_request_leaves_it_to_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """A framework that cannot tell the template of one request is counted; the request goes on."""
    monkeypatch.setattr(labels, "FRAMEWORKS", (framework(fail, "os.path"),))
    errors = ErrorReporter()
    resolve = resolver(None, errors)
    assert resolve is not None
    assert not errors.counts
    assert resolve({}) is None
    assert errors.counts == {"os": 1}


def test_first_template_of_several_frameworks_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The template of an earlier framework is used, whatever a later one says; ``<unmatched>`` if none has another."""
    answers: list[str | None] = []

    def answering(number: int) -> Any:
        return framework(lambda given: answers[number])

    monkeypatch.setattr(labels, "FRAMEWORKS", tuple(map(answering, range(3))))
    resolve = resolver(None, ErrorReporter())
    assert resolve is not None
    for told, expected in (
        (["/a", "/b", "/c"], "/a"),
        ([None, "/b", "<unmatched>"], "/b"),
        (["<unmatched>", None, "/c"], "/c"),
        (["<unmatched>", None, None], "<unmatched>"),
        (["named", "/b", None], "named"),
        ([None, None, None], None),
    ):
        answers[:] = told
        assert resolve({}) == expected
