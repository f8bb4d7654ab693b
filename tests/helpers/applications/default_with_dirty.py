"""The default application, in a module with an idle dirty application."""

from __future__ import annotations

from gunicorn.dirty import DirtyApp

from tests.helpers.applications.default import app

__all__ = ["Idle", "app"]


class Idle(DirtyApp):
    pass
