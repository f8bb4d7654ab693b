"""Where a worker hung: the stack of each of its threads, as text."""

from __future__ import annotations

import signal
import sys
import threading
import traceback
from types import FrameType
from typing import Final

from ..native import original

MAX_THREADS: Final = 64
MAX_FRAMES: Final = 60


def stacks() -> str:
    """The stack of every thread of this process, the most recent call last, the calling thread's first.

    Takes no lock: a thread's name is read without asking the threading module for it.
    """
    names = {thread.ident: thread.name for thread in list(threading._active.values())}  # type: ignore[attr-defined]  # noqa: SLF001
    frames = sys._current_frames()  # noqa: SLF001 - the documented way to the stacks of other threads
    own = original("_thread", "get_ident")()  # under gevent's patches threading's is a greenlet's
    frames[own] = _interrupted(frames[own])
    parts = []
    for ident in sorted(frames, key=lambda ident: ident != own)[:MAX_THREADS]:
        parts.append(f"Thread {names.get(ident, '?')} ({ident}):\n")
        parts += traceback.format_stack(frames[ident])[-MAX_FRAMES:]
    if len(frames) > MAX_THREADS:
        parts.append(f"and {len(frames) - MAX_THREADS} more threads\n")
    return "".join(parts).rstrip()


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


def _interrupted(frame: FrameType) -> FrameType:
    """What gunicorn's SIGABRT handler interrupted, if that is where we are."""
    caller: FrameType | None = frame
    while caller is not None:
        if caller.f_code.co_name == "handle_abort" and caller.f_back is not None:
            return caller.f_back
        caller = caller.f_back
    return frame
