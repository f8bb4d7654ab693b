"""An application with prometheus_flask_exporter, as its documentation has it for gunicorn."""

from __future__ import annotations

import time

import flask
from prometheus_flask_exporter.multiprocess import GunicornInternalPrometheusMetrics

app = flask.Flask("app")
GunicornInternalPrometheusMetrics(app, group_by="url_rule")


@app.get("/")
def root():
    return "ok"


@app.route("/items/<int:number>", methods=["GET", "POST"])
def item(number):
    return f"{number}"


@app.get("/slow")
def slow():
    time.sleep(0.3)
    return "ok"


@app.get("/boom")
def boom():
    raise LookupError("boom")


@app.get("/unavailable")
def unavailable():
    return "", 503
