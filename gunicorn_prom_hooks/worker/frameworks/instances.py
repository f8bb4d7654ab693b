"""Finds the applications that a process has made of a framework's class."""

from __future__ import annotations

import gc
from typing import Any


def instances(base: type) -> list[Any]:
    """All objects of that class and of those derived from it.

    An object refers to its class, and the garbage collector tells who does. It only reads: memory that a worker shares
    with the master stays shared. What ``gc.freeze()`` has put out of its sight is put back for as long as it looks,
    which is a matter of joining two lists.
    """
    classes: set[type] = set()
    new: list[type] = [base]
    while new:
        cls = new.pop()
        if cls not in classes:
            classes.add(cls)
            new += type.__subclasses__(cls)
    frozen, enabled = gc.get_freeze_count() > 0, gc.isenabled()
    if frozen:
        gc.disable()
        gc.unfreeze()
    try:
        return [found for found in gc.get_referrers(*classes) if type(found) in classes]
    finally:
        if frozen:
            gc.freeze()
            if enabled:
                gc.enable()
