"""Finds the applications that a process has made of a framework's class."""

from __future__ import annotations

import gc
from typing import Any, Final

_KNOWN: Final = "gunicorn_prom_hooks"
"""Attribute of an object that has been found before."""


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


def new_instances(base: type) -> list[Any]:
    """Return those objects that have not been returned before, so that a hook of ours is added to each only once."""
    found = [each for each in instances(base) if _KNOWN not in vars(each)]
    for each in found:
        vars(each)[_KNOWN] = True
    return found
