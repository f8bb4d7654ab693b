"""docs/migrating.md: another exporter and this one in the same server, asked by the page's queries, say the same."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.helpers.migrating import Found, config, of_instance, rows, section, statsd, values
from tests.helpers.places import APPLICATIONS, TOP
from tests.helpers.prometheus import Prometheus, prometheus, shortened
from tests.helpers.servers import Server, eventually, unused_port
from tests.helpers.worker_exits import hanging
from tests.integration.conftest import APP, Serve, missing

pytestmark = pytest.mark.slow

START = 'bind = "127.0.0.1:PORT"\ncontrol_socket_disable = True\ngraceful_timeout = 1\n'
PATHS = ("/items/1", "/items/2", "/items/3", "/boom", "/unavailable", "/missing", "/slow", "/slow")
OFTEN = {"scrape_interval": "1s", "scrape_timeout": "1s"}
UVICORN = "worker_class = 'uvicorn_worker.UvicornWorker'\n"


def beside(title: str, settings: str = "") -> str:
    """The config of that section: the old lines and the new ones."""
    text = config(title)
    assert text.count("install(globals()") == 1
    return START + text.replace("install(globals()", f"install(globals(), port=METRICS_PORT{settings}")


def names(server: Server) -> set[str]:
    """The names of all samples on our page."""
    return {name for name, _ in server.scrape().values}


def compare(title: str, monitor: Prometheus, before: str, after: str, known: set[str], *, same_names: bool) -> None:
    """Both queries of each row have the same results, and some are not zero."""
    for old, new in rows(title):
        old = old.strip("`")  # noqa: PLW2901 - the cell, as code

        def agrees(old: str = old, new: str = new) -> Found | None:
            expected = values(monitor, of_instance(old, before, known))
            found = values(monitor, of_instance(new, after, known))
            assert found == pytest.approx(expected, rel=1e-9), (old, expected, new, found)
            if not same_names:
                there = values(monitor, of_instance(old, after, known))
                assert there == pytest.approx(expected, rel=1e-9), old
            return found if any(found.values()) else None

        eventually(agrees, old)


@pytest.mark.needs("prometheus")
def test_statsd_names_sent_by_gunicorn_have_the_values_of_their_queries(serve: Serve, tmp_path: Path) -> None:
    """What gunicorn sends to a statsd server is what the queries of the page give."""
    with statsd() as (port, received), ExitStack() as stack:
        text = beside("--statsd-host").replace("127.0.0.1:8125", f"127.0.0.1:{port}")
        server = serve(config=text.replace("shop", "") + "enable_backlog_metric = True\n", app=APP)
        for path in ("/sleep/0.3", "/sleep/0.3", "/sleep/0.3", "/503", "/missing", "/boom"):
            server.get(path)
        server.send(b"GARBAGE\r\n\r\n")
        stack.enter_context(hanging(server, "/sleep/60"))
        eventually(lambda: server.scrape().sum("gunicorn_requests_in_progress") == 1, "the worker is busy")
        for _ in range(3):
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
        with prometheus(tmp_path / "prometheus", {"after": server}, more=OFTEN) as monitor:
            for old, new in rows("--statsd-host"):

                def agrees(old: str = old, new: str = new) -> bool:
                    [(_, value)] = monitor.results(new)
                    tolerance = 0.05 if old.startswith("sum of") else 0
                    assert float(value) == pytest.approx(received.value(old), rel=tolerance), (old, new)
                    return True

                eventually(agrees, old)
    assert received.counters["gunicorn.requests"] >= 7
    assert received.timers["gunicorn.backlog"][-1] == 3
    assert received.counters["gunicorn.log.exception"] == received.counters["gunicorn.log.warning"] == 1


@pytest.mark.needs("prometheus")
def test_recipe_metrics_after_a_worker_exit_are_the_same_at_both_endpoints(serve: Serve, tmp_path: Path) -> None:
    """The application's metrics are the same at the recipe's endpoint and on the page, also after a worker's exit."""
    directory = tmp_path / "metrics"
    directory.mkdir()
    server = serve(
        config=beside("recipe") + "workers = 2\n",
        app=APPLICATIONS / "migrating_recipe.py",
        environ={"PROMETHEUS_MULTIPROC_DIR": str(directory)},
    )
    server.wait_for_workers(2)
    for amount in range(1, 9):
        server.get(f"/order/{amount}")
    worker = server.workers()[0]
    worker.kill()
    eventually(lambda: worker not in server.workers(), "it is gone")
    server.wait_for_workers(2)
    for amount in range(5):
        server.get(f"/order/{amount}")
    before, after = f"127.0.0.1:{server.port}", f"127.0.0.1:{server.metrics_port}"
    with prometheus(tmp_path / "prometheus", {"before": before, "after": server}, more=OFTEN) as monitor:
        compare("recipe", monitor, before, after, names(server), same_names=True)


