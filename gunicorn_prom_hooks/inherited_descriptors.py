"""Files that a thread of the master opens for a moment, and that a process forked meanwhile has to close.

A lock held from opening to closing would make a fork wait for a slow file system. A thread learns the descriptor of a
file only after it is open, and a fork may come in between. So a thread records which files it is going to open, and
the forked process searches the descriptors that it has inherited.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

Match = Callable[[int, str], bool]
"""Returns whether a descriptor, with its link in ``/proc/self/fd``, is one that a thread opens for a moment."""

_DESCRIPTORS: Final = "/proc/self/fd"
"""Without this directory nothing is closed."""
_NETLINK_SOCK_DIAG: Final = 4  # linux/netlink.h


Opened = frozenset[tuple[int, str]]
"""Descriptors with their links. The number alone may soon belong to another file."""


class _Transient(NamedTuple):
    before: Opened
    matches: tuple[Match, ...]


transients: dict[object, _Transient] = {}
"""One entry per running ``transient`` block."""


def descriptors() -> Opened:
    """Return all open descriptors."""
    itself = f"/proc/{os.getpid()}/fd"
    found = set()
    try:
        with transient((lambda _, link: link == itself,), frozenset()):
            numbers = os.listdir(_DESCRIPTORS)
    except OSError:
        return frozenset()
    for number in numbers:
        with contextlib.suppress(OSError):  # closed meanwhile, as is the descriptor of the listing itself
            found.add((int(number), os.readlink(f"{_DESCRIPTORS}/{number}")))
    return frozenset(found)


def below(directory: str) -> Match:
    """Return a match for the directory, given by its real path, and everything in it."""
    inside = directory.rstrip("/") + "/"
    return lambda _, link: f"{link.removesuffix(' (deleted)')}/".startswith(inside)


def is_sock_diag(descriptor: int, link: str) -> bool:
    """Return whether the descriptor is a netlink socket that queries the kernel about sockets."""
    if not link.startswith("socket:") or not hasattr(socket, "AF_NETLINK"):
        return False
    with socket.socket(fileno=os.dup(descriptor)) as sock:
        return sock.family == socket.AF_NETLINK and sock.proto == _NETLINK_SOCK_DIAG


@contextlib.contextmanager
def transient(matches: Iterable[Match], before: Opened | None = None) -> Iterator[None]:
    """Make forked processes close the files that the ``with`` block opens.

    Args:
        matches: recognize the files that the block opens.
        before: descriptors that were open before, and are kept. None: those open now.
    """
    key = object()
    transients[key] = _Transient(descriptors() if before is None else before, tuple(matches))
    try:
        yield
    finally:
        transients.pop(key, None)


def close_inherited() -> None:
    """Close files that threads of the parent had open for a moment, in a process just forked. Never raises."""
    entries = list(transients.values())
    transients.clear()
    for opened in descriptors() if entries else ():
        with contextlib.suppress(OSError):
            if any(opened not in entry.before and any(match(*opened) for match in entry.matches) for entry in entries):
                os.close(opened[0])
