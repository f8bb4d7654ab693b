"""What threads of the master have open for a moment, and a process that is forked meanwhile."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gunicorn_prom_hooks import inherited_descriptors
from gunicorn_prom_hooks.collectors.sock_diag import _NETLINK_SOCK_DIAG
from gunicorn_prom_hooks.inherited_descriptors import below, close_inherited, descriptors, is_sock_diag, transient
from tests.helpers.forks import in_fork

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="nothing else says what a descriptor is of")
FORKS = 150


def in_closed_fork(function: Callable[[], object]) -> Any:
    """Return the result of the function in a forked child that has closed what its parent had open for a moment."""

    def child() -> object:
        close_inherited()
        return function()

    return in_fork(child)


def links() -> list[str]:
    """What this process has open."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found.append(os.readlink(f"/proc/self/fd/{number}"))
    return found


@contextlib.contextmanager
def repeating(function: Callable[[], None]) -> Iterator[None]:
    """Another thread does this again and again."""
    stop = threading.Event()

    def run() -> None:
        while not stop.is_set():
            function()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_fork_closes_only_files_opened_below_the_path_meanwhile(tmp_path: Path) -> None:
    """What was opened since, and is where it was said to be; also if it is removed by now. All else is kept."""
    for folder in ("in", "inside"):
        (tmp_path / folder).mkdir()
    for name in ("in/old", "in/new", "in/gone", "inside/new"):
        (tmp_path / name).write_text("")
    with contextlib.ExitStack() as stack:

        def opened(name: str) -> int:
            return stack.enter_context((tmp_path / name).open()).fileno()

        kept = [opened("in/old")]
        with transient((below(str(tmp_path / "in")),)):
            closed = [opened("in/new"), opened("in/gone"), os.open(tmp_path / "in", os.O_RDONLY)]
            kept.append(opened("inside/new"))
            (tmp_path / "in/gone").unlink()

            def left() -> list[list[bool]]:
                return [[os.path.lexists(f"/proc/self/fd/{number}") for number in found] for found in (closed, kept)]

            assert in_closed_fork(left) == [[False] * 3, [True] * 2]
            assert left() == [[True] * 3, [True] * 2], "the parent has them still"
        assert in_closed_fork(left) == [[True] * 3, [True] * 2], "no thread opens anything now"
        os.close(closed[2])
    assert inherited_descriptors.transients == {}


def test_fork_closes_only_netlink_sockets_of_sock_diag() -> None:
    """A socket that asks about sockets is closed, all others are kept."""
    kinds: list[tuple[Any, ...]] = [
        (socket.AF_NETLINK, socket.SOCK_DGRAM, _NETLINK_SOCK_DIAG),
        (socket.AF_NETLINK, socket.SOCK_DGRAM, 0),
        (socket.AF_UNIX, socket.SOCK_STREAM),
        (socket.AF_INET, socket.SOCK_STREAM),
    ]
    with contextlib.ExitStack() as stack, transient((is_sock_diag,)):
        made = [stack.enter_context(socket.socket(*kind)).fileno() for kind in kinds]
        assert (
            in_closed_fork(lambda: [os.path.lexists(f"/proc/self/fd/{number}") for number in made])
            == [False] + [True] * 3
        )


def test_fork_during_file_reads_inherits_none_of_them(tmp_path: Path) -> None:
    """At whatever instant the process forks, no child has a file of the thread's."""
    path = tmp_path / "counter_s0.db"
    path.write_bytes(bytes(1 << 16))

    def read() -> None:
        with transient((below(str(tmp_path)),)):
            os.listdir(tmp_path)
            path.read_bytes()

    with repeating(read):
        assert not [link for _ in range(FORKS) for link in in_closed_fork(links) if str(tmp_path) in link]


def test_fork_during_a_listing_of_descriptors_inherits_none_of_it() -> None:
    """The look itself is inherited by no child either."""
    here = f"/proc/{os.getpid()}/"

    def look() -> None:
        descriptors()

    with repeating(look):
        assert not [link for _ in range(FORKS) for link in in_closed_fork(links) if link.startswith(here)]


def test_descriptors_are_those_open_without_that_of_the_listing() -> None:
    """Those that are open, without the one that they are listed with."""
    with open(os.devnull) as file:
        found = descriptors()
        assert (file.fileno(), os.devnull) in found
    assert descriptors() < found
