"""The same small application, written for each framework: what the process tests of frameworks serve.

``/``, ``/items/<number>``, ``/gone`` (404), ``/boom`` (raises), ``/handled`` (raises, and answers 400),
``/unavailable`` (503), ``/stream``; all of it again below ``/v2``, where something is there to mount it.
"""

from __future__ import annotations

from typing import Final

MOUNTED: Final = """
from werkzeug.middleware.dispatcher import DispatcherMiddleware
app = DispatcherMiddleware(app, {"/v2": app})
"""

FLASK: Final = (
    """
import flask

app = flask.Flask("app")
shop = flask.Blueprint("shop", "shop", url_prefix="/items")
app.add_url_rule("/", "root", lambda: "ok")
shop.add_url_rule("/<int:number>", "item", lambda number: str(number))
app.register_blueprint(shop)

@app.get("/gone")
def gone():
    flask.abort(404)

@app.get("/boom")
def boom():
    raise LookupError("boom")

@app.get("/handled")
def handled():
    raise ValueError("handled")

@app.errorhandler(ValueError)
def answer(error):
    return "handled", 400

@app.get("/unavailable")
def unavailable():
    return "", 503

@app.get("/stream")
def stream():
    def parts():
        yield flask.request.path
        yield "."
    return flask.Response(flask.stream_with_context(parts()))
"""
    + MOUNTED
)

FLASK_SOCKETIO: Final = (
    FLASK.replace(MOUNTED, "")
    + """
from flask_socketio import SocketIO
SocketIO(app, async_mode="threading")  # hands on a copy of the environ
"""
    + MOUNTED
)

DJANGO: Final = """
import django
from django.conf import settings
from django.http import Http404, HttpResponse, StreamingHttpResponse
from django.urls import include, path

def raises(error):
    def view(request):
        raise error
    return view

def stream(request):
    return StreamingHttpResponse(iter([b"a", b"b"]))

async def async_stream(request):
    async def parts():
        yield b"a"
        yield b"b"
    return StreamingHttpResponse(parts())

def answers(get_response):
    def middleware(request):
        return get_response(request)
    middleware.process_exception = answer
    return middleware

def answer(request, error):
    return HttpResponse(status=400) if isinstance(error, ValueError) else None

if not settings.configured:
    settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF="app", SECRET_KEY="x", MIDDLEWARE=["app.answers"])
    django.setup()
urlpatterns = [
    path("", lambda request: HttpResponse("ok")),
    path("items/", include([path("<int:number>", lambda request, number: HttpResponse(str(number)))])),
    path("gone", raises(Http404())),
    path("boom", raises(LookupError("boom"))),
    path("handled", raises(ValueError("handled"))),
    path("unavailable", lambda request: HttpResponse(status=503)),
    path("stream", STREAM),
]
"""
DJANGO_WSGI: Final = (
    DJANGO.replace("STREAM", "stream")
    + """
from django.core.wsgi import get_wsgi_application
app = get_wsgi_application()
"""
    + MOUNTED
)
DJANGO_ASGI: Final = (
    DJANGO.replace("STREAM", "async_stream")
    + """
from django.core.asgi import get_asgi_application
site = get_asgi_application()

async def app(scope, receive, send):
    if scope["type"] == "http":
        if scope["path"].startswith("/v2/"):
            scope["root_path"] = "/v2"
        await site(scope, receive, send)
"""
)

FALCON: Final = """
import falcon, falcon.asgi

class Part:
    def __init__(self, act):
        self.act = act

    ASYNC def on_get(self, req, resp, **taken):
        self.act(resp, **taken)

def raises(error):
    def act(resp):
        raise error
    return act

def item(resp, number):
    resp.text = str(number)

def unavailable(resp):
    resp.status = 503

def stream(resp):
    resp.stream = PARTS

ASYNC def answer(req, resp, error, params):
    resp.status = 400

app = falcon.APP()
app.add_route("/", Part(lambda resp: None))
app.add_route("/items/{number:int}", Part(item))
app.add_route("/gone", Part(raises(falcon.HTTPNotFound())))
app.add_route("/boom", Part(raises(LookupError("boom"))))
app.add_route("/handled", Part(raises(ValueError("handled"))))
app.add_route("/unavailable", Part(unavailable))
app.add_route("/stream", Part(stream))
app.add_error_handler(ValueError, answer)
"""
FALCON_WSGI: Final = FALCON.replace("ASYNC ", "").replace("APP", "App").replace("PARTS", 'iter([b"a", b"b"])') + MOUNTED
FALCON_ASGI: Final = """
async def parts():
    yield b"a"
    yield b"b"
""" + FALCON.replace("ASYNC ", "async ").replace("APP", "asgi.App").replace("PARTS", "parts()")

