"""An application that counts the lines of the log, and one that names a directory of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.app_metrics_server import when
from tests.helpers.servers import eventually
from tests.integration.conftest import CONFIG, Serve

LINES = """
import logging
from prometheus_client import Counter
LINES = Counter("shop_log_lines", "Lines.", ["level"])


class Handler(logging.Handler):
    def emit(self, record):
        LINES.labels(record.levelname).inc()


logging.getLogger("gunicorn.error").addHandler(Handler())
"""
APP = """
from prometheus_client import CollectorRegistry, generate_latest, multiprocess


def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/log":
        logging.getLogger("gunicorn.error").warning("hello")
        body = str(LINES.labels("WARNING")._value.get())
    else:
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)
        body = generate_latest(registry).decode()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [body.encode()]
"""
NAMED = "the application names {path} for its metrics after gunicorn has started"


@pytest.mark.parametrize("preload", ["", "preload_app = True\n"])
@pytest.mark.parametrize("announced", [False, True])
def test_directory_that_the_application_names_is_used_and_logged(
    serve: Serve, tmp_path: Path, announced: bool, preload: str
) -> None:
    """The application's own endpoint has its metrics, also where it counts our line with a labeled counter."""
    path = tmp_path / "own"
    path.mkdir()
    names = f"import os\nos.environ['PROMETHEUS_MULTIPROC_DIR'] = {str(path)!r}\n"
    environ = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "named")} if announced else {}
    server = serve(preload + "workers = 1\ntimeout = 5\n", app=names + LINES + APP, environ=environ)
    for _ in range(3):
        assert server.get("/log").ok
    assert 'shop_log_lines_total{level="WARNING"}' in server.get("/own").text
    assert {file.parent for file in tmp_path.glob("*/counter_*.db")} == {path}
    line = NAMED.format(path=path)

    def logged() -> bool:
        server.scrape()
        return server.log.count(line) == 1

    eventually(logged, "it is logged once")


def test_failure_is_counted_and_logged_where_the_application_counts_the_lines_of_the_log(serve: Serve) -> None:
    """A metric without a file is no reason to wait for a lock that the same thread has, and the failure is told."""
    breaks = """
from gunicorn_prom_hooks.app_metrics.recording import blocks
real = blocks.os.posix_fallocate


def fails(*args):
    raise OSError(28, "No space left on device")


blocks.os.posix_fallocate = fails
"""
    server = serve("workers = 1\ntimeout = 5\n", app=breaks + LINES + APP)
    for number in range(1, 4):
        assert float(server.get("/log").text) == number

    def told() -> bool:
        samples = server.scrape()
        assert samples.sum("gunicorn_exporter_errors_total", where="app_metrics") > 0
        return server.log.count("app_metrics failed; the server goes on") == 1

    eventually(told, "it is counted and logged")
    assert "No space left on device" in server.log


def test_relative_directory_is_below_that_of_chdir(serve: Serve, tmp_path: Path) -> None:
    """As without this package: gunicorn changes to that directory before it loads the application."""
    (tmp_path / "there").mkdir()
    config = f"chdir = {str(tmp_path / 'there')!r}\npythonpath = {str(tmp_path)!r}\nworkers = 1\n"
    server = serve(config=CONFIG + config, app=LINES + APP, environ={"PROMETHEUS_MULTIPROC_DIR": "metrics"})
    server.get("/log")
    when(server, "shop_log_lines_total", 1, level="WARNING")
    assert list((tmp_path / "there" / "metrics").glob("counter_*.db"))
