"""An ASGI application without a framework, in the middleware of the hand-written recipe."""

from benchmarks.applications.plain_asgi import app as plain
from benchmarks.recipe_asgi import middleware

app = middleware(plain)
