"""The application of the framework tests, in FastAPI."""

from __future__ import annotations

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
