"""The application of the framework tests, in Falcon, for ASGI."""

from __future__ import annotations

from tests.helpers.applications import framework_falcon_asgi_factory

app = framework_falcon_asgi_factory.app()
