"""Identities in the names of the files, and the setup of the application's metrics in the master."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import prometheus_client
import pytest
from gunicorn.config import Config
from prometheus_client import Counter, Gauge, multiprocess

from gunicorn_prom_hooks.app_metrics import maintenance
from gunicorn_prom_hooks.app_metrics.identity import Identity, Owner, owner
from gunicorn_prom_hooks.app_metrics.locks import MasterLock
from gunicorn_prom_hooks.app_metrics.reading.file_names import FileName
from gunicorn_prom_hooks.app_metrics.registry_check import made_too_early
from gunicorn_prom_hooks.app_metrics.setup import ApplicationMetrics, begin
from gunicorn_prom_hooks.errors import ErrorReporter
from gunicorn_prom_hooks.settings import Settings, load

SPAWN = multiprocessing.get_context("spawn")
DEADLINE_SECONDS = 60.0
VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
LEFT_OUT = "gunicorn_prom_hooks: application metrics: file '{file}' is left out: {reason}"


def in_new_process(function: Callable[..., Any], *args: object) -> Any:
    """What the function returns in a process of its own: it changes what prometheus_client has for all."""
    with ProcessPoolExecutor(1, mp_context=SPAWN) as pool:
        return pool.submit(function, *args).result(DEADLINE_SECONDS)


def in_fork(function: Callable[[], object]) -> Any:
    """What the function returns in a forked child, as JSON has it."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writing, json.dumps([os.getpid(), function()]).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        child, found = json.loads(pipe.read())
    os.waitpid(pid, 0)
    assert child == pid
    return found


# Identities


def family_tree(suffix: str) -> dict[str, Any]:
    claims = 0

    def claim() -> str:
        nonlocal claims
        claims += 1
        return f"p{os.getpid()}{suffix}"

    identity = Identity(suffix, claim)

    def myself() -> list[str]:
        assert claims == 0
        assert identity() == identity()
        assert claims == 1
        return [identity(), f"p{os.getpid()}{suffix}"]

    def worker() -> dict[str, Any]:
        nonlocal claims
        first = identity()
        claims = 0
        identity.become_worker(12)
        return {
            "before": [first, f"p{os.getpid()}{suffix}"],
            "is": identity(),
            "child": in_fork(myself),
            "grandchild": in_fork(lambda: in_fork(myself)),
            "after": identity(),
        }

    return {
        "master": identity(),
        "child": in_fork(myself),
        "worker": in_fork(worker),
        "master after": identity(),
        "of slot": identity.of_slot(7),
        "of number": identity.of_number(8),
        "claims": claims,
    }


@pytest.mark.parametrize("suffix", ["", "-4242"])
def test_identities(suffix: str) -> None:
    """Master and worker have their own; a forked process claims one when it first needs it, and only once."""
    found = in_new_process(family_tree, suffix)
    worker = found.pop("worker")
    assert found.pop("child")[0].startswith("p")
    assert found == {
        "master": f"m{suffix}",
        "master after": f"m{suffix}",
        "of slot": f"s7{suffix}",
        "of number": f"p8{suffix}",
        "claims": 0,
    }
    assert worker["is"] == worker["after"] == f"s12{suffix}"
    for who in ("before", "child", "grandchild"):
        identity, expected = worker[who]
        assert identity == expected
    assert worker["child"] != worker["grandchild"] != worker["before"]


@pytest.mark.parametrize(
    ("identity", "kind", "number", "master"),
    [
        ("s0", "s", 0, None),
        ("s0-12", "s", 0, 12),
        ("s317-4194304", "s", 317, 4194304),
        ("m", "m", None, None),
        ("m-12", "m", None, 12),
        ("gone", "gone", None, None),
        ("gone-12", "gone", None, 12),
        ("p34", "p", 34, None),
        ("p34-12", "p", 34, 12),
        ("34", "", 34, None),
        ("34-12", "", 34, 12),
        *((garbage, None, None, None) for garbage in ("", "p", "s", "-12", "p-12", "s-12", "m3", "m3-12", "gone3")),
        *((garbage, None, None, None) for garbage in ("x34", "s0-", "p34-x", "p34-12-5", "34 ", "34\n", "p+34", "sp3")),
        *(
            (garbage, None, None, None)
            for garbage in ("p٣٤", "٣٤", "s0-١٢", "p³", "p34-۱۲", "P34", "p3.4", "p0x2", "worker_8", "visits")
        ),
    ],
)
def test_whose_identity_it_is(identity: str, kind: str | None, number: int | None, master: int | None) -> None:
    """What kind of process it is, its number, and the master's pid if it is told; else nothing."""
    assert owner(identity) == Owner(kind, number, master)


