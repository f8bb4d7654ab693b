"""Whether a process is there."""

from __future__ import annotations

import os


def process_exists(pid: int) -> bool:
    """Whether a process has this pid, be it another user's or a zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True
