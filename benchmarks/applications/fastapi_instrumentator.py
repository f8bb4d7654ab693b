"""The FastAPI application with prometheus-fastapi-instrumentator, as its documentation has it."""

from prometheus_fastapi_instrumentator import Instrumentator

from benchmarks.applications.fastapi_plain import app

Instrumentator().instrument(app).expose(app)
