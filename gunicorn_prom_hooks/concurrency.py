"""The real ones: threads, locks, sockets and polling as they are under gevent's monkey patches.

A config file may call ``gevent.monkey.patch_all()``. A "thread" started in the master after that is a greenlet: it
runs only when the master waits, and every worker inherits a copy that answers scrapes from the worker's own
memory (seen with gunicorn 27 and gevent 26). What the master's exporter uses comes from here, unpatched.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any


def unpatched(module: str, name: str) -> Any:
    """``module.name`` as it was before gevent patched it; never imports gevent."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None:
        return monkey.get_original(module, name)
    return getattr(sys.modules.get(module) or importlib.import_module(module), name)


def new_lock() -> Any:
    """A lock of the operating system's threads."""
    return unpatched("_thread", "allocate_lock")()


def new_reentrant_lock() -> Any:
    """One that the thread which holds it may take again."""
    return unpatched("_thread", "RLock")()
