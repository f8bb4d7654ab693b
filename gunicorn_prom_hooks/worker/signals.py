"""Which signal a worker is handling."""

from __future__ import annotations

import signal
import sys
from types import FrameType


def handled_signal() -> int:
    """The number of the signal whose handler, one of gunicorn's workers', has called us; 0 if none has."""
    caller: FrameType | None = sys._getframe()  # noqa: SLF001 - no hook is told which signal it was
    while caller is not None:
        if caller.f_code.co_name == "handle_quit":
            return int(caller.f_locals.get("sig", 0))
        if caller.f_code.co_name == "handle_quit_signal":
            return int(signal.SIGQUIT)  # the asgi worker's, also for SIGINT; the master sends this one
        caller = caller.f_back
    return 0
