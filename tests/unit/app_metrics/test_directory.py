"""Where the application's metrics are kept: with masters that are processes of their own, and are killed."""

from __future__ import annotations

import contextlib
import fcntl
import json
import mmap
import multiprocessing
import os
import shutil
import signal
import sqlite3
import stat
import struct
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gunicorn_prom_hooks.app_metrics import locks
from gunicorn_prom_hooks.app_metrics.directory import (
    PREFIX,
    Directory,
    DirectoryInUse,
    ForeignDirectory,
    PrivateDirectory,
    SharedDirectory,
    _sweep,
)
from gunicorn_prom_hooks.app_metrics.locks import MasterLock, entering, living_masters
from gunicorn_prom_hooks.concurrency import process_exists

SPAWN = multiprocessing.get_context("spawn")
DEADLINE_SECONDS = 60.0
ME = os.geteuid(), os.getegid()
WORKERS = 54321, 54322
"""User and group of the workers, where the master is root."""
as_root = pytest.mark.skipif(ME[0] != 0, reason="needs root")
Start = Callable[..., Any]


class Master:
    """A process that makes something, as gunicorn's master makes its directory, and has it until it is told."""

    def __init__(self, make: Callable[[], Any], temporary: Path) -> None:
        self._connection, theirs = SPAWN.Pipe()
        self.process = SPAWN.Process(target=_live, args=(theirs, make, str(temporary)), daemon=True)
        self.process.start()
        theirs.close()
        self.made = self._answer()

    @property
    def pid(self) -> int:
        """Its pid."""
        assert self.process.pid is not None
        return self.process.pid

    def do(self, action: Callable[[Any], Any]) -> Any:
        """What this returns there of what was made."""
        self._connection.send(action)
        return self._answer()

    def kill(self) -> None:
        """Kills it, without notice, and waits until it is gone."""
        os.kill(self.pid, signal.SIGKILL)
        self.process.join(DEADLINE_SECONDS)
        assert not process_exists(self.pid)

    def close(self) -> None:
        """Ends it if it still is there."""
        self.process.kill()
        self.process.join(DEADLINE_SECONDS)
        self._connection.close()

    def _answer(self) -> Any:
        assert self._connection.poll(DEADLINE_SECONDS), "it hangs"
        return self._connection.recv()


def _live(connection: Any, make: Callable[[], Any], temporary: str) -> None:
    tempfile.tempdir = temporary
    try:
        made = make()
    except OSError as error:
        connection.send(f"{type(error).__name__}: {error}")
        return
    connection.send(getattr(made, "path", None))
    while True:
        try:
            connection.send(connection.recv()(made))
        except EOFError:
            return


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory for temporary files, in this process."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def start(temporary: Path) -> Iterator[Start]:
    """Starts masters; they end with the test."""
    masters: list[Master] = []

    def start(make: Callable[..., Any], *args: Any) -> Master:
        masters.append(Master(partial(make, *args), temporary))
        return masters[-1]

    yield start
    for master in masters:
        master.close()


def in_fork(function: Callable[[], object]) -> Any:
    """What the function returns in a forked child, once that has ended."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writing, json.dumps(function()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        found = pipe.read()
    os.waitpid(pid, 0)
    return json.loads(found) if found else None


def names(folder: Path) -> set[str]:
    """What is in there."""
    return set(os.listdir(folder))


def touch(folder: Path, *files: str) -> set[str]:
    """Makes these files."""
    for file in files:
        (folder / file).touch()
    return set(files)


# A private directory


def test_a_private_directory_is_its_users_own(temporary: Path) -> None:
    """It is below the folder for temporary files, private whatever the umask, and belongs to the workers' user."""
    umask = os.umask(0)
    try:
        directory = PrivateDirectory(*ME)
    finally:
        os.umask(umask)
    path = Path(directory.path)
    status = path.stat()
    assert path.parent == temporary
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o700, *ME)
    assert directory.suffix == ""
    directory.close()


def test_the_name_cannot_be_guessed(temporary: Path) -> None:
    """Of many directories each has a name of its own, with at least eight random characters behind the prefix."""
    directories = [PrivateDirectory(*ME) for _ in range(50)]
    found = {Path(directory.path).name for directory in directories}
    assert len(found) == 50
    for name in found:
        assert name.startswith(PREFIX)
        assert len(name.removeprefix(PREFIX)) >= 8
    for at in range(8):
        assert len({name.removeprefix(PREFIX)[at] for name in found}) > 5
    for directory in directories:
        directory.close()
    assert names(temporary) == set()


