"""The private directory of a server: its access, and what is removed of earlier masters."""

from __future__ import annotations

import fcntl
import os
import stat
import time
from pathlib import Path
from typing import Any

import pytest

from gunicorn_prom_hooks.app_metrics.directories.locks import MasterLock, living_masters
from gunicorn_prom_hooks.app_metrics.directories.private import ABANDONED_SECONDS, PREFIX, PrivateDirectory, _sweep
from tests.helpers.masters import ME, WORKERS, Start, as_root, close_in_a_child, hold, names, touch

pytestmark = pytest.mark.usefixtures("temporary")


def test_private_directory_has_mode_700_and_the_user_of_the_workers(temporary: Path) -> None:
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


def test_private_directory_name_has_eight_random_characters(temporary: Path) -> None:
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
def test_private_directory_of_root_belongs_to_the_user_of_the_workers(temporary: Path) -> None:
    """A master that runs as root gives the directory to the user of the workers."""
    directory = PrivateDirectory(*WORKERS)
    status = Path(directory.path).stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o700, *WORKERS)
    directory.close()


def test_private_directory_is_removed_if_chown_fails(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the workers could not enter it, none is left."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "no")

    monkeypatch.setattr(os, "chown", refuse)
    with pytest.raises(PermissionError):
        PrivateDirectory(ME[0] + 1, ME[1])
    assert names(temporary) == set()


def test_close_removes_the_directory_and_its_content(temporary: Path) -> None:
    """Nothing is left, and a second close does no harm."""
    directory = PrivateDirectory(*ME)
    touch(Path(directory.path), "counter_s0.db", "notes.txt")
    (Path(directory.path) / "folder").mkdir()
    directory.close()
    directory.close()
    assert names(temporary) == set()


def test_close_in_a_child_does_not_remove_the_directory(start: Start, temporary: Path) -> None:
    """A worker that runs the master's way out leaves the directory and the master's lock alone."""
    master = start(PrivateDirectory, *ME)
    touch(Path(master.made), "counter_s0.db")
    assert master.do(close_in_a_child)
    assert names(Path(master.made)) == {"counter_s0.db", f"gunicorn-master-{master.pid}.lock"}
    assert living_masters(master.made) == {master.pid}
    master.do(PrivateDirectory.close)
    assert names(temporary) == set()


def test_directory_of_a_killed_master_is_removed_by_the_next_master(start: Start, temporary: Path) -> None:
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
def test_directory_of_a_killed_master_owned_by_workers_is_removed(start: Start, temporary: Path) -> None:
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


def test_directory_of_an_exited_master_with_the_same_pid_is_removed(temporary: Path) -> None:
    """In a container the master has the same pid each time: what the one before has left is swept all the same."""
    left = abandoned(temporary / f"{PREFIX}left", os.getpid())
    PrivateDirectory(*ME).close()
    assert not left.exists()


def test_directory_of_a_living_master_with_the_same_pid_stays(start: Start, temporary: Path) -> None:
    """Two containers that share the directory for temporary files have masters with the same pid: both live."""
    left = abandoned(temporary / f"{PREFIX}living", os.getpid())
    start(hold, str(left / f"gunicorn-master-{os.getpid()}.lock"))
    PrivateDirectory(*ME).close()
    assert left.exists()


def test_directory_without_a_lock_file_stays(temporary: Path) -> None:
    """Its master may just be coming in."""
    folder = temporary / f"{PREFIX}new"
    folder.mkdir()
    PrivateDirectory(*ME).close()
    assert folder.exists()


def test_old_directory_without_a_lock_file_is_removed_once_nothing_writes_there(temporary: Path) -> None:
    """A daemon has made it again after its server had ended: it stays while that runs, and while it is new."""
    path = temporary / f"{PREFIX}daemon"
    path.mkdir()
    file = path / "counter_p0.db"
    file.write_bytes(bytes(16))
    old = time.time() - ABANDONED_SECONDS - 60
    os.utime(file, (old, old))
    _sweep({ME[0]})
    assert path.exists(), "the directory is new"
    os.utime(path, (old, old))
    with file.open("r+b"):
        _sweep({ME[0]})
        assert path.exists(), "it is written"
    _sweep({ME[0]})
    assert not path.exists()


def test_directory_is_made_while_another_master_removes_old_ones(
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
def test_only_directories_of_the_given_users_are_removed(temporary: Path, uids: set[int], stays: bool) -> None:
    """A directory of another user is left alone."""
    left = abandoned(temporary / f"{PREFIX}left", 2**30)
    _sweep(uids)
    assert left.exists() == stays


@as_root
def test_root_does_not_remove_a_directory_of_another_user(temporary: Path) -> None:
    """Not even root removes what belongs to neither itself nor the workers."""
    left = abandoned(temporary / f"{PREFIX}left", 2**30)
    os.chown(left, *WORKERS)
    PrivateDirectory(*ME).close()
    assert names(left) == {f"gunicorn-master-{2**30}.lock", "counter_s0.db"}


@pytest.mark.parametrize("name", ["something-else", f"x{PREFIX}", PREFIX[:-1]])
def test_directory_without_the_prefix_is_not_removed(temporary: Path, name: str) -> None:
    """Only directories with our prefix are looked into."""
    left = abandoned(temporary / name, 2**30)
    PrivateDirectory(*ME).close()
    assert left.exists()


def test_symlink_with_the_prefix_is_not_followed_or_removed(tmp_path: Path, temporary: Path) -> None:
    """A link or a file with the name of a private directory is left, and so is the target of the link."""
    target = abandoned(tmp_path / "precious", 2**30)
    before = names(target)
    (temporary / f"{PREFIX}link").symlink_to(target)
    touch(temporary, f"{PREFIX}file")
    PrivateDirectory(*ME).close()
    assert names(temporary) == {f"{PREFIX}link", f"{PREFIX}file"}
    assert names(target) == before


def test_links_in_a_removed_directory_are_not_followed(tmp_path: Path, temporary: Path) -> None:
    """What a swept directory links to stays."""
    target = abandoned(tmp_path / "precious", 2**30)
    left = abandoned(temporary / f"{PREFIX}left", 2**30)
    (left / "link").symlink_to(target)
    PrivateDirectory(*ME).close()
    assert not left.exists()
    assert len(names(target)) == 2
