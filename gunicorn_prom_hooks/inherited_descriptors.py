"""Files that a thread of the master has open for a moment: a process that the master forks meanwhile closes them.

Holding a lock from opening to closing would have a fork wait for a slow file system. And which descriptor a file has, a
thread learns only after it is open: a fork may come in between. So a thread notes where the files are that it is
going to open, and the forked process goes through the descriptors that it has inherited.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

Match = Callable[[int, str], bool]
"""Whether a descriptor, with what ``/proc/self/fd`` says of it, is one that a thread opens for a moment."""

_DESCRIPTORS: Final = "/proc/self/fd"
"""Where there is no such directory, nothing is closed."""
_NETLINK_SOCK_DIAG: Final = 4  # linux/netlink.h


Opened = frozenset[tuple[int, str]]
"""Descriptors and what they are of. The number alone may soon be that of another file."""


class _Note(NamedTuple):
    before: Opened
    matches: tuple[Match, ...]


_notes: dict[object, _Note] = {}
"""Of what is going on at this moment."""


def descriptors() -> Opened:
    """Return what is open."""
    itself = f"/proc/{os.getpid()}/fd"
    found = set()
    try:
        with transient((lambda _, link: link == itself,), frozenset()):
            numbers = os.listdir(_DESCRIPTORS)
    except OSError:
        return frozenset()
    for number in numbers:
        with contextlib.suppress(OSError):  # closed meanwhile, as the one with which these were listed
            found.add((int(number), os.readlink(f"{_DESCRIPTORS}/{number}")))
    return frozenset(found)


def below(directory: str) -> Match:
    """Match the directory, by its real path, and all that is in it."""
    inside = directory.rstrip("/") + "/"
    return lambda _, link: f"{link.removesuffix(' (deleted)')}/".startswith(inside)


def is_sock_diag(descriptor: int, link: str) -> bool:
    """Match a socket that asks the kernel about sockets."""
    if not link.startswith("socket:") or not hasattr(socket, "AF_NETLINK"):
        return False
    with socket.socket(fileno=os.dup(descriptor)) as asking:
        return asking.family == socket.AF_NETLINK and asking.proto == _NETLINK_SOCK_DIAG


@contextlib.contextmanager
def transient(matches: Iterable[Match], before: Opened | None = None) -> Iterator[None]:
    """Have forked processes close what the ``with`` block opens.

    Args:
        matches: what it opens.
        before: what was open at a moment before, and is kept. None: what is open now.
    """
    key = object()
    _notes[key] = _Note(descriptors() if before is None else before, tuple(matches))
    try:
        yield
    finally:
        _notes.pop(key, None)


def close_inherited() -> None:
    """Close what threads had open that this process, just forked, does not have. Never raises."""
    notes = list(_notes.values())
    _notes.clear()
    for opened in descriptors() if notes else ():
        with contextlib.suppress(OSError):
            if any(opened not in note.before and any(match(*opened) for match in note.matches) for note in notes):
                os.close(opened[0])
