"""The echo application, called in two steps as of ASGI 2."""

from __future__ import annotations

from tests.helpers.applications import asgi_echo


class app:  # noqa: N801 - the name that gunicorn is given
    def __init__(self, scope):
        self.scope = scope

    async def __call__(self, receive, send):
        await asgi_echo.app(self.scope, receive, send)
