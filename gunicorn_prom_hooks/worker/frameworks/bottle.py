"""Bottle: leaves its route in the environ. It tells nobody of the exceptions that it makes a 500 of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...scoreboard.families import UNMATCHED

MODULE = "bottle"


def prepare() -> None:
    """There is nothing to prepare."""


def route(environ: Mapping[str, Any]) -> str | None:
    """The rule, such as ``/items/<number:int>``."""
    if "bottle.app" not in environ:
        return None
    matched = environ.get("bottle.route")
    if matched is None or matched.config.get("mountpoint.target") is environ["bottle.app"]:
        return UNMATCHED  # by any application, or only the mount of another Bottle, which then had no route
    # Of an application that another Bottle has mounted: the path that it saw, which now has the mount in front again.
    script, seen = environ.get("SCRIPT_NAME", "").rstrip("/"), environ["bottle.raw_path"]
    path, seen = script + environ["PATH_INFO"], seen.encode("latin-1", "replace").decode("utf-8", "ignore")
    mount = path.removesuffix(seen) if path.endswith(seen) else script
    return str(mount + matched.rule)
