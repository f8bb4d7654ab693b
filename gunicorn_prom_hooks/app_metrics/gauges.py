"""Gauges of a process that is gone, whose files its successor goes on with: the successor begins with none.

What the process has left stays in the same file, under a key that prometheus_client takes for the same sample and not
for the same key: JSON with a space behind it. So no value moves from one file to another while somebody reads both.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

from .identity import GONE
from .names import GAUGES
from .rewriting import User, content, empty, merged, read, replace

_MARK: Final = b" "


def remove_live(folder: str, identity: str) -> None:
    """Remove the live gauges of a process that is gone. Readers know that these may vanish."""
    for kind in GAUGES:
        if kind.startswith("gauge_live"):
            with contextlib.suppress(OSError):
                Path(folder, f"{kind}_{identity}.db").unlink()


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
    for kind in GAUGES:
        file = Path(folder, f"{kind}_{identity}.db")
        if kind.startswith("gauge_live") or not file.exists():
            continue
        mode = kind.removeprefix("gauge_")
        entries = read(file)
        left = [entry for entry in entries if not entry.key.endswith(_MARK)]
        if left and mode == "all":
            gone = Path(folder, f"{kind}_{GONE}{suffix}.db")
            with exclusive():
                # A process's value of before is replaced, and never added to: to do this twice is harmless.
                replace(gone, content(merged(mode, [*read(gone), *left])), user)
            empty(file)
        elif left:
            kept = merged(mode, (entry._replace(key=entry.key.rstrip(_MARK)) for entry in entries))
            replace(file, content(entry._replace(key=entry.key + _MARK) for entry in kept), user)
