"""Setup of the application's metrics in the master, and one server from its start to its end."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import prometheus_client
import pytest
from prometheus_client import Counter, Gauge, multiprocess

from gunicorn_prom_hooks.app_metrics.directories.locks import MasterLock
from gunicorn_prom_hooks.app_metrics.registry_check import made_too_early
from gunicorn_prom_hooks.app_metrics.setup import begin
from gunicorn_prom_hooks.errors import ErrorReporter
from gunicorn_prom_hooks.settings import Settings, load
from tests.helpers.app_metrics_setup import fake_server, in_new_process, started
from tests.helpers.forks import in_fork

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


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
def test_unusable_directory_is_logged_and_prometheus_client_still_works(
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
def test_failed_private_directory_keeps_metrics_in_memory(
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
def test_directory_of_setting_or_raw_env_is_used_and_kept_for_a_successor(
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


def test_private_directory_is_used_without_a_setting_and_environ_is_unchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
def test_only_the_master_named_by_gunicorn_pid_may_share_the_directory(
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
def test_metrics_made_before_setup_are_logged_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, early: list[str], told: str | None
) -> None:
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


def test_metric_made_early_is_on_the_page_if_the_variable_was_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the environment had the directory before, metrics made early are on the page, without a warning."""
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    assert in_new_process(trapped_with_variable, str(tmp_path)) == [["early"], 1.0, []]


def trapped_with_variable(path: str) -> list[Any]:
    Counter("early", "Help.").inc()
    metrics, server, _ = started(Settings(multiproc_dir=path))
    families = metrics.collect()
    return [[family.name for family in families], families[0].samples[0].value, server.log.lines]


def test_check_for_early_metrics_does_not_import_prometheus_client(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_counters_and_live_gauges_are_right_over_the_life_of_a_server(tmp_path: Path) -> None:
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
