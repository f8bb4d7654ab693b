"""The application of the framework tests, in Quart."""

from __future__ import annotations

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
