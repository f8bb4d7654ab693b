"""A Starlette application that answers with the exception being handled."""

from __future__ import annotations

import sys

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route


async def unavailable(request):
    return PlainTextResponse(repr(sys.exc_info()[1]), 503)


app = Starlette(routes=[Route("/", lambda request: PlainTextResponse("ok")), Route("/unavailable", unavailable)])
