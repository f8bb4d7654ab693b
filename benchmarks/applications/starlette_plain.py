"""A Starlette application."""

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route


async def item(request):
    return PlainTextResponse("ok")


app = Starlette(routes=[Route("/", item), Route("/items/{number:int}", item)])
