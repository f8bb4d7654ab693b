"""The user's directory: entering it, upgrades, and the files that are removed there."""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import sqlite3
import stat
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gunicorn_prom_hooks.app_metrics.directories.directory import DirectoryInUse
from gunicorn_prom_hooks.app_metrics.directories.locks import living_masters
from gunicorn_prom_hooks.app_metrics.directories.shared import SharedDirectory
from tests.helpers.masters import ME, WORKERS, Start, as_root, names, touch

pytestmark = pytest.mark.usefixtures("temporary")


@pytest.mark.parametrize("path", ["metrics", "a/b/metrics"])
def test_shared_directory_is_created_with_parents_and_mode_700(tmp_path: Path, path: str) -> None:
    """It is made with its parents if it is missing, for its user only."""
    folder = tmp_path / path
    directory = SharedDirectory(str(folder), 0, *ME)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert directory.path == str(folder)
    assert directory.suffix == f"-{os.getpid()}"
    directory.close()
    assert folder.is_dir()


@as_root
@pytest.mark.parametrize(("there", "owner"), [(False, WORKERS), (True, ME)])
def test_only_a_new_shared_directory_is_given_to_the_workers(
    tmp_path: Path, there: bool, owner: tuple[int, int]
) -> None:
    """One that the user has made keeps its owner and its mode."""
    folder = tmp_path / "metrics"
    if there:
        folder.mkdir(mode=0o755)
    SharedDirectory(str(folder), 0, *WORKERS).close()
    status = folder.stat()
    assert (status.st_uid, status.st_gid) == owner
    assert stat.S_IMODE(status.st_mode) == (0o755 if there else 0o700)


@pytest.mark.parametrize("upgrade", [False, True])
def test_directory_in_use_by_another_server_raises_and_keeps_its_files(
    start: Start, tmp_path: Path, upgrade: bool
) -> None:
    """While another server has it, entering fails; the message names that server, and nothing is removed."""
    parent = os.getppid() if upgrade else 0
    master = start(SharedDirectory, str(tmp_path), 0, *ME)
    touch(tmp_path, f"counter_s0-{master.pid}.db", "counter_s0.db")
    before = names(tmp_path)
    with pytest.raises(DirectoryInUse, match=rf"another gunicorn \(pid {master.pid}\) uses it"):
        SharedDirectory(str(tmp_path), parent, *ME)
    assert names(tmp_path) == before
    assert living_masters(str(tmp_path)) == {master.pid}


def test_only_parent_and_child_of_an_upgrade_share_the_directory(start: Start, tmp_path: Path) -> None:
    """Parent and successor share it; a process that is the child of neither cannot enter, also after one has exited."""
    parent = start(SharedDirectory, str(tmp_path), 0, *ME)
    child = start(SharedDirectory, str(tmp_path), parent.pid, *ME)
    assert living_masters(str(tmp_path)) == {parent.pid, child.pid}
    with pytest.raises(DirectoryInUse, match=str(child.pid)):
        SharedDirectory(str(tmp_path), parent.pid, *ME)
    parent.do(SharedDirectory.close)
    with pytest.raises(DirectoryInUse, match=str(child.pid)):
        SharedDirectory(str(tmp_path), parent.pid, *ME)
    child.do(SharedDirectory.close)
    SharedDirectory(str(tmp_path), 0, *ME).close()


GENUINE = struct.pack("=II", 8, 0).ljust(64, b"\0")


def genuine(folder: Path, *files: str) -> set[str]:
    """Makes these files as prometheus_client makes them."""
    for file in files:
        (folder / file).write_bytes(GENUINE)
    return set(files)


def open_file(path: str) -> Any:
    """What a process has that counts in this file; there is no more of it than its mapping."""
    with open(path, "r+b") as file:
        return mmap.mmap(file.fileno(), 64)


def test_files_without_a_writer_are_removed_and_others_stay(start: Start, tmp_path: Path) -> None:
    """Files without a writer are removed, whichever process has their number now; files with a writer stay."""
    dead = start(SharedDirectory, str(tmp_path), 0, *ME)
    dead.kill()
    gone = dead.pid
    parent = start(SharedDirectory, str(tmp_path), 0, *ME)
    here = os.getpid()
    removed = genuine(
        tmp_path,
        f"counter_s0-{gone}.db",
        f"histogram_m-{gone}.db",
        f"gauge_livesum_s12-{gone}.db",
        f"summary_p{gone}-{gone}.db",
        f"summary_p{here}-{gone}.db",
        f"gauge_all_gone-{gone}.db",
        f"counter_p{gone}-{here}.db",
        f"gauge_all_s3-{here}.db",  # of one that had our pid
        f"counter_{gone}.db",
        f"counter_{here}.db",
        f"gauge_mostrecent_{parent.pid}.db",
        "counter_s0.db",  # of a private directory
    )
    removed |= touch(tmp_path, f"gunicorn-processes-{gone}.lock", "counter_m.db")
    kept = genuine(
        tmp_path,
        f"counter_s0-{parent.pid}.db",
        f"gauge_all_m-{parent.pid}.db",
        f"counter_p{gone}-{parent.pid}.db",
        f"counter_s5-{gone}.db",
        f"counter_{gone}.db.bak",
        f"xcounter_{gone}.db",
        f"gauge_{gone}.db",
        "counter_something.db",
        "counter.db",
        "notes.txt",
    )
    orphan = start(open_file, str(tmp_path / f"counter_s5-{gone}.db"))
    directory = SharedDirectory(str(tmp_path), parent.pid, *ME)
    ours = {f"gunicorn-master-{pid}.lock" for pid in (here, parent.pid)} | {"gunicorn-masters.lock", "temporary"}
    assert names(tmp_path) == kept | ours
    assert directory.removed == len(removed) - 1
    assert directory.unsure == frozenset()
    directory.close()
    orphan.kill()