BOTTLE: Final = (
    """
import bottle

app = bottle.Bottle()
app.route("/", callback=lambda: "ok")
app.route("/items/<number:int>", callback=lambda number: str(number))
app.route("/gone", callback=lambda: bottle.abort(404))

@app.route("/boom")
def boom():
    raise LookupError("boom")

@app.route("/handled")
def handled():
    return bottle.HTTPResponse(status=400)

@app.route("/unavailable")
def unavailable():
    return bottle.HTTPResponse(status=503)

@app.route("/stream")
def stream():
    yield b"a"
    yield b"b"
"""
    + MOUNTED
)

PYRAMID: Final = (
    """
import warnings
warnings.simplefilter("ignore")
from pyramid.config import Configurator
from pyramid.httpexceptions import HTTPNotFound
from pyramid.response import Response

def view(request):
    name = request.matched_route.name
    if name == "gone":
        raise HTTPNotFound
    if name == "boom":
        raise LookupError("boom")
    if name == "handled":
        raise ValueError("handled")
    if name == "stream":
        return Response(app_iter=iter([b"a", b"b"]))
    return Response("ok", status=503 if name == "unavailable" else 200)

with Configurator() as config:
    config.add_route("root", "/")
    config.add_route("item", "items/{number}")
    for name in ("root", "item", "gone", "boom", "handled", "unavailable", "stream"):
        if name not in ("root", "item"):
            config.add_route(name, name)
        config.add_view(view, route_name=name)
    config.add_exception_view(lambda error, request: Response(status=400), context=ValueError)
    config.add_exception_view(lambda error, request: Response(status=500), context=LookupError)
    app = config.make_wsgi_app()
"""
    + MOUNTED
)

STARLETTE: Final = """
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route

def raises(error):
    async def endpoint(request):
        raise error
    return endpoint

async def ok(request):
    return PlainTextResponse("ok")

async def stream(request):
    async def parts():
        yield b"a"
        yield b"b"
    return StreamingResponse(parts())

async def answer(request, error):
    return PlainTextResponse("handled", 400)

routes = [
    Route("/", ok),
    Route("/items/{number:int}", ok),
    Route("/gone", raises(HTTPException(404))),
    Route("/boom", raises(LookupError("boom"))),
    Route("/handled", raises(ValueError("handled"))),
    Route("/unavailable", raises(HTTPException(503))),
    Route("/stream", stream),
]
app = Starlette(
    routes=[*routes, Mount("/v2", Starlette(routes=routes))], exception_handlers={ValueError: answer}
)
"""

FASTAPI: Final = """
import fastapi
from fastapi.responses import PlainTextResponse, StreamingResponse

app, items, rest, v2 = fastapi.FastAPI(), fastapi.APIRouter(), fastapi.APIRouter(), fastapi.FastAPI()

@items.get("/{number}")
def item(number: int):
    return number

@rest.get("/gone")
def gone():
    raise fastapi.HTTPException(404)

@rest.get("/boom")
def boom():
    raise LookupError("boom")

@rest.get("/handled")
async def handled():
    raise ValueError("handled")

@app.exception_handler(ValueError)
async def answer(request, error):
    return PlainTextResponse("handled", 400)

@rest.get("/unavailable")
def unavailable():
    raise fastapi.HTTPException(503)

@rest.get("/stream")
def stream():
    return StreamingResponse(iter([b"a", b"b"]))

@app.get("/")
def root():
    return "ok"

for each in (app, v2):
    each.include_router(rest)
    each.include_router(items, prefix="/items")
app.mount("/v2", v2)
"""

QUART: Final = """
import quart

app = quart.Quart("app")
shop = quart.Blueprint("shop", "shop", url_prefix="/items")

@app.get("/")
async def root():
    return "ok"

@shop.get("/<int:number>")
async def item(number):
    return str(number)

@app.get("/gone")
async def gone():
    quart.abort(404)

@app.get("/boom")
async def boom():
    raise LookupError("boom")

@app.get("/handled")
async def handled():
    raise ValueError("handled")

@app.errorhandler(ValueError)
async def answer(error):
    return "handled", 400

@app.get("/unavailable")
async def unavailable():
    return "", 503

@app.get("/stream")
async def stream():
    async def parts():
        yield b"a"
        yield b"b"
    return parts()

app.register_blueprint(shop)
"""

LITESTAR: Final = """
from litestar import Litestar, Request, Response, Router, get
from litestar.exceptions import HTTPException
from litestar.response import Stream

class Handled(Exception):
    pass

def raises(path, error):
    @get(path)
    async def handler() -> None:
        raise error
    return handler

@get("/")
async def root() -> str:
    return "ok"

@get("/items/{number:int}")
async def item(request: Request) -> str:
    return str(request.path_params["number"])

@get("/stream")
async def stream() -> Stream:
    return Stream(iter([b"a", b"b"]))

def answer(request: Request, error: Exception) -> Response:
    return Response("handled", status_code=400)

handlers = [
    root,
    item,
    raises("/gone", HTTPException(status_code=404)),
    raises("/boom", LookupError("boom")),
    raises("/handled", Handled()),
    raises("/unavailable", HTTPException(status_code=503)),
    stream,
]
app = Litestar([*handlers, Router("/v2", route_handlers=handlers)], exception_handlers={Handled: answer})
"""
