"""Numbers of forked processes, and writers of files: with processes that run, fork and are killed."""

from __future__ import annotations

import contextlib
import fcntl
import json
import mmap
import os
import signal
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gunicorn_prom_hooks.app_metrics import process_numbers
from gunicorn_prom_hooks.app_metrics.directories.leftovers import is_written
from gunicorn_prom_hooks.app_metrics.process_numbers import Numbers
from gunicorn_prom_hooks.app_metrics.recording.mapped_file import MappedFile
from gunicorn_prom_hooks.app_metrics.shared_path import SharedPath

ME = os.geteuid(), os.getegid()


class Child:
    """A forked process that does something, tells what came of it, and lives until it is ended."""

    def __init__(self, function: Callable[[], Any]) -> None:
        reading, writing = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                result = function()
            except BaseException as error:  # noqa: BLE001 - told to the test
                result = repr(error)
            os.write(writing, json.dumps(result).encode() + b"\n")
            signal.pause()
            os._exit(0)
        os.close(writing)
        with open(reading, "rb") as pipe:
            self.told = json.loads(pipe.readline())

    def end(self) -> None:
        """Kills it."""
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.pid = 0


Fork = Callable[[Callable[[], Any]], Child]


@pytest.fixture
def fork() -> Iterator[Fork]:
    """Forks children; they end with the test."""
    children: list[Child] = []

    def make(function: Callable[[], Any]) -> Child:
        children.append(Child(function))
        return children[-1]

    yield make
    for child in children:
        child.end()


def new(folder: Path, suffix: str = "") -> tuple[Numbers, SharedPath]:
    """Numbers as the master has them."""
    place = SharedPath(str(folder))
    numbers = Numbers(place, suffix)
    assert numbers.make(*ME)
    assert not numbers.make(*ME)
    return numbers, place


def test_claim_returns_the_lowest_number_of_no_living_process(tmp_path: Path, fork: Fork) -> None:
    """Each process has one of its own as long as it lives; the next process gets that of one that is gone."""
    numbers, _ = new(tmp_path)
    children = [fork(numbers.claim) for _ in range(4)]
    assert [child.told for child in children] == [0, 1, 2, 3]
    children[1].end()
    children[2].end()
    assert [fork(numbers.claim).told for _ in range(3)] == [1, 2, 4]


def test_forked_child_claims_its_own_number_and_keeps_it_after_its_parent(tmp_path: Path, fork: Fork) -> None:
    """It has a number of its own, and keeps it when the other one is gone."""
    numbers, _ = new(tmp_path)

    def both() -> list[int]:
        number, child = numbers.claim(), Child(numbers.claim)
        return [number, child.told, child.pid]

    parent = fork(both)
    *told, grandchild = parent.told
    try:
        assert told == [0, 1]
        parent.end()
        assert [fork(numbers.claim).told for _ in range(2)] == [0, 2]
    finally:
        os.kill(grandchild, signal.SIGKILL)


def test_claim_with_a_replaced_descriptor_leaves_the_other_file_alone(tmp_path: Path, fork: Fork) -> None:
    """Its number may be another file's by now, which is left alone."""
    numbers, _ = new(tmp_path)
    (tmp_path / "other").write_text("other")

    def lose() -> list[Any]:
        other = os.dup2(os.open(tmp_path / "other", os.O_RDWR), numbers._descriptor)
        number, child = numbers.claim(), Child(numbers.claim)
        child.end()
        return [number, os.pread(other, 5, 0).decode(), child.told]

    assert fork(lose).told == [0, "other", 1]


def test_claims_of_two_servers_in_one_directory_are_independent(tmp_path: Path, fork: Fork) -> None:
    """Each has its own numbers."""
    (first, _), (second, _) = new(tmp_path, "-1"), new(tmp_path, "-2")
    assert [fork(numbers.claim).told for numbers in (first, second)] == [0, 0]


def test_number_of_a_process_with_a_mapped_file_stays_taken_without_its_lock(tmp_path: Path, fork: Fork) -> None:
    """If its lock is lost and its file is still mapped, no other process gets its number."""
    numbers, _ = new(tmp_path)
    path = tmp_path / "counter_p0.db"
    path.write_bytes(bytes(64))

    def close() -> int:
        number = numbers.claim()
        with path.open("r+b") as file:
            mapped = mmap.mmap(file.fileno(), 64)
        os.closerange(3, 9)
        children.append(mapped)
        return number

    children: list[Any] = []
    # The pipe to the test is kept: it is beyond those.
    for _ in range(8):
        os.dup(0)
    child = fork(close)
    assert child.told == 0
    assert fork(numbers.claim).told == 1
    with numbers.hold_dead(0) as dead:
        assert not dead
    child.end()
    with numbers.hold_dead(0) as dead:
        assert dead
        assert fork(numbers.claim).told == 2, "while the master is at it"
    assert fork(numbers.claim).told == 0


def test_lost_lock_file_keeps_claimed_numbers_and_gives_new_ones(tmp_path: Path, fork: Fork) -> None:
    """If the locks are lost, processes with a number get the same one again, and others a new one."""
    numbers, place = new(tmp_path)
    before = fork(numbers.claim)
    (lock,) = tmp_path.iterdir()
    lock.unlink()
    assert fork(numbers.claim).told == process_numbers.PER_GENERATION, "all processes know"
    assert place.generation() == 1
    assert fork(numbers.claim).told == process_numbers.PER_GENERATION + 1
    assert numbers.make(*ME), "the master knows"
    assert before.told == 0

    def again() -> list[Any]:
        numbers.claim_again(0)
        return [fork_and_tell(numbers, 0)]

    assert fork(again).told == [False]