@as_root
def test_root_gives_it_to_the_workers(temporary: Path) -> None:
    """A master that runs as root gives the directory to the user of the workers."""
    directory = PrivateDirectory(*WORKERS)
    status = Path(directory.path).stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o700, *WORKERS)
    directory.close()


def test_one_that_cannot_be_given_away_is_removed(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the workers could not enter it, none is left."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "no")

    monkeypatch.setattr(os, "chown", refuse)
    with pytest.raises(PermissionError):
        PrivateDirectory(ME[0] + 1, ME[1])
    assert names(temporary) == set()


def test_close_removes_it_with_all_that_is_in_it(temporary: Path) -> None:
    """Nothing is left, and a second close does no harm."""
    directory = PrivateDirectory(*ME)
    touch(Path(directory.path), "counter_s0.db", "notes.txt")
    (Path(directory.path) / "folder").mkdir()
    directory.close()
    directory.close()
    assert names(temporary) == set()


def close_in_a_child(directory: Directory) -> bool:
    in_fork(directory.close)
    return Path(directory.place.path).is_dir()


def test_a_child_that_closes_it_does_not_remove_it(start: Start, temporary: Path) -> None:
    """A worker that runs the master's way out leaves the directory and the master's lock alone."""
    master = start(PrivateDirectory, *ME)
    touch(Path(master.made), "counter_s0.db")
    assert master.do(close_in_a_child)
    assert names(Path(master.made)) == {"counter_s0.db", f"gunicorn-master-{master.pid}.lock"}
    assert living_masters(master.made) == {master.pid}
    master.do(PrivateDirectory.close)
    assert names(temporary) == set()


def test_what_a_killed_master_left_goes_with_the_next_one(start: Start, temporary: Path) -> None:
    """The directory of a master that was killed is removed, that of one that lives is not."""
    killed, living = start(PrivateDirectory, *ME), start(PrivateDirectory, *ME)
    for master in (killed, living):
        touch(Path(master.made), "counter_s0.db")
    killed.kill()
    directory = PrivateDirectory(*ME)
    assert {str(path) for path in temporary.iterdir()} == {living.made, directory.path}
    assert names(Path(living.made)) == {"counter_s0.db", f"gunicorn-master-{living.pid}.lock"}
    directory.close()


@as_root
def test_what_a_killed_master_has_given_to_the_workers_is_swept_too(start: Start, temporary: Path) -> None:
    """A directory of the workers' user is recognized, with a live master or without."""
    killed, living = start(PrivateDirectory, *WORKERS), start(PrivateDirectory, *WORKERS)
    killed.kill()
    directory = PrivateDirectory(*WORKERS)
    assert {str(path) for path in temporary.iterdir()} == {living.made, directory.path}
    directory.close()


def abandoned(folder: Path, pid: int) -> Path:
    """A directory as a master with this pid leaves it behind when it is killed."""
    folder.mkdir()
    touch(folder, f"gunicorn-master-{pid}.lock", "counter_s0.db")
    return folder


def test_a_dead_master_that_had_our_pid(temporary: Path) -> None:
    """In a container the master has the same pid each time: what the one before has left is swept all the same."""
    left = abandoned(temporary / f"{PREFIX}left", os.getpid())
    PrivateDirectory(*ME).close()
    assert not left.exists()


def hold(file: str) -> int:
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return descriptor


def test_a_living_master_of_another_container_that_has_our_pid(start: Start, temporary: Path) -> None:
    """Two containers that share the directory for temporary files have masters with the same pid: both live."""
    left = abandoned(temporary / f"{PREFIX}living", os.getpid())
    start(hold, str(left / f"gunicorn-master-{os.getpid()}.lock"))
    PrivateDirectory(*ME).close()
    assert left.exists()


def test_one_without_a_lock_file_is_not_swept(temporary: Path) -> None:
    """Its master may just be coming in."""
    folder = temporary / f"{PREFIX}new"
    folder.mkdir()
    PrivateDirectory(*ME).close()
    assert folder.exists()


def test_one_whose_master_has_made_its_lock_file_only(
    start: Start, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A master that comes in while another one sweeps has a directory in the end, or says that it has none."""
    other = start(MasterLock, str(temporary))
    lockf = fcntl.lockf

    def sweep_first(*args: Any) -> None:
        monkeypatch.setattr(fcntl, "lockf", lockf)
        other.do(sweep)
        lockf(*args)

    monkeypatch.setattr(fcntl, "lockf", sweep_first)
    directory = PrivateDirectory(*ME)
    assert Path(directory.path).is_dir()


def sweep(_: object) -> None:
    _sweep({ME[0]})


@pytest.mark.parametrize(("uids", "stays"), [({ME[0]}, False), ({ME[0] + 1}, True), ({ME[0] + 1, ME[0]}, False)])
def test_only_these_users_directories_are_swept(temporary: Path, uids: set[int], stays: bool) -> None:
    """A directory of another user is left alone."""
    left = abandoned(temporary / f"{PREFIX}left", 2**30)
    _sweep(uids)
    assert left.exists() == stays


@as_root
def test_another_users_directory_is_not_swept(temporary: Path) -> None:
    """Not even root removes what belongs to neither itself nor the workers."""
    left = abandoned(temporary / f"{PREFIX}left", 2**30)
    os.chown(left, *WORKERS)
    PrivateDirectory(*ME).close()
    assert names(left) == {f"gunicorn-master-{2**30}.lock", "counter_s0.db"}


@pytest.mark.parametrize("name", ["something-else", f"x{PREFIX}", PREFIX[:-1]])
def test_what_is_called_something_else_is_not_swept(temporary: Path, name: str) -> None:
    """Only directories with our prefix are looked into."""
    left = abandoned(temporary / name, 2**30)
    PrivateDirectory(*ME).close()
    assert left.exists()


def test_a_symlink_is_not_followed(tmp_path: Path, temporary: Path) -> None:
    """A link or a file with the name of a private directory is left, and so is the target of the link."""
    target = abandoned(tmp_path / "precious", 2**30)
    before = names(target)
    (temporary / f"{PREFIX}link").symlink_to(target)
    touch(temporary, f"{PREFIX}file")
    PrivateDirectory(*ME).close()
    assert names(temporary) == {f"{PREFIX}link", f"{PREFIX}file"}
    assert names(target) == before


def test_links_within_one_are_not_followed(tmp_path: Path, temporary: Path) -> None:
    """What a swept directory links to stays."""
    target = abandoned(tmp_path / "precious", 2**30)
    left = abandoned(temporary / f"{PREFIX}left", 2**30)
    (left / "link").symlink_to(target)
    PrivateDirectory(*ME).close()
    assert not left.exists()
    assert len(names(target)) == 2


# A directory of the user's choice


@pytest.mark.parametrize("path", ["metrics", "a/b/metrics"])
def test_a_shared_directory_is_made(tmp_path: Path, path: str) -> None:
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
def test_only_a_new_one_is_given_to_the_workers(tmp_path: Path, there: bool, owner: tuple[int, int]) -> None:
    """One that the user has made keeps its owner and its mode."""
    folder = tmp_path / "metrics"
    if there:
        folder.mkdir(mode=0o755)
    SharedDirectory(str(folder), 0, *WORKERS).close()
    status = folder.stat()
    assert (status.st_uid, status.st_gid) == owner
    assert stat.S_IMODE(status.st_mode) == (0o755 if there else 0o700)


@pytest.mark.parametrize("upgrade", [False, True])
def test_a_stranger_is_not_let_in(start: Start, tmp_path: Path, upgrade: bool) -> None:
    """While another server has it, entering fails; the message names that server, and nothing is removed."""
    parent = os.getppid() if upgrade else 0
    master = start(SharedDirectory, str(tmp_path), 0, *ME)
    touch(tmp_path, f"counter_s0-{master.pid}.db", "counter_s0.db")
    before = names(tmp_path)
    with pytest.raises(DirectoryInUse, match=rf"another gunicorn \(pid {master.pid}\) uses it"):
        SharedDirectory(str(tmp_path), parent, *ME)
    assert names(tmp_path) == before
    assert living_masters(str(tmp_path)) == {master.pid}


def test_the_parent_of_an_upgrade_may_stay(start: Start, tmp_path: Path) -> None:
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


def test_what_dead_masters_left_is_removed(start: Start, tmp_path: Path) -> None:
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
def test_what_another_program_writes_is_kept(start: Start, tmp_path: Path, number: str) -> None:
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


def test_where_the_kernel_does_not_say_who_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_a_file_of_the_users_is_not_removed(tmp_path: Path, name: str) -> None:
    """Neither when a server comes nor when it goes, whatever it is called, if prometheus_client has not written it."""
    genuine(tmp_path, "genuine")
    FOREIGN[name](tmp_path / name)
    before = os.lstat(tmp_path / name)
    for _ in range(2):
        directory = SharedDirectory(str(tmp_path), 0, *ME)
        directory.close()
    assert os.lstat(tmp_path / name) == before
    assert directory.removed == 0


def test_close_removes_only_its_own(start: Start, tmp_path: Path) -> None:
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


def test_counters_stay_while_the_other_master_of_an_upgrade_lives(start: Start, tmp_path: Path) -> None:
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


# A directory that is tidied away


@pytest.mark.parametrize("kind", ["private", "shared"])
def test_it_is_made_again(tmp_path: Path, kind: str) -> None:
    """With mode and lock as before, under the same name, and each process is told; what is there is left alone."""
    directory = PrivateDirectory(*ME) if kind == "private" else SharedDirectory(str(tmp_path / "metrics"), 0, *ME)
    path = directory.place.path
    assert not directory.restore()
    told = directory.place.generation()
    assert told == 0
    for lost in (path, f"{path}/gunicorn-master-{os.getpid()}.lock"):
        shutil.rmtree(lost) if lost == path else os.unlink(lost)
        assert directory.restore()
        assert not directory.restore()
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o700
        assert in_fork(lambda: sorted(living_masters(path))) == [os.getpid()]
    shutil.rmtree(path)
    assert in_fork(directory.ensure) == path, "a worker does so, too"
    assert directory.place.generation() == told + 1
    assert directory.restore(), "the lock is the master's"
    directory.close()


def link_to(path: str, target: Path) -> None:
    os.symlink(target, path)


def of_another_user(path: str, target: Path) -> None:
    os.mkdir(path, 0o777)
    os.chown(path, *WORKERS)
    os.symlink(target / "victim", f"{path}/counter_s0.db")


def open_to_all(path: str, target: Path) -> None:
    os.mkdir(path)
    os.chmod(path, 0o777)


@pytest.mark.parametrize("what", [link_to, open_to_all, pytest.param(of_another_user, marks=as_root)])
def test_what_somebody_else_puts_in_its_place(tmp_path: Path, what: Callable[[str, Path], None]) -> None:
    """No process uses it; the master makes another directory, and all processes learn where it is."""
    directory = PrivateDirectory(*ME)
    path = directory.path
    shutil.rmtree(path)
    (tmp_path / "target").mkdir()
    what(path, tmp_path / "target")
    before = os.lstat(path)[:5]
    with pytest.raises(ForeignDirectory):
        directory.ensure()
    assert directory.restore()
    assert directory.path != path
    assert stat.S_IMODE(os.stat(directory.path).st_mode) == 0o700
    assert in_fork(directory.ensure) == directory.ensure() == directory.path
    assert directory.place.generation() == 1
    assert in_fork(lambda: sorted(living_masters(directory.path))) == [os.getpid()]
    directory.close()
    assert not os.path.exists(directory.path)
    assert os.lstat(path)[:5] == before
    assert names(tmp_path / "target") == set()


def test_a_child_that_closes_a_shared_one_removes_nothing(start: Start, tmp_path: Path) -> None:
    """A worker that runs the master's way out leaves files and lock alone."""
    master = start(SharedDirectory, str(tmp_path), 0, *ME)
    touch(tmp_path, f"counter_s0-{master.pid}.db")
    before = names(tmp_path)
    assert master.do(close_in_a_child)
    assert names(tmp_path) == before
    assert living_masters(str(tmp_path)) == {master.pid}


# Locks


def fork_and_exit(_: object) -> None:
    in_fork(lambda: None)


def fork_and_close_everything(_: object) -> None:
    in_fork(lambda: os.closerange(3, 4096))


def look_around_in_a_child(directory: SharedDirectory) -> None:
    assert in_fork(lambda: sorted(living_masters(directory.path))) == [os.getpid()]


def go_through_the_door(directory: SharedDirectory) -> None:
    with entering(directory.path):
        pass


@pytest.mark.parametrize(
    "action", [fork_and_exit, fork_and_close_everything, look_around_in_a_child, go_through_the_door]
)
def test_the_lock_is_held_whatever_the_process_does(
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
def test_a_directory_without_lock_files(tmp_path: Path, keep: bool, expected: set[int]) -> None:
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


def test_of_masters_that_come_at_the_same_time_one_gets_in(start: Start, tmp_path: Path) -> None:
    """If many try at once, exactly one gets the directory, and all others learn which."""
    master = start(MasterLock, str(tmp_path))
    for outcomes in master.do(partial(races, path=str(tmp_path / "raced"), racers=20, rounds=20)):
        (winner,) = [outcome.removeprefix("in -") for outcome in outcomes if outcome.startswith("in -")]
        expected = f"another gunicorn (pid {winner}) uses it"
        assert sorted(outcomes) == sorted([f"in -{winner}", *[expected] * 19])


def test_a_door_that_somebody_holds_for_ever(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


# Paths that cannot be used


@pytest.mark.parametrize("path", ["/proc", "/proc/none/deeper", "{tmp}/file", "{tmp}/file/below", "{tmp}/dangling"])
def test_a_path_that_cannot_be_used(tmp_path: Path, path: str) -> None:
    """Where nothing can be written, and where there is no directory, that is an OSError and nothing is changed."""
    touch(tmp_path, "file")
    (tmp_path / "dangling").symlink_to("dangling")
    before = names(tmp_path)
    with pytest.raises(OSError, match=r"\[Errno \d+\]"):
        SharedDirectory(path.format(tmp=tmp_path), 0, *ME)
    assert names(tmp_path) == before


def as_nobody(path: str) -> str:
    """Enter as a user without rights there."""
    if ME[0] == 0:
        os.seteuid(WORKERS[0])
    with pytest.raises(PermissionError):
        SharedDirectory(path, 0, os.geteuid(), os.getegid())
    return path


def test_a_directory_that_may_not_be_written_to(start: Start) -> None:
    """Without the right to write there it is an error, and no lock is left."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        os.chmod(name, 0o555)
        assert start(as_nobody, name).made is None
        assert names(Path(name)) == set()
        os.chmod(name, 0o755)


@pytest.mark.parametrize("link", ["gunicorn-masters.lock", "gunicorn-master-{pid}.lock"])
def test_a_lock_file_that_is_a_symlink(tmp_path: Path, link: str) -> None:
    """A link is not followed: its author could make root write elsewhere."""
    target = tmp_path / "elsewhere"
    (tmp_path / link.format(pid=os.getpid())).symlink_to(target)
    with pytest.raises(OSError, match=r"symbolic link|Too many levels|another gunicorn"):
        SharedDirectory(str(tmp_path), 0, *ME)
    assert not target.exists()


def test_another_masters_lock_file_that_is_a_symlink(tmp_path: Path) -> None:
    """It cannot be looked at, so that master is taken for living."""
    target = tmp_path / "elsewhere"
    target.touch()
    (tmp_path / f"gunicorn-master-{2**30}.lock").symlink_to(target)
    with pytest.raises(DirectoryInUse, match=str(2**30)):
        SharedDirectory(str(tmp_path), 0, *ME)
    assert target.exists()


@pytest.mark.parametrize("name", ["gunicorn-masters.lock", f"gunicorn-master-{2**30}.lock"])
def test_a_lock_file_that_is_a_fifo(start: Start, tmp_path: Path, name: str) -> None:
    """No open waits for the other end of a FIFO."""
    os.mkfifo(tmp_path / name)
    master = start(SharedDirectory, str(tmp_path), 0, *ME)
    assert master.made == str(tmp_path)
    assert living_masters(str(tmp_path)) == {master.pid}


def lock_a_fifo(folder: str) -> MasterLock:
    os.mkfifo(Path(folder) / f"gunicorn-master-{os.getpid()}.lock")
    return MasterLock(folder)


def test_its_own_lock_file_is_a_fifo(start: Start, tmp_path: Path) -> None:
    """Also then no open waits, and the lock holds."""
    master = start(lock_a_fifo, str(tmp_path))
    assert living_masters(str(tmp_path)) == {master.pid}
    master.kill()
    assert living_masters(str(tmp_path)) == set()


def test_a_lock_file_that_is_a_directory(tmp_path: Path) -> None:
    """What cannot be opened is taken for a living master's."""
    (tmp_path / f"gunicorn-master-{2**30}.lock").mkdir()
    assert living_masters(str(tmp_path)) == {2**30}