def test_identities_are_understood() -> None:
    """What we call processes is what we read of the names."""
    identity = Identity("-12", lambda: "p5-12")
    assert owner(identity()) == Owner("m", None, 12)
    assert owner(identity.of_slot(3)) == Owner("s", 3, 12)
    identity._forked()
    assert owner(identity()) == owner(identity.of_number(5)) == Owner("p", 5, 12)


# Setting up


class Log:
    """Keeps what is logged, by level."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []
        self.infos: list[str] = []

    def error(self, msg: str, *args: object, **_: object) -> None:
        """Keeps the line."""
        self.lines.append(("error", msg % args))

    def warning(self, msg: str, *args: object) -> None:
        """Keeps the line."""
        self.lines.append(("warning", msg % args))

    def info(self, msg: str, *args: object) -> None:
        """Keeps the line, apart."""
        self.infos.append(msg % args)


def fake_server(**raw_env: str) -> Any:
    """gunicorn's arbiter, as far as it is asked."""
    cfg = Config()
    cfg.set("raw_env", [f"{name}={value}" for name, value in raw_env.items()])
    return SimpleNamespace(cfg=cfg, log=Log())


def started(settings: Settings | None = None, server: Any = None) -> tuple[ApplicationMetrics, Any, ErrorReporter]:
    """The application's metrics, set up."""
    server = server or fake_server()
    errors = ErrorReporter()
    metrics = begin(server, settings or Settings(), errors)
    assert metrics is not None, server.log.lines
    return metrics, server, errors


def stand_aside(settings: Settings, raw_env: dict[str, str], temporary: str) -> dict[str, Any]:
    """What becomes of a server that can have no directory, and what prometheus_client does there."""
    tempfile.tempdir = temporary
    server = fake_server(**raw_env)
    found = begin(server, settings, ErrorReporter())
    Counter("orders", "Help.").inc()
    Gauge("busy", "Help.", multiprocess_mode="livesum").set(3)
    path = os.environ.get(VARIABLE, "")
    own: list[object] = []
    try:
        before = own_page()
        multiprocess.mark_process_dead(os.getpid())  # type: ignore[no-untyped-call]
        own = [before, own_page()]
    except (ValueError, TypeError) as error:
        own = [str(error)]
    return {
        "begun": found is not None,
        "lines": server.log.lines,
        "path": path,
        "own": own,
    }


def own_page() -> dict[str, float]:
    """What the application's own endpoint has, as prometheus_client's documentation makes one."""
    registry = prometheus_client.CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return {sample.name: sample.value for family in registry.collect() for sample in family.samples}


NOT_THERE = "env PROMETHEUS_MULTIPROC_DIR is not set or not a directory"


@pytest.mark.parametrize(
    ("path", "reason", "own"),
    [
        ("{tmp}/file", "File exists", [NOT_THERE]),
        ("{tmp}/file/below", "Not a directory", [NOT_THERE]),
        ("/proc", "No such file or directory", [{}, {}]),
        (
            "{tmp}/used",
            "another gunicorn (pid {pid}) uses it",
            [{"orders_total": 1.0, "busy": 3.0}, {"orders_total": 1.0}],
        ),
    ],
)
@pytest.mark.parametrize("how", ["settings", "raw_env", "environment"])
def test_where_there_can_be_no_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, reason: str, own: list[Any], how: str
) -> None:
    """The log says which directory and why; what an application and hooks do with prometheus_client still works."""
    (tmp_path / "file").touch()
    (tmp_path / "used").mkdir()
    lock = MasterLock(str(tmp_path / "used"))
    path = path.format(tmp=tmp_path)
    monkeypatch.delenv(VARIABLE, raising=False)
    if how == "environment":
        monkeypatch.setenv(VARIABLE, path)
    settings = Settings(multiproc_dir=path if how != "raw_env" else None)
    raw_env = {VARIABLE: path} if how == "raw_env" else {}
    found = in_new_process(stand_aside, settings, raw_env, str(tmp_path / "none"))
    lock.close()
    told = (
        f"gunicorn_prom_hooks: no application metrics: directory {path}: "
        f"{reason.format(pid=os.getpid())}; the server goes on without them"
    )
    assert found == {"begun": False, "lines": [("error", told)], "path": path, "own": own}


@pytest.mark.parametrize("settings", [Settings(), Settings(port=0)])
def test_where_there_can_be_no_private_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    """Metrics work, each process's in its own memory."""
    monkeypatch.delenv(VARIABLE, raising=False)
    found = in_new_process(stand_aside, settings, {}, str(tmp_path / "none"))
    told = (
        "gunicorn_prom_hooks: no application metrics: directory for temporary files: "
        "No such file or directory; the server goes on without them"
    )
    lines = [("error", told)] if settings.port else []
    assert found == {"begun": False, "lines": lines, "path": "", "own": [NOT_THERE]}


