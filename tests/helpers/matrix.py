"""The package with every gunicorn, worker class and Python that can be installed, measured on real servers.

Run as a program it writes the tables of docs/compatibility.md about versions anew: ``make matrix``.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Final

from tests.helpers import matrix_checks, matrix_http2
from tests.helpers.compatibility import ASGI, NONE, PAGE, WORKERS, YES, line, lines_of, replace_lines
from tests.helpers.environments import Environment, NotInstallable, lower_bounds
from tests.helpers.http2_client import TlsServer
from tests.helpers.interpreters import WANTED, interpreters
from tests.helpers.matrix_checks import CONFIG, Cell, failures
from tests.helpers.servers import Server

GUNICORNS: Final = ("21.2", "22", "23", "24.1", "25.0", "25.3", "26.2", "27.0")
MAIN_PYTHON: Final = "3.12"
"""The interpreter of the table of gunicorn versions, or else the newest one found that is not free-threaded."""
HTTP2: Final = ", HTTP/2"
UVICORN: Final = "uvicorn_worker.UvicornWorker"
KINDS: Final = (
    "sync",
    "gthread",
    "gevent",
    "tornado",
    "eventlet",
    "asgi",
    UVICORN,
    "gthread" + HTTP2,
    "gevent" + HTTP2,
    "asgi" + HTTP2,
)
"""The rows: worker classes, and those of them that speak HTTP/2."""
CONFIGS: Final = {**WORKERS, "eventlet": "worker_class = 'eventlet'\n"}
AT_ONCE: Final = 6
PARTS: Final = ("gunicorn versions", "Python versions", "oldest")
"""The names of the tables in the page."""


@dataclass(frozen=True)
class Known:
    """A failure with a known cause.

    Attributes:
        kind: the row.
        check: the check that fails.
        gunicorns: the first and the last major version in which it was seen.
        reason: what the table says of it.
        free_threaded: whether it is seen with free-threaded interpreters only.
    """

    kind: str
    check: str
    gunicorns: tuple[int, int]
    reason: str
    free_threaded: bool = False

    def is_of(self, kind: str, check: str, result: Result) -> bool:
        """Return whether this is the cause of a failure."""
        first, last = self.gunicorns
        return (
            (kind, check) == (self.kind, self.check)
            and first <= int(result.gunicorn.partition(".")[0]) <= last
            and (result.python.endswith("t") or not self.free_threaded)
        )


KNOWN: Final = (
    Known(
        "tornado",
        "499",
        (0, 999),
        "tornado, 499: Tornado's WSGI container sends nothing before the whole body is there, and does not learn of a "
        "client disconnect.",
    ),
    *(
        Known(
            kind,
            check,
            versions,
            "HTTP/2, reset and cut: gunicorn 25 goes on waiting for the client of a stream that has been reset to take "
            "more of the response, so the request stays in progress. gunicorn 26 drops the response in its gthread and "
            "gevent workers without telling, and the status is the application's.",
        )
        for kind, check, versions in (
            ("gthread, HTTP/2", "reset", (25, 26)),
            ("gevent, HTTP/2", "reset", (25, 26)),
            ("gthread, HTTP/2", "cut", (25, 25)),
            ("gevent, HTTP/2", "cut", (25, 25)),
            ("asgi, HTTP/2", "reset", (25, 25)),
            ("asgi, HTTP/2", "cut", (25, 25)),
        )
    ),
    *(
        Known(
            kind,
            "log",
            (0, 999),
            "Free-threaded Python, log: now and then a collector does not return within its time limit. Its metrics "
            "are missing from that scrape, and the failure is counted.",
            free_threaded=True,
        )
        for kind in ("sync", "gthread", "asgi", UVICORN)
    ),
)


@dataclass(frozen=True)
class Column:
    """A column of a table: an environment, and its heading.

    Attributes:
        environment: where the cells run.
        heading: the heading; names in braces are replaced by the versions that are installed.
    """

    environment: Environment
    heading: str

    @property
    def title(self) -> str:
        """Return the heading with the versions."""
        return self.heading.format(**self.environment.versions)


@dataclass(frozen=True)
class Result:
    """What was seen in a cell.

    Attributes:
        failed: the checks that failed, with the reason of each; None if the cell cannot be run.
        gunicorn: its version.
        python: the version of the interpreter, such as ``3.13t``.
    """

    failed: Mapping[str, str] | None
    gunicorn: str
    python: str

    def text(self) -> str:
        """Return the cell of the table."""
        if self.failed is None:
            return NONE
        return YES if not self.failed else "not " + ", ".join(self.failed)


def exists(kind: str, gunicorn: str) -> bool:
    """Return whether this gunicorn has the worker class."""
    major = int(gunicorn.partition(".")[0])
    if kind == "eventlet":
        return major < 26
    return major >= 25 or not (kind == "asgi" or kind.endswith(HTTP2))


def run(environment: Environment, kind: str, folder: Path) -> Result:
    """Make the environment if it is not there, run a server of this kind in it, and check it."""
    environment.make()
    gunicorn = environment.versions["gunicorn"]
    worker = kind.removesuffix(HTTP2)
    if not exists(kind, gunicorn) or not environment.has(worker) or not environment.has("h2"):
        return Result(None, gunicorn, environment.python)
    config = CONFIG + CONFIGS[worker]
    server: Server
    if kind.endswith(HTTP2):
        app = matrix_http2.ASGI_APP if worker in ASGI else matrix_http2.WSGI_APP
        server, checks = TlsServer(folder, app=app, config=config, gunicorn=environment.gunicorn), matrix_http2.CHECKS
    else:
        app = matrix_checks.ASGI_APP if worker in ASGI else matrix_checks.WSGI_APP
        server, checks = Server(folder, app=app, config=config, gunicorn=environment.gunicorn), matrix_checks.CHECKS
    try:
        with server:
            return Result(failures(Cell(server, worker), checks), gunicorn, environment.python)
    except AssertionError as error:
        return Result({"start": str(error)}, gunicorn, environment.python)


@dataclass(frozen=True)
class Tables:
    """The tables, for the interpreters that were found."""

    found: Mapping[str, str]

    @cached_property
    def main(self) -> str:
        """Return the version of the interpreter that most cells run on."""
        return MAIN_PYTHON if MAIN_PYTHON in self.found else [name for name in self.found if "t" not in name][-1]

    def gunicorns(self) -> list[Column]:
        """Return a column for each gunicorn."""
        one = Environment(self.main, self.found[self.main])
        return [Column(replace(one, pins=(f"gunicorn=={each}.*",)), "{gunicorn}") for each in GUNICORNS]

    def pythons(self) -> list[Column]:
        """Return a column for each interpreter, with the newest of everything."""
        return [Column(Environment(each, path), each) for each, path in self.found.items()]

    def oldest(self) -> list[Column]:
        """Return a column with the oldest dependencies, of the oldest interpreter, and one with the newest gunicorn."""
        first = next(iter(self.found))
        bounds = lower_bounds()
        gunicorn = f"gunicorn=={bounds.pop('gunicorn')}"
        pins = tuple(f"{name}=={version}" for name, version in sorted(bounds.items()))
        heading = "gunicorn {gunicorn}, prometheus_client {prometheus_client}, psutil {psutil}"
        one = Environment(first, self.found[first])
        return [
            Column(replace(one, pins=(gunicorn, *pins)), heading),
            Column(replace(one, pins=pins), heading),
        ]


def table(columns: Iterable[Column], results: Mapping[tuple[Environment, str], Result]) -> list[str]:
    """Return the lines of a table with a row for each kind."""
    columns = list(columns)
    lines = [line("worker class", *(column.title for column in columns)), line(*["---"] * (len(columns) + 1))]
    for kind in KINDS:
        if all(results.get((column.environment, kind), Result(None, "", "")).failed is None for column in columns):
            continue
        worker, comma, rest = kind.partition(",")
        row = [results[column.environment, kind].text() for column in columns]
        lines.append(line(f"`{worker}`{comma}{rest}", *row))
    return lines


def notes(results: Iterable[tuple[str, Result]]) -> tuple[list[str], list[str]]:
    """Return the reasons of the failures, and those that have none, as lines."""
    reasons: dict[str, None] = {}
    unexplained = []
    for kind, result in results:
        for check, why in (result.failed or {}).items():
            known = [each for each in KNOWN if each.is_of(kind, check, result)]
            reasons.update(dict.fromkeys(f"- {each.reason}" for each in known))
            if not known:
                unexplained.append(f"{kind}, gunicorn {result.gunicorn}, {check}: {why}")
    return sorted(reasons), unexplained


def write(name: str, lines: Iterable[str]) -> None:
    """Replace what stands between the marks of this name in the page."""
    text = PAGE.read_text()
    PAGE.write_text(replace_lines(text, name, lines))


def main(names: Collection[str] = PARTS) -> int:
    """Run the cells of these tables, write them, and return 1 if a failure has no known cause."""
    found = interpreters()
    print("not found:", ", ".join(name for name in WANTED if name not in found) or "none")  # noqa: T201 - its report
    tables = Tables(found)
    parts = dict(zip(PARTS, (tables.gunicorns(), tables.pythons(), tables.oldest()), strict=True))
    parts = {name: columns for name, columns in parts.items() if name in names}
    usable: dict[str, list[Column]] = {}
    for name, columns in parts.items():
        for column in columns:
            try:
                column.environment.make(anew=True)
                usable.setdefault(name, []).append(column)
            except NotInstallable as error:
                print(f"left out: {error}")  # noqa: T201 - its report
    cells = [
        (column.environment, kind)
        for name, columns in usable.items()
        for column in columns
        for kind in KINDS
        if name == PARTS[0] or HTTP2 not in kind
    ]
    with tempfile.TemporaryDirectory() as temporary, ThreadPoolExecutor(AT_ONCE) as threads:

        def measure(number: int, cell: tuple[Environment, str]) -> Result:
            result = run(*cell, Path(temporary) / str(number))
            if notes([(cell[1], result)])[1]:  # a machine that is busy, or a fault: once more
                print(cell[0].folder.name, cell[1], result, "once more", flush=True)  # noqa: T201 - its report
                result = run(*cell, Path(temporary) / f"{number}-again")
            print(cell[0].folder.name, cell[1], result.text(), flush=True)  # noqa: T201 - its report
            for check, why in (result.failed or {}).items():
                print(f"    {check}: {why[:400]}", flush=True)  # noqa: T201 - its report
            return result

        results = dict(zip(cells, threads.map(measure, range(len(cells)), cells), strict=True))
    for name, columns in usable.items():
        write(name, table(columns, results))
    reasons, unexplained = notes((kind, result) for (_, kind), result in results.items())
    write("reasons", sorted({*reasons, *(lines_of(PAGE.read_text(), "reasons") if set(PARTS) - set(names) else ())}))
    if not set(PARTS) - set(names):
        write("conditions", [conditions(tables, results)])
    for each in unexplained:
        print("no known cause:", each)  # noqa: T201 - its report
    return bool(unexplained)


def conditions(tables: Tables, results: Mapping[tuple[Environment, str], Result]) -> str:
    """Return a line about how the tables were made."""
    missing = [name for name in WANTED if name not in tables.found]
    newest = tables.gunicorns()[-1].environment.versions
    cells = sum(result.failed is not None for result in results.values())
    first = f"Python {tables.main}, prometheus_client {newest['prometheus_client']}, psutil {newest['psutil']}"
    others = ", ".join(
        f"{name} {newest[name]}" for name in ("gevent", "tornado", "eventlet", "uvicorn") if name in newest
    )
    return (
        f"{cells} servers. The first table is of {first}, {others}. "
        f"Python versions not found: {', '.join(missing) or 'none'}."
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or PARTS))
