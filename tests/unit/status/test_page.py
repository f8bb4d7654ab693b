"""The resources of the status page: contents, headers, and hostile text."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any, NoReturn

import pytest

from gunicorn_prom_hooks.model.counts import InFlightRequest
from gunicorn_prom_hooks.model.exits import ExitReason, ExitRecord
from gunicorn_prom_hooks.model.response import Response
from gunicorn_prom_hooks.model.server_snapshot import ServerSnapshot
from gunicorn_prom_hooks.shm.index import clean_label
from gunicorn_prom_hooks.shm.schema import FAILED
from gunicorn_prom_hooks.status import StatusPage, page_data
from tests.helpers.places import TOP
from tests.helpers.snapshots import SimulatedServer, begin, request
from tests.unit.status.test_html import NASTY, Seen

ALL = ("/", "/status.json", "/status.css", "/status.js", "/status.svg")
DATA = ("/", "/status.json")


@pytest.fixture
def server() -> SimulatedServer:
    """A worker with a request in progress, and an exit that interrupted one."""
    server = SimulatedServer()
    lease, recorder = server.add_worker(1)
    request(lease, recorder, labels=("GET", "/items/:id", 200))
    recorder.count(FAILED, "GET", "/items/:id", "ValueError")
    begin(lease, 98.5)
    interrupted_requests = [InFlightRequest(70.0, "GET", "/a")]
    server.exit_stats.keep(
        ExitRecord(40.0, 80.0, "worker_9", 77, ExitReason.SIGNAL, "SIGKILL", interrupted_requests, 1), notable=True
    )
    return server


def resource(server: SimulatedServer, path: str) -> Response:
    """Return the resource of a new status page at this path."""
    found = StatusPage().resource(path, server.snapshot)
    assert found is not None
    return found


@pytest.mark.parametrize(
    "path", ["/metrics", "", "status.css", "//", "/status", "/__init__.py", "/../status.css", "/x/status.css"]
)
def test_unknown_path_has_no_resource_and_takes_no_snapshot(path: str, server: SimulatedServer) -> None:
    """Any other path is left to the caller, and no snapshot is taken for it."""

    def take_snapshot() -> NoReturn:
        raise AssertionError("a snapshot is taken")

    assert StatusPage().resource(path, take_snapshot) is None


def test_paths_are_those_with_a_resource() -> None:
    """The paths of the status page are those at which there is a resource."""
    assert sorted(StatusPage.paths) == sorted(ALL)


@pytest.mark.parametrize("path", ALL)
def test_each_resource_has_strict_headers(path: str, server: SimulatedServer) -> None:
    """Each has the strict policy, nosniff and no-referrer; data is not stored, files are for an hour."""
    found = resource(server, path)
    assert set(found.headers["Content-Security-Policy"].split("; ")) == {
        "default-src 'none'",
        *(f"{what}-src 'self'" for what in ("script", "style", "img", "connect")),
        *(f"{what} 'none'" for what in ("base-uri", "form-action", "frame-ancestors")),
    }
    assert found.headers["X-Content-Type-Options"] == "nosniff"
    assert found.headers["Referrer-Policy"] == "no-referrer"
    assert found.headers["Cache-Control"] == ("no-store" if path in DATA else "max-age=3600")
    assert ("ETag" in found.headers) is (path not in DATA)


def test_each_resource_has_its_content_type(server: SimulatedServer) -> None:
    """Each resource has the content type of its format."""
    assert [resource(server, path).content_type for path in ALL] == [
        "text/html; charset=utf-8",
        "application/json",
        "text/css; charset=utf-8",
        "text/javascript; charset=utf-8",
        "image/svg+xml",
    ]


@pytest.mark.parametrize("path", ALL[2:])
def test_files_are_constant_and_take_no_snapshot(path: str) -> None:
    """A file is bytes that are always the same, and no snapshot is taken for it."""

    def take_snapshot() -> NoReturn:
        raise AssertionError("a snapshot is taken")

    status_page = StatusPage()
    found = status_page.resource(path, take_snapshot)
    assert found is not None
    assert found == status_page.resource(path, take_snapshot)
    assert len(found.body) > 100


def test_page_refers_to_its_own_files_only(server: SimulatedServer) -> None:
    """There is no inline script or style and no address elsewhere; a file's address changes with its content."""
    seen = Seen(resource(server, "/").body)
    links = {value for name, value in seen.attributes if name in ("href", "src")}
    assert {re.sub(r"\?v=[0-9a-f]{16}$", "", link or "") for link in links} == {
        *("status.css", "status.js", "status.svg", "status.json", "metrics", "#main", "./")
    }
    assert not [name for name, _ in seen.attributes if name == "style" or name.startswith("on")]
    assert "style" not in seen.elements
    versions = [link for link in links if link and "?v=" in link]
    assert len(versions) == 3
    for link in versions:
        name, _, version = link.partition("?v=")
        assert resource(server, f"/{name}").headers["ETag"] == f'"{version}"'


