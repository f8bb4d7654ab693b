"""A realistic gunicorn.conf.py: copy it, then change what the comments ask about.

Start it with:  gunicorn --config gunicorn_production.conf.py
"""

import multiprocessing
import os

from gunicorn_prom_hooks import install

# --- What it serves: an application or a name on the command line takes precedence ------------------------------------
wsgi_app = "shop.wsgi:application"
proc_name = "shop"  # the label app of gunicorn_build_info

# --- Where it listens -------------------------------------------------------------------------------------------------
bind = os.environ.get("BIND", "127.0.0.1:8000")
backlog = 512  # a longer queue only hides that the server is full

# --- How much it can do at once ---------------------------------------------------------------------------------------
workers = int(os.environ.get("WEB_CONCURRENCY", multiprocessing.cpu_count() * 2))
worker_class = "gthread"
threads = 4

# --- When a worker is replaced ----------------------------------------------------------------------------------------
timeout = 30  # shows as gunicorn_master_worker_restart_total{reason="timeout"}; the stacks are in the error log
graceful_timeout = 30
max_requests = 10_000  # against slow leaks; shows as reason="restart"
max_requests_jitter = 1_000  # so that not all of them go at once

# --- Logs -------------------------------------------------------------------------------------------------------------
accesslog = None  # requests by endpoint and status are in the metrics
errorlog = "-"
loglevel = os.environ.get("LOG_LEVEL", "info")


# --- Your own hooks: they run as without the install line. -----------------------------------------------------------
def post_fork(server, worker):
    server.log.info("worker %s is starting", worker.pid)


def worker_abort(worker):
    worker.log.error("worker %s ran into the timeout", worker.pid)


# --- Metrics ----------------------------------------------------------------------------------------------------------
# Prometheus on another machine? Then bind an address that it can reach, and ask for a token, over TLS (SECURITY.md):
#   address="10.0.0.5", certfile="/etc/gunicorn/metrics.pem"    and PROMETHEUS_METRICS_TOKEN in the environment
# Rather the same few worker_id values for ever than one per worker?  worker_label="slot"
os.environ.setdefault("PROMETHEUS_METRICS_PORT", "9091")
install(globals())
