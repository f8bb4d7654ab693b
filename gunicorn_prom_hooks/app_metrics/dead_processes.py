"""The files of exited processes: gauges of workers, and the files of programs.

A value cannot move from one file to another: a process that reads both at that moment sees it twice, or not at all.
So a gauge stays in the file that the successor continues, under a second key. prometheus_client takes that key, JSON
with a space behind it, for the same sample and not for the same key. Files of programs are merged only when there are
many. Each is emptied then, and removed when no reader can be about to open it.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from itertools import groupby
from pathlib import Path
from typing import Final

from .directories.leftovers import Found, content_of, is_genuine, is_written, remove
from .identity import GONE
from .reading.file_names import GAUGES
from .reading.layouts import HEADER_BYTES
from .reading.rewriting import User, content, empty, merged, read, replace

_MARK: Final = b" "
_LIVE: Final = tuple(kind for kind in GAUGES if kind.startswith("gauge_live"))
_LASTING: Final = tuple(kind for kind in GAUGES if kind not in _LIVE)
MOST_FILES: Final = 64
"""Number of files beyond which they are merged."""
LINGER_SECONDS: Final = 60.0
"""Time that an emptied file stays, for readers that have seen its name."""


def remove_live(folder: str, identity: str) -> None:
    """Remove the live gauges of an exited process. Readers expect that these vanish."""
    for kind in _LIVE:
        file = f"{folder}/{kind}_{identity}.db"
        if os.path.lexists(file):
            with contextlib.suppress(OSError):
                os.unlink(file)


def hand_over(
    folder: str, identity: str, suffix: str, user: User | None, exclusive: Callable[[], AbstractContextManager[None]]
) -> None:
    """Prepare the gauges of an exited process for its successor, the caller. No process writes them.

    Args:
        folder: where the files are.
        identity: of both.
        suffix: of the server's files.
        user: owner of new files; None for the caller.
        exclusive: holds the lock of the file that all processes share, while it is rewritten.

    Raises:
        OSError: a file cannot be written.
    """
    remove_live(folder, identity)
    for kind in _LASTING:
        path = f"{folder}/{kind}_{identity}.db"
        if not os.path.exists(path):  # usually; each worker checks this when it boots
            continue
        file = Path(path)
        mode = kind.removeprefix("gauge_")
        entries = read(file)
        left = [entry for entry in entries if not entry.key.endswith(_MARK)]
        if left and mode == "all":
            gone = Path(folder, f"{kind}_{GONE}{suffix}.db")
            with exclusive():
                # An earlier value of the process is replaced, not added to, so a second call has no effect.
                replace(gone, content(merged(mode, [*read(gone), *left])), user)
            empty(file)
        elif left:
            kept = merged(mode, (entry._replace(key=entry.key.rstrip(_MARK)) for entry in entries))
            replace(file, content(entry._replace(key=entry.key + _MARK) for entry in kept), user)


class Retired:
    """Merges files of exited programs, and removes emptied ones later.

    Args:
        suffix: of the server's files.
        user: owner of new files.
        exclusive: holds the lock of a file that other processes rewrite, too.
    """

    def __init__(self, suffix: str, user: User, exclusive: Callable[[], AbstractContextManager[None]]) -> None:
        self._suffix = suffix
        self._user = user
        self._exclusive = exclusive
        self._emptied: dict[Path, float] = {}

    def sweep(self, files: Iterable[Found]) -> None:
        """Merge files if there are too many, and remove those that were emptied ``LINGER_SECONDS`` ago.

        Args:
            files: of processes that have chosen their number themselves, usually their pid; without live gauges.

        Raises:
            OSError: a file cannot be written.
        """
        self._remove_emptied()
        found = sorted((file for file in files if file.path not in self._emptied), key=_kind)
        if len(found) <= MOST_FILES:
            return
        for kind, group in groupby((file for file in found if _is_left(file.path)), key=_kind):
            members = list(group)
            gone = members[0].path.with_name(f"{kind}_{GONE}{self._suffix}.db")
            with self._exclusive():
                entries = [entry for path in (gone, *(member.path for member in members)) for entry in read(path)]
                replace(gone, content(merged(members[0].name.mode, entries)), self._user)
            for member in members:
                empty(member.path)
                self._emptied[member.path] = time.monotonic()

    def _remove_emptied(self) -> None:
        for path, since in list(self._emptied.items()):
            if time.monotonic() - since >= LINGER_SECONDS:
                del self._emptied[path]
                with contextlib.suppress(OSError):
                    if is_written(path) is False and content_of(path)[:4] == HEADER_BYTES.to_bytes(4, "little"):
                        remove(path)


def _kind(file: Found) -> str:
    return file.path.name.removesuffix(f"_{file.name.identity}.db")


def _is_left(path: Path) -> bool:
    try:
        return is_written(path) is False and is_genuine(path)
    except FileNotFoundError:
        return False