def succeed(settings: Settings, raw_env: dict[str, str], temporary: str) -> dict[str, Any]:
    """What becomes of a server that has a directory."""
    tempfile.tempdir = temporary
    metrics, server, errors = started(settings, fake_server(**raw_env))
    Counter("orders", "Help.").inc(3)
    folder = Path(metrics._directory.place.path)
    found = {
        "lines": server.log.lines,
        "counts": dict(errors.counts),
        "environ": os.environ.get(VARIABLE),
        "files": sorted(path.name.replace(str(os.getpid()), "PID") for path in folder.glob("*.db")),
        "families": [family.name for family in metrics.collect()],
        "successor": load({}).multiproc_dir,
    }
    metrics.close()
    found["left"] = sorted(path.name for path in folder.iterdir()) if folder.exists() else None
    return found


@pytest.mark.parametrize(
    ("chosen", "raw", "expected"),
    [("{tmp}/a", "", "{tmp}/a"), ("", "{tmp}/b", "{tmp}/b"), ("{tmp}/a", "{tmp}/b", "{tmp}/a")],
)
def test_a_directory_of_the_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chosen: str, raw: str, expected: str
) -> None:
    """The setting says where, or else gunicorn's raw_env; prometheus_client is told, and a successor takes it too."""
    monkeypatch.delenv(VARIABLE, raising=False)
    raw_env = {VARIABLE: raw.format(tmp=tmp_path)} if raw else {}
    settings = Settings(multiproc_dir=chosen.format(tmp=tmp_path) or None)
    found = in_new_process(succeed, settings, raw_env, str(tmp_path / "none"))
    path = expected.format(tmp=tmp_path)
    assert found == {
        "lines": [],
        "counts": {},
        "environ": path,
        "files": ["counter_m-PID.db"],
        "families": ["orders"],
        "successor": path,
        "left": ["gunicorn-masters.lock"],
    }
    assert [file.name for file in tmp_path.iterdir()] == [Path(path).name]


def test_a_private_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a setting there is a private one, and the environment is left alone."""
    monkeypatch.delenv(VARIABLE, raising=False)
    found = in_new_process(succeed, Settings(), {}, str(tmp_path))
    assert found == {
        "lines": [],
        "counts": {},
        "environ": None,
        "files": ["counter_m.db"],
        "families": ["orders"],
        "successor": None,
        "left": None,
    }
    assert list(tmp_path.iterdir()) == []


def upgrade(path: str) -> bool:
    return begin(fake_server(), Settings(multiproc_dir=path), ErrorReporter()) is not None


@pytest.mark.parametrize(("predecessor", "expected"), [("{pid}", True), ("1{pid}", False), ("", False), ("x", False)])
def test_the_predecessor_may_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, predecessor: str, expected: bool
) -> None:
    """With gunicorn's GUNICORN_PID in its environment a master comes in beside that one, and beside no other."""
    lock = MasterLock(str(tmp_path))
    monkeypatch.setenv("GUNICORN_PID", predecessor.format(pid=os.getpid()))
    assert in_new_process(upgrade, str(tmp_path)) == expected
    lock.close()


def trapped(path: str, early: list[str]) -> list[tuple[str, str]]:
    """What is logged if these metrics are made first."""
    for name in early:
        Counter(name, "Help.")
    Gauge("elsewhere", "Help.", registry=prometheus_client.CollectorRegistry())
    return list(started(Settings(multiproc_dir=path))[1].log.lines)


@pytest.mark.parametrize(("early", "told"), [([], None), (["a"], "a"), (["z_total", "b"], "b, z")])
def test_the_trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, early: list[str], told: str | None) -> None:
    """Metrics made before are named in one line of the log; that prometheus_client was imported is no harm."""
    monkeypatch.delenv(VARIABLE, raising=False)
    lines = in_new_process(trapped, str(tmp_path), early)
    assert lines == (
        [
            (
                "warning",
                f"gunicorn_prom_hooks: metrics made before gunicorn started count in each process for itself: {told}; "
                "make them in the application, not in the config file or in what it imports",
            )
        ]
        if told
        else []
    )


