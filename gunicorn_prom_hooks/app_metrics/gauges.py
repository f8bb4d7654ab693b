"""Gauges of a process that is gone, whose files its successor goes on with: the successor begins with none.

What the process has left stays in the same file, under a key that prometheus_client takes for the same sample and not
for the same key: JSON with a space behind it. So no value moves from one file to another while somebody reads both.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

from .columns import MERGES
from .keys import BadFile
from .layouts import Layouts
from .names import GAUGES, parse_name
from .rewriting import Entry, User, content, empty, key_of, replace
from .values_file import ValuesFile

GONE: Final = "gone"
"""Identity of all processes that are gone, where each process has a sample of its own: the mode ``all``."""
_MARK: Final = b" "
_LIVE: Final = tuple(kind for kind in GAUGES if kind.startswith("gauge_live"))
_LASTING: Final = tuple(kind for kind in GAUGES if kind not in _LIVE)


def remove_live(folder: str, identity: str) -> None:
    """Remove the live gauges of a process that is gone. Readers know that these may vanish."""
    for kind in _LIVE:
        file = f"{folder}/{kind}_{identity}.db"
        if os.path.lexists(file):
            with contextlib.suppress(OSError):
                os.unlink(file)


def hand_over(
    folder: str, identity: str, suffix: str, user: User | None, exclusive: Callable[[], AbstractContextManager[None]]
) -> None:
    """Prepare the gauges of a process that is gone for its successor, which is the caller. Nobody writes them.

    Args:
        folder: where the files are.
        identity: of both.
        suffix: of the server's files.
        user: whom new files belong to; None for the caller.
        exclusive: held while the file is rewritten that all processes share.

    Raises:
        OSError: a file cannot be written.
    """
    remove_live(folder, identity)
    for kind in _LASTING:
        path = f"{folder}/{kind}_{identity}.db"
        if not os.path.exists(path):  # as a rule; each worker asks this when it boots
            continue
        file = Path(path)
        mode = kind.removeprefix("gauge_")
        entries = _read(file)
        left = [entry for entry in entries if not entry.key.endswith(_MARK)]
        if left and mode == "all":
            gone = Path(folder, f"{kind}_{GONE}{suffix}.db")
            with exclusive():
                # A process's value of before is replaced, and never added to: to do this twice is harmless.
                replace(gone, content(_merged(mode, [*_read(gone), *left])), user).close()
            empty(file)
        elif left:
            kept = _merged(mode, (entry._replace(key=entry.key.rstrip(_MARK)) for entry in entries))
            replace(file, content(entry._replace(key=entry.key + _MARK) for entry in kept), user).close()


def _read(file: Path) -> list[Entry]:
    """Return what is in the file; nothing if it is not there, or damaged."""
    name = parse_name(file.name)
    if name is None or not file.exists():
        return []
    try:
        layout, values = ValuesFile(str(file), name, Layouts()).read()
    except BadFile:
        return []
    return [
        Entry(key_of(key.blob), value, timestamp)
        for key, value, timestamp in zip(layout.keys, values.values, values.timestamps, strict=True)
    ]


def _merged(mode: str, entries: Iterable[Entry]) -> Iterable[Entry]:
    """Return one entry per key, with the sum, least, greatest or latest value, as the mode has it."""
    kept: dict[bytes, Entry] = {}
    for entry in entries:
        before = kept.get(entry.key)
        if before is None or (mode == "mostrecent" and before.timestamp < entry.timestamp):
            kept[entry.key] = entry
        elif mode != "mostrecent":
            kept[entry.key] = entry._replace(value=MERGES[mode](before.value, entry.value))
    return kept.values()