@pytest.mark.needs("prometheus")
@pytest.mark.parametrize(
    ("title", "application", "settings", "more"),
    [
        pytest.param(*case, id=case[1], marks=pytest.mark.needs_module(module))
        for module, *case in (
            ("prometheus_flask_exporter", "prometheus_flask_exporter", "flask", ", exclude='/metrics'", ""),
            ("django_prometheus", "django-prometheus", "django", ", exclude='/metrics'", ""),
            ("starlette_exporter", "starlette_exporter", "starlette", "", UVICORN),
            ("prometheus_fastapi_instrumentator", "prometheus-fastapi-instrumentator", "fastapi", "", UVICORN),
        )
    ],
)
def test_queries_with_a_library_in_the_same_server_give_the_same_before_and_after(
    serve: Serve, tmp_path: Path, title: str, application: str, settings: str, more: str
) -> None:
    """Each row's queries give the same at the library's endpoint and on our page, and so does the old one there."""
    directory = tmp_path / "metrics"
    directory.mkdir()
    server = serve(
        config=beside(title, settings) + "workers = 2\n" + more,
        app=APPLICATIONS / f"migrating_{application}.py",
        environ={"PROMETHEUS_MULTIPROC_DIR": str(directory)},
    )
    server.wait_for_workers(2)
    for path in PATHS:
        server.get(path)
    if application != "flask":
        server.get("/query")
    server.post("/items/4", b"x" * 2000)
    hang = ("/hang",) if more == UVICORN else ()
    before, after = f"127.0.0.1:{server.port}", f"127.0.0.1:{server.metrics_port}"
    targets: dict[str, Server | str] = {"before": before, "after": server}
    with hanging(server, *hang), prometheus(tmp_path / "prometheus", targets, more=OFTEN) as monitor:
        compare(title, monitor, before, after, names(server), same_names=False)


@pytest.fixture
def with_gunicorn_23(tmp_path: Path) -> str:
    """A path for imports, with gunicorn-prometheus-exporter and the newest gunicorn that it runs with."""
    packages = ("gunicorn==23.0.0", "gunicorn-prometheus-exporter==0.2.4", "pyyaml>=6")
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(tmp_path / "packages")]
    try:
        subprocess.run([*command, *packages], check=True, capture_output=True, timeout=120)
    except (OSError, subprocess.SubprocessError) as error:
        missing(f"{' '.join(packages)}: {error}")
    return f"{tmp_path / 'packages'}{os.pathsep}{TOP}"


@pytest.mark.needs("prometheus")
def test_queries_with_gunicorn_prometheus_exporter_in_the_same_server_give_the_same_before_and_after(
    serve: Serve, tmp_path: Path, with_gunicorn_23: str
) -> None:
    """Each row's queries give the same at both ports. What the page says is different under one name is so."""
    port = unused_port()
    server = serve(
        config=beside("gunicorn-prometheus-exporter", ", app_metrics=False"),
        app=APP,
        environ={
            "PYTHONPATH": with_gunicorn_23,
            "PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "metrics"),
            "PROMETHEUS_METRICS_PORT": str(port),
            "PROMETHEUS_BIND_ADDRESS": "127.0.0.1",
            "GUNICORN_WORKERS": "1",
        },
    )
    server.signal(signal.SIGHUP)
    eventually(lambda: server.scrape().sum("gunicorn_worker_exits_total") == 1, "the worker is replaced")
    server.wait_for_workers(1)
    server.workers()[0].kill()
    eventually(lambda: server.scrape().sum("gunicorn_worker_exits_total") == 2, "it has ended")
    server.wait_for_workers(1)
    for path in ("/", "/boom", "/boom", "/503", "/sleep/0.2", "/sleep/0.2"):
        server.get(path)
    server.send(b"GARBAGE\r\n\r\n")
    before, after = f"127.0.0.1:{port}", f"127.0.0.1:{server.metrics_port}"
    targets: dict[str, Server | str] = {"before": before, "after": server}
    with prometheus(tmp_path / "prometheus", targets, more=OFTEN) as monitor:
        compare("gunicorn-prometheus-exporter", monitor, before, after, names(server), same_names=True)
        [query] = re.findall(r"```promql\n(.*)\n```", section("gunicorn-prometheus-exporter"))
        assert {labels["status"] for labels, _ in monitor.results(shortened(query))} >= {"200", "500", "503"}
    samples = server.scrape()
    master, worker = samples.one("process_resident_memory_bytes"), samples.one("gunicorn_worker_memory_bytes")
    reported = max(values_of(server.page(port).text, "gunicorn_worker_memory_bytes"))
    assert abs(reported - master) < abs(reported - worker), "it is the master's"
    assert len(values_of(server.page(port).text, "gunicorn_worker_state")) > 1
    server.send(b"GET /late HTTP/1.1\r\nHost: x\r\n\r\n")
    eventually(lambda: "StopIteration" in server.page(port).text, "the other page has /late")
    failed = eventually(lambda: server.scrape().sum("gunicorn_failed_requests_total", error_type="KeyError"), "/late")
    assert failed == 1


def values_of(page: str, name: str) -> list[float]:
    """The values of a metric on a page that has samples twice."""
    return [float(line.rpartition(" ")[2]) for line in set(page.splitlines()) if line.startswith(f"{name}{{")]
