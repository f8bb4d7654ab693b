"""The locks of masters in a directory."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from gunicorn_prom_hooks.app_metrics.directories import locks
from gunicorn_prom_hooks.app_metrics.directories.directory import DirectoryInUse
from gunicorn_prom_hooks.app_metrics.directories.locks import MasterLock, entering, living_masters
from gunicorn_prom_hooks.app_metrics.directories.shared import SharedDirectory
from tests.helpers.forks import in_fork
from tests.helpers.masters import DEADLINE_SECONDS, ME, Start, hold, names, touch

pytestmark = pytest.mark.usefixtures("temporary")


def fork_and_exit(_: object) -> None:
    in_fork(lambda: None)


def fork_and_close_everything(_: object) -> None:
    in_fork(lambda: os.closerange(3, 4096), returns=False)


def look_around_in_a_child(directory: SharedDirectory) -> None:
    assert in_fork(lambda: sorted(living_masters(directory.path))) == [os.getpid()]


def go_through_the_door(directory: SharedDirectory) -> None:
    with entering(directory.path):
        pass


@pytest.mark.parametrize(
    "action", [fork_and_exit, fork_and_close_everything, look_around_in_a_child, go_through_the_door]
)
def test_lock_of_a_living_master_is_held_after_forks_closes_and_checks(
    start: Start, tmp_path: Path, action: Callable[[SharedDirectory], None]
) -> None:
    """The exit of a child, closing inherited descriptors and checking for other masters do not release the lock."""
    master = start(SharedDirectory, str(tmp_path), 0, *ME)
    for _ in range(2):
        master.do(action)
        assert living_masters(str(tmp_path)) == {master.pid}
    master.kill()
    assert living_masters(str(tmp_path)) == set()
    assert f"gunicorn-master-{master.pid}.lock" not in names(tmp_path)


@pytest.mark.parametrize(("keep", "expected"), [(False, set()), (True, {0})])
def test_directory_without_lock_files_has_no_master_unless_one_may_enter(
    tmp_path: Path, keep: bool, expected: set[int]
) -> None:
    """The directory has no master, unless one may be just entering."""
    touch(tmp_path, "gunicorn-master-٣.lock", "gunicorn-master-3.lock2", "gunicorn-masters.lock")
    assert living_masters(str(tmp_path), keep=keep) == expected


def come_in(path: str, told: int, start: int, end: int) -> None:
    """What each of those does that race: waits for the start, tries, tells, and stays until the end."""
    directory = None
    os.read(start, 1)
    try:
        directory = SharedDirectory(path, 0, *ME)
        outcome = f"in {directory.suffix}"
    except DirectoryInUse as error:
        outcome = str(error)
    except OSError as error:
        outcome = repr(error)
    os.write(told, f"{outcome}\n".encode())
    os.read(end, 1)


def race(path: str, racers: int) -> list[str]:
    """What became of so many masters that came in at once; all stay until each has tried."""
    start, end, told = os.pipe(), os.pipe(), os.pipe()
    pids = []
    for _ in range(racers):
        pid = os.fork()
        if pid == 0:
            try:
                os.close(start[1])
                os.close(end[1])
                come_in(path, told[1], start[0], end[0])
            finally:
                os._exit(0)
        pids.append(pid)
    os.close(told[1])
    os.close(start[1])  # all go
    found = b""
    while found.count(b"\n") < racers and (more := os.read(told[0], 65536)):
        found += more
    os.close(end[1])
    for pid in pids:
        os.waitpid(pid, 0)
    for pipe in (start, end, told):
        os.close(pipe[0])
    return found.decode().splitlines()


def races(_: object, path: str, racers: int, rounds: int) -> list[list[str]]:
    locks.WAIT_SECONDS = DEADLINE_SECONDS  # type: ignore[misc]
    return [race(path, racers) for _ in range(rounds)]


def test_exactly_one_of_20_concurrent_masters_enters_the_directory(start: Start, tmp_path: Path) -> None:
    """If many try at once, exactly one gets the directory, and all others learn which."""
    master = start(MasterLock, str(tmp_path))
    for outcomes in master.do(partial(races, path=str(tmp_path / "raced"), racers=20, rounds=20)):
        (winner,) = [outcome.removeprefix("in -") for outcome in outcomes if outcome.startswith("in -")]
        expected = f"another gunicorn (pid {winner}) uses it"
        assert sorted(outcomes) == sorted([f"in -{winner}", *[expected] * 19])


def test_master_that_waits_in_vain_for_the_entry_lock_raises_without_a_lock(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the time to wait a master goes away with an error, without a lock of its own; later it comes in."""
    monkeypatch.setattr(locks, "WAIT_SECONDS", 0.2)
    holder = start(hold, str(tmp_path / "gunicorn-masters.lock"))
    begin = time.monotonic()
    with pytest.raises(OSError, match="temporarily unavailable"):
        SharedDirectory(str(tmp_path), 0, *ME)
    assert 0.2 <= time.monotonic() - begin < DEADLINE_SECONDS
    assert names(tmp_path) == {"gunicorn-masters.lock", "temporary"}
    holder.kill()
    SharedDirectory(str(tmp_path), 0, *ME).close()
