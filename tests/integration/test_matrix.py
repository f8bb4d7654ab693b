"""A part of the matrix that fits a test run: the oldest and the newest of everything, and another Python."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.compatibility import NONE, PAGE, line, lines_of
from tests.helpers.environments import Environment, NotInstallable
from tests.helpers.interpreters import interpreters
from tests.helpers.matrix import KNOWN, PARTS, Tables, notes, run
from tests.integration.conftest import missing

OLDEST = ("sync", "gthread", "gevent", "tornado", "eventlet", "uvicorn_worker.UvicornWorker")
NEWEST = ("sync", "asgi", "gthread, HTTP/2")
BETWEEN = (("25.3", "eventlet"), ("25.0", "asgi"), ("25.3", "asgi, HTTP/2"))
"""Cells that need code of their own: eventlet patches the master, and the client's leaving is told in another way."""


def checked(environment: Environment, kind: str, folder: Path) -> None:
    """Run a cell. Every failure has a known cause."""
    try:
        environment.make()
    except NotInstallable as error:
        missing(str(error))
    result = run(environment, kind, folder)
    assert result.failed is not None, result
    assert notes([(kind, result)])[1] == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", OLDEST)
def test_oldest_dependencies_pass_the_checks(tmp_path: Path, kind: str) -> None:
    """The lower bounds are facts: gunicorn, prometheus_client and psutil, all oldest, on the oldest Python found."""
    checked(Tables(interpreters()).oldest()[0].environment, kind, tmp_path / "1")


@pytest.mark.slow
@pytest.mark.parametrize("kind", NEWEST)
def test_newest_python_passes_the_checks(tmp_path: Path, kind: str) -> None:
    """The newest of everything, on the newest Python found."""
    newest = [column for column in Tables(interpreters()).pythons() if "t" not in column.heading][-1]
    checked(newest.environment, kind, tmp_path / "1")


@pytest.mark.slow
@pytest.mark.parametrize(("gunicorn", "kind"), BETWEEN)
def test_versions_between_pass_the_checks(tmp_path: Path, gunicorn: str, kind: str) -> None:
    """Versions that are neither the oldest nor the newest."""
    tables = Tables(interpreters())
    pins = (f"gunicorn=={gunicorn}.*",)
    checked(Environment(tables.main, tables.found[tables.main], pins), kind, tmp_path / "1")


def test_tables_are_complete_and_every_failure_in_them_has_a_reason() -> None:
    """Each table has a row for each worker class; a cell is yes, a dash, or names checks whose reason stands below."""
    text = PAGE.read_text()
    reasons = {f"- {known.reason}" for known in KNOWN}
    assert set(lines_of(text, "reasons")) <= reasons
    for name in PARTS:
        heading, _, *rows = lines_of(text, name)
        assert heading.startswith(line("worker class")[:-2])
        for row in rows:
            kind, *cells = (cell.strip() for cell in row.strip("|").split(" | "))
            for cell in cells:
                failed = cell.removeprefix("not ").split(", ") if cell.startswith("not ") else []
                assert failed or cell in ("yes", NONE), row
                known = {each.check for each in KNOWN if each.kind == kind.replace("`", "")}
                assert set(failed) <= known, row