def test_script_makes_no_markup_of_text(server: SimulatedServer) -> None:
    """Nothing in the script turns text into markup or code in the page."""
    script = resource(server, "/status.js").body.decode()
    for forbidden in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval",
        "Function(",
        "http:",
        "https:",
    ):
        assert forbidden not in script


def test_json_has_the_fields_of_the_data_in_ascii(server: SimulatedServer) -> None:
    """The fields are those of the model, and it is plain ASCII."""
    body = resource(server, "/status.json").body
    found = json.loads(body.decode("ascii"))
    assert list(found) == [field.name for field in dataclasses.fields(page_data.StatusData)]
    [worker] = found["workers"]["rows"]
    assert worker["requests_in_progress"] == {
        "rows": [{"method": "GET", "path": "/x", "seconds": 1.5, "hangs": False}],
        "more": 0,
    }
    [exit_] = found["exits"]
    assert exit_["requests_in_progress"] == {"rows": [{"method": "GET", "path": "/a", "seconds": 10.0}], "more": 1}
    assert found["endpoints"]["rows"][0]["endpoint"] == "/items/:id"


def test_page_without_a_script_has_all_parts(server: SimulatedServer) -> None:
    """Requests in progress, exits and endpoints are in the page as it is sent, without a script."""
    text = Seen(resource(server, "/").body).text
    for words in ("worker_1", "GET /x 1.5 s", "/items/:id", "worker_9", "SIGKILL", "GET /a 10 s", "and 1 more", "sync"):
        assert words in text, words
    assert "Rates, CPU and latency cover the time since the server started 20 s ago." in text


def test_page_shows_its_period_and_bounds_of_latency(server: SimulatedServer) -> None:
    """The page has its period, "<" for the lowest bucket, ">" above the highest, n/a without any request."""
    status_page = StatusPage()
    status_page.resource("/", server.snapshot)
    server.clock += 30.0
    lease, recorder = server.add_worker(2)
    request(lease, recorder, labels=("GET", "/fast", 200))
    request(lease, recorder, labels=("GET", "/endless", 200), bucket=len(server.snapshot().buckets.bounds))
    found = status_page.resource("/", server.snapshot)
    assert found is not None
    text = Seen(found.body).text
    assert "Rates, CPU and latency cover the last 30 s." in text
    assert "/fastGET10.030< 1 ms< 1 ms< 1 ms" in text
    assert "/endlessGET10.030> 60 s> 60 s> 60 s" in text
    assert "/items/:idGET101n/an/an/a" in text


def test_hanging_request_has_a_mark_in_text_and_its_number_is_in_a_tile(server: SimulatedServer) -> None:
    """A request in progress for 11 s is marked, and the tile has the number; neither is there after 2 s."""
    server.clock += 0.5
    text = Seen(resource(server, "/").body).text
    assert "GET /x 2.0 s" in text
    assert "hangs" not in text.replace("a request hangs after 10 s", "")
    assert "hanging" not in text
    server.clock += 9.0
    text = Seen(resource(server, "/").body).text
    assert "GET /x 11 s hangs" in text
    assert "In progress1 of 11 hanging" in text
    assert "GET /a 10 s" in text
    assert text.count("s hangs") == 1