@pytest.mark.parametrize("number", ["{there}", str(2**30), "7"])
def test_file_that_another_program_writes_is_kept(start: Start, tmp_path: Path, number: str) -> None:
    """It may be in another container, where pids are others; beside it nothing tells whose the other numbers are."""
    dead = start(SharedDirectory, str(tmp_path), 0, *ME)
    dead.kill()
    ended = genuine(tmp_path, "counter_9.db", f"counter_s0-{dead.pid}.db", f"gauge_all_p0-{dead.pid}.db")
    genuine(tmp_path, f"counter_s0-{os.getpid()}.db", f"gauge_livesum_s0-{dead.pid}.db")
    (written,) = genuine(tmp_path, f"counter_{number.format(there=os.getpid())}.db")
    program = start(open_file, str(tmp_path / written))
    directory = SharedDirectory(str(tmp_path), 0, *ME)
    assert {name for name in names(tmp_path) if name.endswith(".db")} == {written} | ended
    assert directory.unsure == {"counter_9.db"}
    (counted,) = genuine(tmp_path, f"counter_s0{directory.suffix}.db")
    directory.close()
    assert names(tmp_path) >= {written, counted} | ended, "that program reads all of them"
    program.kill()
    SharedDirectory(str(tmp_path), 0, *ME).close()
    assert names(tmp_path) == {"gunicorn-masters.lock", "temporary"}


def test_file_of_an_unknown_process_is_kept_and_not_read_without_leases(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of a process that has chosen its number itself is neither removed nor read, running or not."""
    monkeypatch.delattr(fcntl, "F_SETLEASE")
    files = genuine(tmp_path, "counter_9.db", f"counter_{os.getpid()}.db", f"counter_{2**30}.db")
    genuine(tmp_path, f"counter_s0-{2**30}.db")
    directory = SharedDirectory(str(tmp_path), 0, *ME)
    assert directory.unsure == files
    assert {name for name in names(tmp_path) if name.startswith("counter")} == files
    directory.close()


def database(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("create table t (a)")


FOREIGN: dict[str, Callable[[Path], Any]] = {
    "counter_visits.db": database,
    "counter_34.db": database,
    "summary_s0-34.db": lambda path: path.write_bytes(b"\x10\0\0\0 something"),
    "histogram_35.db": lambda path: path.write_text("notes"),
    "gauge_sum_37.db": lambda path: path.mkdir(),
    "gauge_sum_38.db": lambda path: path.symlink_to(path.with_name("genuine")),
    "counter_39.db": os.mkfifo,
}


@pytest.mark.parametrize("name", sorted(FOREIGN))
def test_file_that_prometheus_client_has_not_written_is_not_removed(tmp_path: Path, name: str) -> None:
    """Neither when a server comes nor when it goes, whatever it is called, if prometheus_client has not written it."""
    genuine(tmp_path, "genuine")
    FOREIGN[name](tmp_path / name)
    before = os.lstat(tmp_path / name)
    for _ in range(2):
        directory = SharedDirectory(str(tmp_path), 0, *ME)
        directory.close()
    assert os.lstat(tmp_path / name) == before
    assert directory.removed == 0


def test_close_removes_only_files_and_lock_of_this_server(start: Start, tmp_path: Path) -> None:
    """Files and lock of this server go; those of other programs, of the user's, and the directory stay."""
    directory = SharedDirectory(str(tmp_path), 0, *ME)
    kept = names(tmp_path) - {f"gunicorn-master-{os.getpid()}.lock"}
    kinds = "counter_s0", "gauge_livesum_s1", "histogram_m", "counter_p1", "gauge_all_gone", "counter_71"
    own = genuine(tmp_path, *(f"{kind}{directory.suffix}.db" for kind in kinds))
    itself = open_file(str(tmp_path / f"histogram_m{directory.suffix}.db"))
    kept |= genuine(tmp_path, f"counter_{os.getpid()}.db", "notes.txt", "counter_s0.db")
    directory.close()
    assert names(tmp_path) == kept
    assert directory.removed == len(own)
    itself.close()


def test_close_keeps_counters_until_the_other_master_of_an_upgrade_closes(start: Start, tmp_path: Path) -> None:
    """A reader of the whole directory sees no counter fall; the last of the two masters removes all."""
    parent = start(SharedDirectory, str(tmp_path), 0, *ME)
    directory = SharedDirectory(str(tmp_path), parent.pid, *ME)
    before = names(tmp_path) - {f"gunicorn-master-{os.getpid()}.lock"}
    kept = genuine(
        tmp_path, *(f"{kind}{directory.suffix}.db" for kind in ("counter_s0", "histogram_m", "gauge_sum_p1"))
    )
    genuine(tmp_path, f"gauge_livesum_s0{directory.suffix}.db")
    directory.close()
    assert names(tmp_path) == before | kept
    assert living_masters(str(tmp_path)) == {parent.pid}
    parent.do(SharedDirectory.close)
    assert names(tmp_path) == {"gunicorn-masters.lock", "temporary"}
