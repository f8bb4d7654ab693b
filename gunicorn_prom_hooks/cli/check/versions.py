"""Versions of Python and of what this package depends on, compared with those that it supports."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from ..findings import Finding, note

MINIMUM: Final[Mapping[str, tuple[int, ...]]] = {
    "gunicorn": (21, 2),
    "prometheus_client": (0, 22),
    "psutil": (5, 9),
}
"""As in pyproject.toml."""
NEWEST_GUNICORN: Final = 27
"""The newest one whose private interface was read, as in ``_gunicorn.py``."""
MINIMUM_PYTHON: Final = (3, 10)


def check_versions(
    installed: Mapping[str, str | None] | None = None, python: tuple[int, ...] = sys.version_info[:2]
) -> Iterator[Finding]:
    """Yield a finding for each version that is not supported.

    Args:
        installed: versions by name; None: those of this environment.
        python: version of Python.
    """
    if python < MINIMUM_PYTHON:
        yield Finding(f"Python {_text(python)} is not supported", f"Use Python {_text(MINIMUM_PYTHON)} or newer")
    found = {name: _installed(name) for name in MINIMUM} if installed is None else installed
    for name, minimum in MINIMUM.items():
        have = found.get(name)
        if have is None:
            yield Finding(f"{name} is not installed", f"Install {name} {_text(minimum)} or newer")
        elif parse_version(have) < minimum:
            yield Finding(f"{name} {have} is not supported", f"Install {name} {_text(minimum)} or newer")
    gunicorn = found.get("gunicorn")
    if gunicorn is not None and parse_version(gunicorn)[:1] > (NEWEST_GUNICORN,):
        yield note(
            f"gunicorn {gunicorn} is newer than {NEWEST_GUNICORN}, the newest version that was tested",
            "Look for a newer version of gunicorn-prom-hooks",
        )


def parse_version(text: str) -> tuple[int, ...]:
    """Return the numbers at the start of a version; empty if there are none."""
    found = re.match(r"\d+(?:\.\d+)*", text)
    return tuple(map(int, found.group().split("."))) if found else ()


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _text(numbers: tuple[int, ...]) -> str:
    return ".".join(map(str, numbers))
