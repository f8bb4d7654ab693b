"""Numbers and names in the documentation are those of the code."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest

from gunicorn_prom_hooks import settings
from gunicorn_prom_hooks.collectors import runner
from gunicorn_prom_hooks.exporter import bound_sockets, connection, event_loop, render_queue
from gunicorn_prom_hooks.master import exit_reason
from gunicorn_prom_hooks.model.exits import ExitReason
from gunicorn_prom_hooks.paths import MAX_LENGTH, MAX_SEGMENTS
from gunicorn_prom_hooks.settings import checks
from gunicorn_prom_hooks.shm import layout, schema
from gunicorn_prom_hooks.status import history, sections
from gunicorn_prom_hooks.worker.asgi.request_recorder import INCOMPLETE
from gunicorn_prom_hooks.worker.asgi.uvicorn import ERROR_TYPE
from gunicorn_prom_hooks.worker.recording import exceptions
from gunicorn_prom_hooks.worker.recording.headers import PLAUSIBLE_SECONDS
from gunicorn_prom_hooks.worker.recording.recorder import MAX_ERROR_TYPES, METHODS
from tests.helpers.places import TOP

DEFAULTS = {
    "endpoint": "route template, or path",
    "multiproc_dir": "a private directory, mode 0700, gone at exit",
    "certfile": "none: plain HTTP",
    "keyfile": "in `certfile`",
    "client_cafile": "none",
    "token": "none",
    "basic_auth": "none",
    "app_metrics": "on",
    "duration_buckets": "0.001 to 60",
    "size_histograms": "on",
    "exclude": "none",
    "labels": "none",
    "created_timestamps": "off",
    "status_page": "on",
    "worker_label": "`age`",
}
"""The words of docs/settings.md for the defaults that are no text or number."""


def page(name: str) -> str:
    """A page, with each run of white space as one space."""
    return " ".join((TOP / name).read_text().split())


def test_settings_table_has_each_environment_variable_and_default() -> None:
    """The table of docs/settings.md has each setting's environment variable and default."""
    rows = re.findall(
        r"^\| `(\w+)` \| (?:`(\w+)`)? ?\| ([^|]*) \|", (TOP / "docs" / "settings.md").read_text(), re.MULTILINE
    )
    expected = []
    for name, (variable, _) in checks.CHECKS.items():
        default = DEFAULTS.get(name, str(getattr(settings.Settings(), name)))
        expected.append((name, variable, default))
    assert sorted(rows) == sorted(expected)
    assert all(not getattr(settings.Settings(), name) for name, words in DEFAULTS.items() if words.startswith("none"))
    assert settings.Settings().app_metrics
    assert settings.Settings().status_page
    assert settings.Settings().worker_label == "age"


@pytest.mark.parametrize(
    ("metric", "bounds"),
    [
        ("gunicorn_request_duration_seconds", settings.DEFAULT_DURATION_BUCKETS),
        ("gunicorn_worker_request_duration_seconds", schema.WORKER_DURATION_BUCKETS),
        ("gunicorn_worker_boot_seconds", exit_reason.BOOT_BUCKETS),
        ("gunicorn_worker_lifetime_seconds", exit_reason.LIFETIME_BUCKETS),
    ],
)
def test_documented_bucket_bounds_are_those_of_the_code(metric: str, bounds: Sequence[float]) -> None:
    """The bounds of a histogram's buckets are those that docs/metrics.md has for it."""
    [listed] = re.findall(rf"^\| `{metric}` .*Buckets: ([\d. ]+)\. \|$", page_lines("docs/metrics.md"), re.MULTILINE)
    assert tuple(map(float, listed.split())) == bounds


def page_lines(name: str) -> str:
    """A page as it is."""
    return (TOP / name).read_text()


def test_documented_size_bounds_are_those_of_the_code() -> None:
    """The bounds of sizes are given in units of 1024 bytes."""
    [listed] = re.findall(r"Buckets: 1024 times ([\d ]+)\.", page("docs/metrics.md"))
    assert tuple(1024.0 * int(bound) for bound in listed.split()) == schema.SIZE_BUCKETS


def test_documented_methods_reasons_and_error_types_are_those_of_the_code() -> None:
    """Methods beyond those of HTTP, reasons of exits, and the error types that are no class names are all listed."""
    metrics = page("docs/metrics.md")
    webdav = re.search(r"WebDAV's ([A-Z, ]+);", metrics)
    assert webdav is not None
    standard = {"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"}
    assert set(webdav[1].split(", ")) == METHODS - standard
    for reason in ExitReason:
        assert f"`{reason}`" in metrics[metrics.index("**reason** of an exit") :]
    for error_type in (exceptions.TIMEOUT, exceptions.SHUTDOWN, exceptions.ABORT, INCOMPLETE, ERROR_TYPE):
        assert f"`{error_type}`:" in metrics


