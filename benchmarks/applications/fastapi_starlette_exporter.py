"""The FastAPI application with starlette_exporter, as its documentation has it for several workers."""

from starlette_exporter import PrometheusMiddleware, handle_metrics

from benchmarks.applications.fastapi_plain import app

app.add_middleware(PrometheusMiddleware)
app.add_route("/metrics", handle_metrics)
