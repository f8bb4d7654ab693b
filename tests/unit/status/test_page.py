"""The status page's resources: what they are, what HTTP says of them, and what attackers cannot do to them."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any, NoReturn

import pytest

from gunicorn_prom_hooks.model.exits import ExitReason, ExitRecord
from gunicorn_prom_hooks.model.requests import InFlightRequest
from gunicorn_prom_hooks.model.response import Resource
from gunicorn_prom_hooks.model.server_snapshot import ServerSnapshot
from gunicorn_prom_hooks.shm.index import clean_label
from gunicorn_prom_hooks.shm.schema import FAILED
from gunicorn_prom_hooks.status import Site, page_data
from tests.helpers.places import TOP
from tests.helpers.snapshots import Scene, begin, request
from tests.unit.status.test_html import NASTY, Seen

ALL = ("/", "/status.json", "/status.css", "/status.js", "/status.svg")
DATA = ("/", "/status.json")


@pytest.fixture
def scene() -> Scene:
    """A worker that is at a request, and one that died on one."""
    scene = Scene()
    lease, recorder = scene.hire(1)
    request(lease, recorder, labels=("GET", "/items/:id", 200))
    recorder.count(FAILED, "GET", "/items/:id", "ValueError")
    begin(lease, 98.5)
    interrupted_requests = [InFlightRequest(70.0, "GET", "/a")]
    scene.exit_stats.keep(
        ExitRecord(40.0, 80.0, "worker_9", 77, ExitReason.SIGNAL, "SIGKILL", interrupted_requests, 1), notable=True
    )
    return scene


def resource(scene: Scene, path: str) -> Resource:
    """What a new site has there."""
    found = Site().resource(path, scene.view)
    assert found is not None
    return found


@pytest.mark.parametrize(
    "path", ["/metrics", "", "status.css", "//", "/status", "/__init__.py", "/../status.css", "/x/status.css"]
)
def test_there_is_nothing_else(path: str, scene: Scene) -> None:
    """Any other path is left to the caller, and nobody looks at the server for it."""

    def look() -> NoReturn:
        raise AssertionError("looked")

    assert Site().resource(path, look) is None


def test_it_says_where_it_is() -> None:
    """The paths that it names are those at which there is something."""
    assert sorted(Site.paths) == sorted(ALL)


@pytest.mark.parametrize("path", ALL)
def test_headers(path: str, scene: Scene) -> None:
    """Each has the strict policy, cannot be sniffed, tells no referrer; data is not stored, files are for a while."""
    found = resource(scene, path)
    assert set(found.headers["Content-Security-Policy"].split("; ")) == {
        "default-src 'none'",
        *(f"{what}-src 'self'" for what in ("script", "style", "img", "connect")),
        *(f"{what} 'none'" for what in ("base-uri", "form-action", "frame-ancestors")),
    }
    assert found.headers["X-Content-Type-Options"] == "nosniff"
    assert found.headers["Referrer-Policy"] == "no-referrer"
    assert found.headers["Cache-Control"] == ("no-store" if path in DATA else "max-age=3600")
    assert ("ETag" in found.headers) is (path not in DATA)


def test_content_types(scene: Scene) -> None:
    """Each is what it is."""
    assert [resource(scene, path).content_type for path in ALL] == [
        "text/html; charset=utf-8",
        "application/json",
        "text/css; charset=utf-8",
        "text/javascript; charset=utf-8",
        "image/svg+xml",
    ]


@pytest.mark.parametrize("path", ALL[2:])
def test_files_need_no_look(path: str) -> None:
    """A file is bytes that are always the same, and nobody looks at the server for it."""

    def look() -> NoReturn:
        raise AssertionError("looked")

    site = Site()
    found = site.resource(path, look)
    assert found is not None
    assert found == site.resource(path, look)
    assert len(found.body) > 100


def test_the_page_refers_to_its_files_alone(scene: Scene) -> None:
    """There is no inline script or style and no address elsewhere; a file's address changes with its content."""
    seen = Seen(resource(scene, "/").body)
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
        assert resource(scene, f"/{name}").headers["ETag"] == f'"{version}"'


def test_the_script_makes_no_markup(scene: Scene) -> None:
    """Nothing in it turns text into markup or code in the page."""
    script = resource(scene, "/status.js").body.decode()
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


