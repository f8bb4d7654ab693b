"""A Flask application with converters, a mounted application and a redirecting route."""

from __future__ import annotations

from flask import Flask, abort
from werkzeug.middleware.dispatcher import DispatcherMiddleware

app = Flask(__name__)
mounted = Flask("mounted")
app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/v2": mounted.wsgi_app})  # type: ignore[method-assign]


@mounted.get("/items/<int:number>")
def newer(number):
    return str(number)


@app.get("/dir/<name>/")
def folder(name):
    return name


@app.get("/")
def home():
    return "home"


@app.get("/items/<int:number>")
def item(number):
    if number == 13:
        abort(404)
    return str(number)


@app.get("/users/<name>/posts")
def posts(name):
    raise ValueError(name)
