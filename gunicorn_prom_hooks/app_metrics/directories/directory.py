"""What both kinds of directories of the application's metrics have in common."""

from __future__ import annotations

import os
from typing import Protocol

from ..reading.rewriting import User
from ..shared_path import SharedPath


class DirectoryInUse(OSError):
    """Another server keeps its metrics in this directory."""


class ForeignDirectory(OSError):
    """The path of the private directory is now something else, or other users may write to it."""


class Directory(Protocol):
    """The interface of both kinds of directories.

    Attributes:
        place: its path.
        user: its owner.
        removed: number of files of exited processes removed so far.
        unsure: files of processes that may have exited or not.
    """

    place: SharedPath
    user: User
    removed: int
    unsure: frozenset[str]

    @property
    def suffix(self) -> str:
        """The suffix of this server's files, which separates them from another server's."""

    def ensure(self) -> str:
        """Return the path. Make the directory again if it is gone. In any process.

        Raises:
            OSError: it cannot be made, or something else has its path.
        """

    def restore(self) -> bool:
        """Make directory and lock again if they are missing. In the master. Return whether anything was missing.

        Raises:
            OSError: it cannot be.
        """

    def close(self) -> None:
        """Remove the files of this server. A second call, or one in a child, has no effect."""


def give_to(path: str, user: User) -> None:
    """Make the user the owner of this path.

    Raises:
        OSError: this process may not.
    """
    if user != (os.geteuid(), os.getegid()):
        os.chown(path, *user, follow_symlinks=False)
