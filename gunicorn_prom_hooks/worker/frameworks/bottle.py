"""Bottle: leaves its route in the environ. It tells nobody of the exceptions that it makes a 500 of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...scoreboard.families import UNMATCHED
from .notes import noted

MODULE = "bottle"


def prepare() -> None:
    """There is nothing to prepare."""


def route(environ: Mapping[str, Any]) -> str | None:
    """The rule, such as ``/items/<number:int>``."""
    if "bottle.app" not in environ:
        return None
    matched = environ.get("bottle.route")
    if matched is None:
        return UNMATCHED
    target = matched.config.get("mountpoint.target")
    if target is not None:  # nothing but a mount has matched: of another Bottle, or of who knows what
        inner = getattr(target, "__self__", target)
        return UNMATCHED if inner is environ["bottle.app"] else noted(environ) or str(matched.rule)
    # Of an application that another Bottle has mounted: the path that it saw, which now has the mount in front again.
    script, seen = environ.get("SCRIPT_NAME", "").rstrip("/"), environ["bottle.raw_path"]
    path = script + environ["PATH_INFO"]
    mount = path.removesuffix(seen) if path.endswith(seen) else script
    return str(mount + matched.rule)