def test_json_is_the_snapshot(scene: Scene) -> None:
    """The fields are those of the model, and it is plain ASCII."""
    body = resource(scene, "/status.json").body
    found = json.loads(body.decode("ascii"))
    assert list(found) == [field.name for field in dataclasses.fields(page_data.Snapshot)]
    [worker] = found["workers"]["rows"]
    assert worker["at"] == {"rows": [{"method": "GET", "path": "/x", "seconds": 1.5}], "more": 0}
    [death] = found["deaths"]
    assert death["at"] == {"rows": [{"method": "GET", "path": "/a", "seconds": 10.0}], "more": 1}
    assert found["endpoints"]["rows"][0]["endpoint"] == "/items/:id"


def test_the_page_says_it_all(scene: Scene) -> None:
    """What is at, what died, what was requested: it is in the page as it is sent, without a script."""
    text = Seen(resource(scene, "/").body).text
    for words in ("worker_1", "GET /x 1.5 s", "/items/:id", "worker_9", "SIGKILL", "GET /a 10 s", "and 1 more", "sync"):
        assert words in text, words
    assert "averages since the server's start, 20 s ago" in text


@pytest.mark.parametrize("text", NASTY)
def test_nasty_text_everywhere(text: str) -> None:
    """As path, method, endpoint, listener, reason or version it makes no element, no attribute, and no bad JSON."""
    harmless, nasty = page_with("x"), page_with(text)
    expected, found = (Seen(resource(scene, "/").body) for scene in (harmless, nasty))
    assert found.elements == expected.elements
    assert [name for name, _ in found.attributes] == [name for name, _ in expected.attributes]
    assert found.text.replace("\n", "").isprintable()
    assert all((value or "").isprintable() for _, value in found.attributes)
    json.loads(resource(nasty, "/status.json").body)


def page_with(text: str) -> Scene:
    """A scene with this text wherever there can be some."""

    class Listener:
        sock = None

        def __str__(self) -> str:
            return text

    class Nasty(Scene):
        def view(self) -> ServerSnapshot:
            view = super().view()
            workers = [
                dataclasses.replace(worker, in_flight=[InFlightRequest(1.0, text, text)]) for worker in view.workers
            ]
            return dataclasses.replace(view, workers=workers, build=dict.fromkeys(view.build, text))

    scene = Nasty()
    lease, recorder = scene.hire(1)
    request(lease, recorder, labels=(clean_label(text), clean_label(text), 200))
    scene.listeners = [Listener()]
    record = ExitRecord(40.0, 80.0, text, 77, ExitReason.ERROR, text, [InFlightRequest(70.0, text, text)], 0)
    scene.exit_stats.keep(record, notable=True)
    return scene


def test_a_page_without_anything() -> None:
    """Before the first worker and request, and when no part can be had, there is a page."""
    text = Seen(resource(Scene(), "/").body).text
    assert "None so far." in text
    nothing: Any = None
    view = dataclasses.replace(
        Scene().view(), workers=nothing, read_totals=nothing, exit_stats=nothing, build={}, listeners=nothing
    )
    found = Site().resource("/", lambda: view)
    assert found is not None
    assert Seen(found.body).text.count("Not available.") == 5


def test_a_failed_look_is_the_callers(scene: Scene) -> None:
    """If nobody can look at the server there is no page; the next look makes one."""
    site = Site()

    def look() -> NoReturn:
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        site.resource("/", look)
    assert site.resource("/", scene.view) is not None


def test_the_documentation_has_every_field() -> None:
    """The table in the documentation names each field of the JSON, as the model has it, and no other."""
    page = (TOP / "docs" / "status.md").read_text()
    documented = set(re.findall(r"^\| `([a-z0-9_.\[\]]+)` \|", page, re.MULTILINE))
    assert documented == set(fields_of(page_data.Snapshot))


def fields_of(cls: Any, prefix: str = "") -> list[str]:
    """Dotted names of the fields, of what is inside of them too."""
    found = []
    for field in dataclasses.fields(cls):
        kind = str(field.type).removesuffix(" | None")
        rows = kind.startswith("Sequence[")
        inside = getattr(page_data, kind.removeprefix("Sequence[").removesuffix("]"), None)
        name = f"{prefix}{field.name}{'[]' if rows else ''}"
        found += [name] if inside is None else fields_of(inside, f"{name}.")
    return found