def test_title_and_heading_name_the_application(server: SimulatedServer) -> None:
    """The title and the first heading begin with the name of the application, and have none if it is not known."""
    html = resource(server, "/").body.decode()
    assert "<title>shop - gunicorn status</title>" in html
    assert "<h1>shop - gunicorn status</h1>" in html
    unknown = StatusPage().resource("/", lambda: dataclasses.replace(server.snapshot(), build={}))
    assert unknown is not None
    assert "<h1>gunicorn status</h1>" in unknown.body.decode()


@pytest.mark.parametrize("text", NASTY)
def test_hostile_text_everywhere_makes_no_markup_and_valid_json(text: str) -> None:
    """As path, method, endpoint, listener, reason or version it makes no element, no attribute, and no bad JSON."""
    harmless, nasty = page_with("x"), page_with(text)
    expected, found = (Seen(resource(server, "/").body) for server in (harmless, nasty))
    assert found.elements == expected.elements
    assert [name for name, _ in found.attributes] == [name for name, _ in expected.attributes]
    assert found.text.replace("\n", "").isprintable()
    assert all((value or "").isprintable() for _, value in found.attributes)
    json.loads(resource(nasty, "/status.json").body)


def page_with(text: str) -> SimulatedServer:
    """Return a server with this text wherever there can be some."""

    class Listener:
        sock = None

        def __str__(self) -> str:
            return text

    class Nasty(SimulatedServer):
        def snapshot(self) -> ServerSnapshot:
            snapshot = super().snapshot()
            workers = [
                dataclasses.replace(worker, in_flight=[InFlightRequest(1.0, text, text)]) for worker in snapshot.workers
            ]
            return dataclasses.replace(snapshot, workers=workers, build=dict.fromkeys(snapshot.build, text))

    server = Nasty()
    lease, recorder = server.add_worker(1)
    request(lease, recorder, labels=(clean_label(text), clean_label(text), 200))
    server.listeners = [Listener()]
    record = ExitRecord(40.0, 80.0, text, 77, ExitReason.ERROR, text, [InFlightRequest(70.0, text, text)], 0)
    server.exit_stats.keep(record, notable=True)
    return server


def test_page_without_any_data_is_complete() -> None:
    """Before the first worker and request, and when no part is available, there is a page."""
    text = Seen(resource(SimulatedServer(), "/").body).text
    assert "None so far." in text
    nothing: Any = None
    snapshot = dataclasses.replace(
        SimulatedServer().snapshot(),
        workers=nothing,
        read_totals=nothing,
        exit_stats=nothing,
        build={},
        listeners=nothing,
    )
    found = StatusPage().resource("/", lambda: snapshot)
    assert found is not None
    assert Seen(found.body).text.count("Not available.") == 5


def test_failed_snapshot_raises_and_the_next_one_makes_a_page(server: SimulatedServer) -> None:
    """If no snapshot can be taken there is no page; the next snapshot makes one."""
    status_page = StatusPage()

    def take_snapshot() -> NoReturn:
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        status_page.resource("/", take_snapshot)
    assert status_page.resource("/", server.snapshot) is not None


def test_documentation_has_every_field_of_the_json() -> None:
    """The table in the documentation names each field of the JSON, as the model has it, and no other."""
    page = (TOP / "docs" / "status.md").read_text()
    documented = set(re.findall(r"^\| `([a-z0-9_.\[\]]+)` \|", page, re.MULTILINE))
    assert documented == set(fields_of(page_data.StatusData))


def fields_of(cls: Any, prefix: str = "") -> list[str]:
    """Return dotted names of the fields, of nested ones too."""
    found = []
    for field in dataclasses.fields(cls):
        kind = str(field.type).removesuffix(" | None")
        rows = kind.startswith("Sequence[")
        inside = getattr(page_data, kind.removeprefix("Sequence[").removesuffix("]"), None)
        name = f"{prefix}{field.name}{'[]' if rows else ''}"
        found += [name] if inside is None else fields_of(inside, f"{name}.")
    return found
