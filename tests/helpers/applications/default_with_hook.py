"""The default application, in a module with a hook for gunicorn."""

from __future__ import annotations

from pathlib import Path

from tests.helpers.applications.default import app

__all__ = ["app", "started"]


def started(worker):
    Path("started").touch()