def test_no_trap_where_the_variable_was_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the environment had the directory before, metrics made early are on the page, without a warning."""
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    assert in_new_process(trapped_with_variable, str(tmp_path)) == [["early"], 1.0, []]


def trapped_with_variable(path: str) -> list[Any]:
    Counter("early", "Help.").inc()
    metrics, server, _ = started(Settings(multiproc_dir=path))
    families = metrics.collect()
    return [[family.name for family in families], families[0].samples[0].value, server.log.lines]


def test_the_trap_without_prometheus_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """If prometheus_client was not imported, no metric was made, and the check does not import it."""
    monkeypatch.delitem(sys.modules, "prometheus_client")
    assert made_too_early() == []
    assert "prometheus_client" not in sys.modules


def live_through(path: str) -> dict[str, Any]:
    """A counter and a live gauge, in the master, in two workers one after the other, and in a worker's child."""
    metrics, _, errors = started(Settings(multiproc_dir=path))
    counter, gauge = Counter("orders", "Help."), Gauge("busy", "Help.", multiprocess_mode="liveall")

    def count() -> None:
        counter.inc()
        gauge.set(1.0)

    def worker(*, with_child: bool) -> None:
        metrics.become_worker(0)
        count()
        if with_child:
            in_fork(count)

    def look() -> list[Any]:
        found = {family.name: family.samples for family in metrics.collect()}
        pids = sorted(sample.labels["pid"].split("-")[0][0] for sample in found["busy"])
        files = sorted({file.stem.split("_")[-1][0] for file in Path(path).glob("*.db")})
        return [found["orders"][0].value, "".join(pids), "".join(files)]

    seen: dict[str, Any] = {}
    count()
    seen["master"] = look()
    in_fork(lambda: worker(with_child=False))
    seen["worker"] = look()
    metrics.worker_exited(0)
    seen["gone"] = look()
    in_fork(lambda: worker(with_child=True))
    files = len(list(Path(path).glob("*_p*.db")))
    seen["successor"] = look()
    metrics.worker_exited(0)
    metrics.worker_exited(5)
    seen["gone too"] = [*look(), files]
    seen["counts"] = dict(errors.counts)
    metrics.close()
    seen["left"] = sorted(file.name for file in Path(path).iterdir())
    return seen


def test_a_server_from_beginning_to_end(tmp_path: Path) -> None:
    """A successor goes on with its slot's counters, live gauges go with their worker, and its child's counts stay."""
    assert in_new_process(live_through, str(tmp_path)) == {
        "master": [1.0, "m", "m"],
        "worker": [2.0, "ms", "ms"],
        "gone": [2.0, "m", "ms"],
        "successor": [4.0, "ms", "mps"],
        "gone too": [4.0, "m", "mps", 2],
        "counts": {},
        "left": ["gunicorn-masters.lock"],
    }


def reads(path: str, identities: list[str]) -> list[bool]:
    """Whether files of these identities are read."""
    metrics = started(Settings(multiproc_dir=path))[0]
    here = str(os.getpid())
    found = []
    for identity in identities:
        name = identity.replace("US", here)
        found.append(metrics._maintenance._reads(f"counter_{name}.db", FileName("counter", "", False, name)))
    metrics.close()
    return found


@pytest.mark.parametrize(
    ("shared", "expected"),
    [
        (True, {"m-US": True, "s3-US": True, "p5-US": True, "gone-US": True, "7-US": True, "DEAD": True, "US": True}),
        (True, {"m-DEAD": False, "s3-DEAD": False, "pDEAD-DEAD": False, "US-DEAD": False, "s3": True, "thing": True}),
        (False, {"m": True, "s3": True, "p7": True, "DEAD": True, "US": True, "m-DEAD": False}),
    ],
)
def test_what_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: bool, expected: dict[str, bool]) -> None:
    """Files of this server and files with a number are read; those of another server are not."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    identities = [identity.replace("DEAD", str(2**30)) for identity in expected]
    found = in_new_process(reads, str(tmp_path) if shared else "", identities)
    assert dict(zip(expected, found, strict=True)) == expected


def bad_files(path: str, files: int, most: int) -> tuple[list[tuple[str, str]], dict[str, int]]:
    """What is logged and counted after three collects."""
    maintenance.MAX_LOGGED = most  # type: ignore[misc]
    metrics, server, errors = started(Settings(multiproc_dir=path))
    for number in range(files):
        (Path(path) / f"counter_s{number}-{os.getpid()}.db").write_bytes(b"x")
    for _ in range(3):
        metrics.collect()
    counts = dict(errors.counts)
    metrics.close()
    return [(level, line.replace(f"-{os.getpid()}", "")) for level, line in server.log.lines], counts


@pytest.mark.parametrize(("files", "most", "told"), [(1, 1000, 1), (5, 1000, 5), (5, 2, 2)])
def test_a_bad_file_is_logged_once(tmp_path: Path, files: int, most: int, told: int) -> None:
    """Each file has one line, up to so many of them, and is counted at each collect."""
    lines, counts = in_new_process(bad_files, str(tmp_path), files, most)
    assert counts == {"app_metrics_file": 3 * files}
    assert len(lines) == len(set(lines)) == told
    possible = {("error", LEFT_OUT.format(file=f"counter_s{n}.db", reason="only 1 bytes")) for n in range(files)}
    assert set(lines) <= possible
