"""A factory of the echo application."""

from __future__ import annotations

from tests.helpers.applications import asgi_echo


def app():
    return asgi_echo.app