@pytest.mark.parametrize(
    ("name", "words", "actual", "expected"),
    [
        ("docs/metrics.md", "after 16 segments or 200 characters", (MAX_SEGMENTS, MAX_LENGTH), (16, 200)),
        ("docs/metrics.md", "an hour of now", PLAUSIBLE_SECONDS, 3600.0),
        ("docs/metrics.md", "the 128 that a worker names at a time", layout.INFLIGHT_ENTRIES, 128),
        ("docs/design.md", "100 error types", MAX_ERROR_TYPES, 100),
        ("docs/design.md", "128 requests in the in-flight table", layout.INFLIGHT_ENTRIES, 128),
        ("docs/design.md", "The 257th connection evicts one", event_loop.MAX_CONNECTIONS, 256),
        ("docs/design.md", "a quarter of these", event_loop.SHARE_OF_FILES, 0.25),
        ("docs/design.md", "Beyond 32 MB", event_loop.MAX_HELD_BYTES, 32 << 20),
        ("docs/design.md", "up to a quarter of a second", render_queue.LONGEST_PAUSE_SECONDS, 0.25),
        ("docs/design.md", "8 s for all collectors", runner.SCRAPE_SECONDS, 8.0),
        ("docs/metrics.md", "half of 8 s", runner.SCRAPE_SECONDS, 8.0),
        ("SECURITY.md", "256 connections and no more", event_loop.MAX_CONNECTIONS, 256),
        ("SECURITY.md", "5 seconds for a TLS handshake and a request", connection.HEAD_SECONDS, 5.0),
        ("SECURITY.md", "20 seconds to take the answer", connection.BODY_SECONDS, 20.0),
        ("SECURITY.md", "32 MB for answers", event_loop.MAX_HELD_BYTES, 32 << 20),
        ("docs/troubleshooting.md", "tries again every second", bound_sockets.RETRY_SECONDS, 1.0),
        ("docs/status.md", "at most one per 10 s", history.SPACING_SECONDS, 10.0),
        ("docs/status.md", "kept for 60 s", history.KEEP_SECONDS, 60.0),
        ("docs/status.md", "between 50 and 60 s long", history.KEEP_SECONDS - history.SPACING_SECONDS, 50.0),
        ("docs/status.md", "duration bucket: 0.001 by default", settings.DEFAULT_DURATION_BUCKETS[0], 0.001),
        ("docs/status.md", "100 workers, 5 requests of each", (sections.MAX_WORKERS, sections.MAX_REQUESTS), (100, 5)),
        ("docs/status.md", "for longer than 10 s, or than half", sections.HANGING_SECONDS, 10.0),
        ("docs/status.md", "the 128 that a worker names", layout.INFLIGHT_ENTRIES, 128),
        (
            "docs/status.md",
            "0 means less than 0.005, and 10",
            (schema.LAG_BUCKETS[0], schema.LAG_BUCKETS[-1]),
            (0.005, 10.0),
        ),
        ("docs/status.md", "the 50 endpoints", sections.MAX_ENDPOINTS, 50),
        ("docs/status.md", "20 worker exits that are unexpected or interrupted a request", exit_reason.MAX_NOTABLE, 20),
        ("docs/status.md", "5 expected exits", exit_reason.MAX_ROUTINE, 5),
        ("docs/status.md", "10 requests of each", exit_reason.MAX_REQUESTS, 10),
        ("docs/status.md", "below +Inf: 60 by default", settings.DEFAULT_DURATION_BUCKETS[-1], 60.0),
    ],
)
def test_documented_limits_are_those_of_the_code(name: str, words: str, actual: object, expected: object) -> None:
    """Each limit that a page gives in these words is the one in the code."""
    assert words in page(name)
    assert actual == expected


def test_files_named_in_the_design_exist() -> None:
    """Each path in backticks in docs/design.md is a file or a folder of the package or of the tests."""
    text = page("docs/design.md")
    names = {name for name in re.findall(r"`([\w/]+(?:\.py|/))`", text) if name != "/"}
    assert len(names) > 50
    roots = (TOP / "gunicorn_prom_hooks", TOP)
    assert [name for name in sorted(names) if not any((root / name).exists() for root in roots)] == []


def test_functions_named_in_the_design_exist() -> None:
    """Each `Class.method` in docs/design.md is defined in the package."""
    source = "\n".join(path.read_text() for path in (TOP / "gunicorn_prom_hooks").rglob("*.py"))
    for owner, name in re.findall(r"`([A-Z]\w+)\.(\w+)`", page("docs/design.md")):
        if owner != "BaseHTTPMiddleware":
            assert f"class {owner}" in source, owner
            assert f"def {name}(" in source, name