def fork_and_tell(numbers: Numbers, number: int) -> Any:
    def held() -> bool:
        with numbers.hold_dead(number) as dead:
            return dead

    child = Child(held)
    child.end()
    return child.told


def test_claim_raises_oserror_when_all_numbers_are_taken(
    tmp_path: Path, fork: Fork, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is an OSError."""
    monkeypatch.setattr(process_numbers, "PER_GENERATION", 2)
    numbers, _ = new(tmp_path)
    assert [fork(numbers.claim).told for _ in range(3)] == [0, 1, "OSError('no number is free')"]


def test_lock_file_that_is_a_symlink_is_not_followed(tmp_path: Path) -> None:
    """Neither the master nor a claiming process does it."""
    (tmp_path / "gunicorn-processes.lock").symlink_to(tmp_path / "target")
    numbers = Numbers(SharedPath(str(tmp_path)), "")
    for action in (lambda: numbers.make(*ME), numbers.claim):
        with pytest.raises(OSError, match="symbolic"):
            action()
    assert not (tmp_path / "target").exists()


@pytest.mark.skipif(ME[0] != 0, reason="needs root")
def test_lock_file_of_root_belongs_to_the_user_of_the_workers(tmp_path: Path) -> None:
    """The workers' user can lock in it."""
    assert Numbers(SharedPath(str(tmp_path)), "").make(54321, 54322)
    (lock,) = tmp_path.iterdir()
    assert (lock.stat().st_uid, lock.stat().st_gid) == (54321, 54322)


def test_exclusive_admits_one_process_and_raises_after_the_wait(
    tmp_path: Path, fork: Fork, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One process at a time; another one waits for a while, and then gives up."""
    monkeypatch.setattr("gunicorn_prom_hooks.app_metrics.directories.locks.WAIT_SECONDS", 0.2)
    numbers, _ = new(tmp_path)
    stack = contextlib.ExitStack()

    def enter() -> str:
        stack.enter_context(numbers.exclusive())
        return "in"

    first = fork(enter)
    assert first.told == "in"
    assert "BlockingIOError" in fork(enter).told
    first.end()
    assert fork(enter).told == "in"


# Writers of a file


def open_for_writing(path: Path) -> Any:
    return path.open("r+b")


def map_only(path: Path) -> Any:
    with path.open("r+b") as file:
        return mmap.mmap(file.fileno(), 64)


def open_for_reading(path: Path) -> Any:
    return path.open("rb")


@pytest.mark.parametrize(
    ("how", "expected"), [(open_for_writing, True), (map_only, True), (open_for_reading, False), (str, False)]
)
def test_is_written_is_true_for_a_file_open_for_writing_or_mapped(
    tmp_path: Path, fork: Fork, how: Callable[[Path], Any], expected: bool
) -> None:
    """A file is written if any process has it open for that, or mapped; not when it is gone."""
    path = tmp_path / "file"
    path.write_bytes(bytes(64))
    kept: list[Any] = []
    child = fork(lambda: kept.append(how(path)))
    assert is_written(path) == expected
    child.end()
    assert is_written(path) is False


def test_is_written_is_none_for_a_link_and_raises_for_a_missing_file(tmp_path: Path) -> None:
    """Where it cannot be told it is not told, and a link is not followed."""
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert is_written(tmp_path / "link") is None
    with pytest.raises(FileNotFoundError):
        is_written(tmp_path / "none")


def test_is_written_is_none_without_leases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is told there."""
    (tmp_path / "file").touch()
    monkeypatch.delattr(fcntl, "F_SETLEASE")
    assert is_written(tmp_path / "file") is None


def test_file_opened_during_a_lease_is_opened_after_it_and_written(tmp_path: Path, fork: Fork) -> None:
    """A worker that opens its file while another master asks waits for it, and has its metrics in the file."""
    path = tmp_path / "counter_s0.db"
    path.write_bytes(bytes(1 << 16))
    kept = []

    def ask() -> bool:
        signal.signal(signal.SIGURG, lambda *_: None)  # the end of the pause, and so of the process and its lease
        kept.append(os.open(path, os.O_RDONLY))
        fcntl.fcntl(kept[0], fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(kept[0], fcntl.F_SETLEASE, fcntl.F_RDLCK)
        return True

    assert fork(ask).told is True
    file = MappedFile(str(path))
    file.cells([b"key"])
    file.close()
    assert path.read_bytes()[12:15] == b"key"


def test_is_written_survives_a_writer_that_opens_the_file_meanwhile(tmp_path: Path, fork: Fork) -> None:
    """The kernel's signal to the process with the lease is ignored: its default signal would end the process."""
    path = tmp_path / "counter_1.db"
    path.write_bytes(struct.pack("=II", 8, 0))

    def write() -> None:
        while True:
            os.close(os.open(path, os.O_RDWR))

    writer = os.fork()
    if writer == 0:
        write()
    try:
        asking = fork(lambda: sum(is_written(path) is False for _ in range(5000)))
        assert asking.told > 0
    finally:
        os.kill(writer, signal.SIGKILL)
        os.waitpid(writer, 0)
