"""Files of this process that somebody has removed: what it counts is still in its memory, and goes into new files."""

from __future__ import annotations

import contextlib
import gc
import mmap
import os
from pathlib import Path
from typing import Any

from prometheus_client.mmap_dict import MmapedDict

from .rewriting import replace


def attach_again(folder: str, before: str) -> None:
    """Write the files of this process anew that are not in the directory any more, and go on in these.

    The values of a process are in the mapping of its file, which lives on when the file is removed. Called while no
    other thread of the process changes a value.

    Args:
        folder: where the files belong.
        before: where they were.

    Raises:
        OSError: a file cannot be written; the process goes on in the one that nobody can see.
    """
    for found in gc.get_objects():  # rare: there is no other way to all of them
        if isinstance(found, MmapedDict):
            _attach(vars(found), folder, before)


def _attach(state: dict[str, Any], folder: str, before: str) -> None:
    if state["_f"] is None or not state["_f"].writable():
        return
    where, name = os.path.split(state["_fname"])
    if where not in (folder, before):
        return
    path = Path(folder, name)
    ours = os.fstat(state["_f"].fileno())
    with contextlib.suppress(FileNotFoundError):
        there = path.lstat()
        if (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino):
            return
    file = replace(path, state["_m"][:])
    state.update(_m=mmap.mmap(file.fileno(), len(state["_m"])), _f=file, _fname=str(path))
