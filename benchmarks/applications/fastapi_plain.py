"""A FastAPI application."""

from fastapi import FastAPI

app = FastAPI()


@app.get("/")
@app.get("/items/{number}")
async def item(number: int = 0):
    return {"number": number}
