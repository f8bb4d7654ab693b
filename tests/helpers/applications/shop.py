"""A shop with metrics of each type; some of its paths fork, start a program, or show where the metrics are."""

import os
import subprocess
import sys

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary, generate_latest, multiprocess

orders = Counter("shop_orders", "Orders.", ["kind"])
latency = Histogram("shop_latency_seconds", "Latency.", buckets=(0.1, 1.0))
size = Summary("shop_size_bytes", "Size.")
gauges = {
    mode: Gauge("shop_" + mode, "A gauge.", multiprocess_mode=mode)
    for mode in ("all", "liveall", "sum", "livesum", "min", "livemin", "max", "livemax", "mostrecent", "livemostrecent")
}


def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path.startswith("/order"):
        orders.labels('\u00fc\n"' if path == "/order/odd" else "plain").inc()
        latency.observe(0.5)
        size.observe(7)
    if path.startswith("/set/"):
        for gauge in gauges.values():
            gauge.set(float(path[5:]))
    if path == "/fork":
        pid = os.fork()
        if not pid:
            orders.labels("forked").inc(5)
            gauges["livesum"].set(1000)
            os._exit(0)
        os.waitpid(pid, 0)
    if path == "/helper":
        code = "from prometheus_client import Counter; Counter('shop_helped', 'Helped.').inc(3)"
        subprocess.run([sys.executable, "-c", code], check=True)
    if path == "/environ":
        body = os.environ.get("PROMETHEUS_MULTIPROC_DIR", "none").encode()
    elif path == "/directory":  # where this process has its files open
        files = [os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
        body = os.path.dirname(next((file for file in files if ".db" in file), "")).encode()
    elif path == "/own":
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)
        body = generate_latest(registry)
    else:
        body = str(os.getpid()).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
