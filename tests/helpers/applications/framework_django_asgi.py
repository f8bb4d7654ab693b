"""The application of the framework tests, in Django, for ASGI."""

from __future__ import annotations

from tests.helpers.applications import framework_django_asgi_factory

app = framework_django_asgi_factory.app()
