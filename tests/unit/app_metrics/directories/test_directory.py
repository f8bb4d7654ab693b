"""Both kinds of directories: made again when they are gone, and paths that cannot be used."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from gunicorn_prom_hooks.app_metrics.directories.directory import DirectoryInUse, ForeignDirectory
from gunicorn_prom_hooks.app_metrics.directories.locks import MasterLock, living_masters
from gunicorn_prom_hooks.app_metrics.directories.private import PrivateDirectory
from gunicorn_prom_hooks.app_metrics.directories.shared import SharedDirectory
from tests.helpers.forks import in_fork
from tests.helpers.masters import ME, WORKERS, Start, as_root, close_in_a_child, names, touch

pytestmark = pytest.mark.usefixtures("temporary")


@pytest.mark.parametrize("kind", ["private", "shared"])
def test_removed_directory_or_lock_is_made_again_with_its_mode(tmp_path: Path, kind: str) -> None:
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
def test_foreign_directory_in_its_place_is_not_used_and_another_is_made(
    tmp_path: Path, what: Callable[[str, Path], None]
) -> None:
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


def test_close_in_a_child_removes_no_files_of_a_shared_directory(start: Start, tmp_path: Path) -> None:
    """A worker that runs the master's way out leaves files and lock alone."""
    master = start(SharedDirectory, str(tmp_path), 0, *ME)
    touch(tmp_path, f"counter_s0-{master.pid}.db")
    before = names(tmp_path)
    assert master.do(close_in_a_child)
    assert names(tmp_path) == before
    assert living_masters(str(tmp_path)) == {master.pid}


@pytest.mark.parametrize("path", ["/proc", "/proc/none/deeper", "{tmp}/file", "{tmp}/file/below", "{tmp}/dangling"])
def test_unusable_path_raises_oserror_and_changes_nothing(tmp_path: Path, path: str) -> None:
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


def test_unwritable_directory_is_an_error_and_leaves_no_lock(start: Start) -> None:
    """Without the right to write there it is an error, and no lock is left."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        os.chmod(name, 0o555)
        assert start(as_nobody, name).made is None
        assert names(Path(name)) == set()
        os.chmod(name, 0o755)


@pytest.mark.parametrize("link", ["gunicorn-masters.lock", "gunicorn-master-{pid}.lock"])
def test_lock_file_that_is_a_symlink_is_not_followed(tmp_path: Path, link: str) -> None:
    """A link is not followed: its author could make root write elsewhere."""
    target = tmp_path / "elsewhere"
    (tmp_path / link.format(pid=os.getpid())).symlink_to(target)
    with pytest.raises(OSError, match=r"symbolic link|Too many levels|another gunicorn"):
        SharedDirectory(str(tmp_path), 0, *ME)
    assert not target.exists()


def test_symlink_as_the_lock_of_another_master_counts_as_a_living_master(tmp_path: Path) -> None:
    """It cannot be looked at, so that master is taken for living."""
    target = tmp_path / "elsewhere"
    target.touch()
    (tmp_path / f"gunicorn-master-{2**30}.lock").symlink_to(target)
    with pytest.raises(DirectoryInUse, match=str(2**30)):
        SharedDirectory(str(tmp_path), 0, *ME)
    assert target.exists()


@pytest.mark.parametrize("name", ["gunicorn-masters.lock", f"gunicorn-master-{2**30}.lock"])
def test_lock_file_that_is_a_fifo_does_not_block(start: Start, tmp_path: Path, name: str) -> None:
    """No open waits for the other end of a FIFO."""
    os.mkfifo(tmp_path / name)
    master = start(SharedDirectory, str(tmp_path), 0, *ME)
    assert master.made == str(tmp_path)
    assert living_masters(str(tmp_path)) == {master.pid}


def lock_a_fifo(folder: str) -> MasterLock:
    os.mkfifo(Path(folder) / f"gunicorn-master-{os.getpid()}.lock")
    return MasterLock(folder)


def test_own_lock_file_that_is_a_fifo_does_not_block_and_is_held(start: Start, tmp_path: Path) -> None:
    """Also then no open waits, and the lock holds."""
    master = start(lock_a_fifo, str(tmp_path))
    assert living_masters(str(tmp_path)) == {master.pid}
    master.kill()
    assert living_masters(str(tmp_path)) == set()


def test_lock_file_that_is_a_directory_counts_as_a_living_master(tmp_path: Path) -> None:
    """What cannot be opened is taken for a living master's."""
    (tmp_path / f"gunicorn-master-{2**30}.lock").mkdir()
    assert living_masters(str(tmp_path)) == {2**30}
