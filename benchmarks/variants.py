"""What is measured beside each other: bare gunicorn, these hooks, and other exporters, set up as their docs have it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

BARE, EMPTY, HOOKS, RECIPE, STATSD = "bare", "empty hooks", "gunicorn-prom-hooks", "recipe", "statsd"
EXPORTER = "gunicorn-prometheus-exporter"
FLASK_EXPORTER = "prometheus_flask_exporter"
STARLETTE_EXPORTER = "starlette_exporter"
INSTRUMENTATOR = "prometheus-fastapi-instrumentator"

INSTALL = """
from gunicorn_prom_hooks import install
install(globals(), port=METRICS_PORT)
"""
EMPTY_HOOKS = """
def pre_request(worker, req):
    pass

def post_request(worker, req, environ, resp):
    pass
"""
RECIPE_HOOKS = """
from benchmarks.recipe import child_exit, post_request, pre_request, when_ready
"""
RECIPE_PAGE = """
from benchmarks.recipe import child_exit, when_ready
"""
EXPORTER_HOOKS = """
from gunicorn_prometheus_exporter.hooks import (
    default_on_exit as on_exit,
    default_on_starting as on_starting,
    default_post_fork as post_fork,
    default_when_ready as when_ready,
    default_worker_int as worker_int,
)
worker_class = "gunicorn_prometheus_exporter.EXPORTER_CLASS"
"""
MARK_DEAD = """
def child_exit(server, worker):
    from prometheus_client import multiprocess
    multiprocess.mark_process_dead(worker.pid)
"""


@dataclass(frozen=True)
class Variant:
    """One way of measuring a server.

    Attributes:
        name: of what measures.
        config: lines for the config file. METRICS_PORT and STATSD_PORT in it become the numbers.
        app: name of the application's module in ``benchmarks/applications``.
        counter: the sample that counts its requests; none: nothing counts.
        has_files: whether it uses prometheus_client's multiprocess mode.
        environ: more of the environment.
    """

    name: str
    config: str = ""
    app: str = ""
    counter: str = ""
    has_files: bool = False
    environ: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Group:
    """Variants on the same application and gunicorn. The first one is bare: the others are compared to it.

    Attributes:
        name: of application and gunicorn.
        app: name of the application's module in ``benchmarks/applications``.
        variants: of the group.
        is_gunicorn_23: whether it runs with gunicorn 23.
    """

    name: str
    app: str
    variants: tuple[Variant, ...]
    is_gunicorn_23: bool = False


@dataclass(frozen=True)
class Worker:
    """A kind of worker.

    Attributes:
        name: as gunicorn has it.
        config: lines of the config file that make it that kind.
        groups: that are measured with it.
    """

    name: str
    config: str
    groups: tuple[Group, ...]


PLAIN, ON_23, FLASK, FASTAPI = "no framework", "no framework, gunicorn 23", "Flask", "FastAPI"
NOTHING = Variant(BARE)
OURS = Variant(HOOKS, INSTALL, counter="gunicorn_requests_total")
NO_HOOKS = Variant(EMPTY, EMPTY_HOOKS)
BY_HAND = Variant(
    RECIPE,
    RECIPE_HOOKS,
    counter="recipe_requests_total",
    has_files=True,
    environ={"RECIPE_PORT": "METRICS_PORT"},
)
BY_HAND_ASGI = Variant(
    RECIPE,
    RECIPE_PAGE,
    app="recipe_asgi",
    counter="recipe_requests_total",
    has_files=True,
    environ={"RECIPE_PORT": "METRICS_PORT"},
)
BY_STATSD = Variant(STATSD, "statsd_host = '127.0.0.1:STATSD_PORT'\n")


def on_gunicorn_23(exporter_class: str) -> Group:
    """Return the group with gunicorn-prometheus-exporter, which has a worker class of its own for each kind."""
    exporter = Variant(
        EXPORTER,
        EXPORTER_HOOKS.replace("EXPORTER_CLASS", exporter_class),
        counter="gunicorn_worker_requests_total",
        has_files=True,
        environ={
            "PROMETHEUS_METRICS_PORT": "METRICS_PORT",
            "PROMETHEUS_BIND_ADDRESS": "127.0.0.1",
            "GUNICORN_WORKERS": "1",
        },
    )
    return Group(ON_23, "plain_wsgi", (NOTHING, OURS, exporter), is_gunicorn_23=True)


WSGI = Group(PLAIN, "plain_wsgi", (NOTHING, NO_HOOKS, OURS, BY_HAND, BY_STATSD))
ON_FLASK = Group(
    FLASK,
    "flask_plain",
    (
        NOTHING,
        OURS,
        Variant(FLASK_EXPORTER, MARK_DEAD, "flask_exporter", "flask_http_request_total", has_files=True),
    ),
)
NATIVE = Group(PLAIN, "plain_asgi", (NOTHING, NO_HOOKS, OURS, BY_HAND_ASGI))
UVICORN = Group(PLAIN, "plain_asgi", (NOTHING, OURS, BY_HAND_ASGI))
ON_FASTAPI = Group(
    FASTAPI,
    "fastapi_plain",
    (
        NOTHING,
        OURS,
        Variant(
            STARLETTE_EXPORTER, MARK_DEAD, "fastapi_starlette_exporter", "starlette_requests_total", has_files=True
        ),
        Variant(INSTRUMENTATOR, MARK_DEAD, "fastapi_instrumentator", "http_requests_total", has_files=True),
    ),
)
WORKERS = (
    Worker("sync", "", (WSGI, on_gunicorn_23("PrometheusWorker"), ON_FLASK)),
    Worker("gthread", "threads = 4\n", (WSGI, on_gunicorn_23("PrometheusThreadWorker"), ON_FLASK)),
    Worker("gevent", "worker_class = 'gevent'\n", (WSGI, on_gunicorn_23("PrometheusGeventWorker"), ON_FLASK)),
    Worker("asgi", "worker_class = 'asgi'\n", (NATIVE, ON_FASTAPI)),
    Worker("uvicorn", "worker_class = 'uvicorn_worker.UvicornWorker'\n", (UVICORN, ON_FASTAPI)),
)
