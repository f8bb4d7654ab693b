"""A factory of the application of the framework tests, in Django, for ASGI."""

from __future__ import annotations

from django.core.asgi import get_asgi_application

from tests.helpers.applications import framework_django

framework_django.configure(__name__)
urlpatterns = framework_django.patterns(framework_django.async_stream)


def app():
    site = get_asgi_application()

    async def served(scope, receive, send):
        if scope["type"] == "http":
            if scope["path"].startswith("/v2/"):
                scope["root_path"] = "/v2"
            await site(scope, receive, send)

    return served
