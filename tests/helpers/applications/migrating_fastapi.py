"""An application with prometheus-fastapi-instrumentator, as its documentation has it."""

from __future__ import annotations

import asyncio

import fastapi
from prometheus_fastapi_instrumentator import Instrumentator

app = fastapi.FastAPI()


@app.get("/")
def root():
    return "ok"


@app.get("/items/{number}")
async def item(number: int):
    return number


@app.post("/items/{number}")
async def change(number: int, request: fastapi.Request):
    return len(await request.body())


@app.get("/slow")
async def slow():
    await asyncio.sleep(0.3)
    return "ok"


@app.get("/hang")
async def hang():
    await asyncio.sleep(60)


@app.get("/boom")
async def boom():
    raise LookupError("boom")


@app.get("/unavailable")
def unavailable():
    raise fastapi.HTTPException(503)


Instrumentator(excluded_handlers=["/metrics"], should_instrument_requests_inprogress=True).instrument(app).expose(app)
