"""The application of the framework tests, in Flask with Flask-SocketIO, which passes a copy of the environ on."""

from __future__ import annotations

from flask_socketio import SocketIO

from tests.helpers.applications.framework_flask import app, flask_app

__all__ = ["app"]

SocketIO(flask_app, async_mode="threading")
