"""What the documentation says is so."""

from __future__ import annotations

import re
import time
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path

import pytest
from gunicorn.config import Config
from websockets.sync.client import connect

from gunicorn_prom_hooks import Settings
from tests.helpers.places import APPLICATIONS, TOP
from tests.helpers.prometheus import prometheus, promql
from tests.helpers.servers import eventually, unused_port
from tests.helpers.worker_exits import hanging
from tests.integration.conftest import APP, CONFIG, Serve
from tests.integration.test_asgi import ECHO
from tests.integration.test_registry_page import full_page

HAS_DIRTY_WORKERS = "dirty_workers" in Config().settings
DIRTY = "dirty_workers = 1\ndirty_apps = ['app:Idle']\nproc_name = 'docs-PORT'\ngraceful_timeout = 3\n"
OF_ALL_SERVERS = (
    "sum(gunicorn_listener_backlog) > 0 or sum(gunicorn_listener_waiting_connections) > 0",
    'sum({__name__=~"gunicorn_listener_backlog|gunicorn_listener_waiting_connections"})',
)
"""The two queries that have no result per server."""
ASGI = APPLICATIONS / "default_asgi.py"
DIRTY_APP = APPLICATIONS / "default_with_dirty.py"


def documented() -> dict[str, tuple[str, frozenset[str]]]:
    """Type and labels by name, as docs/metrics.md has them."""
    found = {}
    for line in (TOP / "docs" / "metrics.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `") and len(cells) == 4:
            labels = frozenset(label.strip() for label in cells[2].split(",") if label.strip())
            for name in re.findall(r"`(\w+)`", cells[0]):
                found[name] = cells[1], labels
    return found


def test_metrics_reference_equals_the_families_of_a_full_page(serve: Serve) -> None:
    """The tables in docs/metrics.md are exactly what a full page has: names, types and labels."""
    server = serve(
        "def endpoint(environ): raise ValueError\ninstall(globals(), port=METRICS_PORT, endpoint=endpoint)\n"
        + (DIRTY if HAS_DIRTY_WORKERS else ""),
        app=DIRTY_APP if HAS_DIRTY_WORKERS else APP,
    )
    websockets = serve("worker_class = 'asgi'\n", app=ECHO)
    with connect(f"ws://127.0.0.1:{websockets.port}/"):
        eventually(lambda: websockets.scrape().sum("gunicorn_websockets_in_progress") == 1, "a websocket is open")
        asgi = websockets.scrape()
    exposed = {}
    of_asgi = [family for family in asgi.families if "websockets" in family.name or "event_loop" in family.name]
    for family in (*full_page(server).families, *of_asgi):
        labels = {label for sample in family.samples for label in sample.labels}
        exposed[family.name] = family.type, frozenset(labels - {"le"})
    if not HAS_DIRTY_WORKERS:
        exposed |= {name: kind for name, kind in documented().items() if name.startswith("gunicorn_dirty_")}
    assert exposed == documented()


def test_settings_table_names_every_setting_in_order() -> None:
    """The table of docs/settings.md names every setting, and no other."""
    table = re.findall(r"^\| `(\w+)` \|", (TOP / "docs" / "settings.md").read_text(), re.MULTILINE)
    assert table == [field.name for field in fields(Settings)]


def python_snippets(*, configs: bool) -> list[str]:
    """The Python in the documentation: configs of gunicorn, or parts of an application."""
    pages = [TOP / "README.md", TOP / "SECURITY.md", *(TOP / "docs").glob("*.md")]
    found = [snippet for page in pages for snippet in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)]
    # What needs certificates is in test_security.py.
    return [snippet for snippet in found if ("install(" in snippet) == configs and "certfile=" not in snippet]


@pytest.mark.parametrize("snippet", python_snippets(configs=False))
def test_metrics_of_documented_applications_are_on_the_page(serve: Serve, snippet: str) -> None:
    """Metrics that the documentation has an application make are on the page; with labels, once they are used."""
    made = re.findall(r'= (?:Counter|Histogram)\("(\w+)", "[^"]*"\)', snippet)
    assert made
    families = {family.name for family in eventually(serve(app=APP.read_text() + snippet).scrape, "the page").families}
    assert set(made) <= families


def shown(snippet: str) -> str:
    """The endpoint of /shop/1 with this config."""
    return next((endpoint for endpoint in ("/shop", "<hidden>") if f'"{endpoint}"' in snippet), "/shop/:id")


@pytest.mark.parametrize("snippet", python_snippets(configs=True))
def test_documented_configs_serve_metrics(serve: Serve, snippet: str) -> None:
    """Every config file in the documentation makes a server with metrics, at the port that it says."""
    port = unused_port()
    config = "bind = '127.0.0.1:PORT'\ncontrol_socket_disable = True\n" + snippet
    server = serve(
        config=config.replace("port=9091", f"port={port}"),
        environ={"PROMETHEUS_METRICS_PORT": str(port)},
        metrics_port=port,
    )
    server.get("/shop/1")
    samples = server.settled(2)
    assert samples.one("gunicorn_requests_total", endpoint=shown(snippet)) == (2 if "<hidden>" in snippet else 1)


@pytest.mark.parametrize("name", ["gunicorn.conf.py", "gunicorn_production.conf.py"])
def test_sample_configs_serve_metrics_of_the_sample_application(serve: Serve, name: str) -> None:
    """The sample configs work as they are, with the sample application; only the ports are changed."""
    port = unused_port()
    text = (TOP / "sample_configs" / name).read_text()
    server = serve(
        config=text.replace("port=9091", f"port={port}") + "\nbind = '127.0.0.1:PORT'\ncontrol_socket_disable = True\n",
        app=TOP / "sample_configs" / "demo_app.py",
        environ={"PROMETHEUS_METRICS_PORT": str(port), "WEB_CONCURRENCY": "2"},
        metrics_port=port,
    )
    for path, status in {"/items/7": 200, "/slow": 200, "/fail": 500, "/unavailable": 503, "/stream": 200}.items():
        assert server.get(path).status_code == status
    samples = server.settled(6)
    assert samples.one("gunicorn_failed_requests_total", endpoint="/fail", error_type="RuntimeError") == 1
    assert samples.one("gunicorn_request_duration_seconds_sum", endpoint="/stream") >= 0.5
    assert samples.sum("gunicorn_exporter_errors_total") == 0


def of_instance(query: str, instance: str) -> str:
    """Return the query for one server: each of its selectors has the label ``instance``."""
    matcher = f'instance="{instance}"'
    query = query.partition("  #")[0].replace("{__name__", f"{{{matcher},__name__")
    selector = r"(?<![\w|\"])((?:gunicorn|process)_\w+|up\b)(?:\{([^}]*)\})?"
    return re.sub(selector, lambda found: f"{found[1]}{{{matcher},{found[2] or ''}}}", query)


@pytest.mark.needs("prometheus")
def test_documented_queries_keep_servers_apart_whose_workers_have_the_same_names(serve: Serve, tmp_path: Path) -> None:
    """Every query in the documentation works with two servers of different classes, and says of each what it says of
    it alone."""
    config = (
        CONFIG.replace("METRICS_PORT)", "METRICS_PORT, worker_label='slot')") + "workers = 2\ngraceful_timeout = 1\n"
    )
    servers = {
        "gthread": serve("worker_class = 'gthread'\nthreads = 2\n", config=config),
        "asgi": serve("worker_class = 'asgi'\n", config=config, app=ASGI),
    }
    known = set(documented())
    queries = promql()
    assert len(queries) >= 40
    for query in queries:
        for name in re.findall(r"\b(?:gunicorn|process)_\w+", query):
            assert re.sub(r"_(total|bucket|sum|count)$", "", name) in known, (name, query)
    with prometheus(tmp_path / "prometheus", servers) as monitor, ExitStack() as stack:
        full_page(servers["gthread"])
        for path in ("/", "/boom", "/boom"):
            servers["asgi"].get(path)
        for server in servers.values():
            stack.enter_context(hanging(server, "/sleep/60"))
        hang = "gunicorn_worker_oldest_request_seconds > 0"
        eventually(lambda: set(monitor.ask(hang)) == set(servers), "a request hangs in each server")
        at = time.time()
        # What is scraped while two queries are asked is then later than both.
        two = "count_over_time(gunicorn_request_queue_seconds_count[1m]) > 1"
        eventually(lambda: monitor.results(two, time.time() - 2), "two scrapes have the page, two seconds ago")
        at = time.time() - 2
        for server in servers.values():
            found = monitor.results(f'gunicorn_worker_info{{instance="127.0.0.1:{server.metrics_port}"}}', at)
            assert sorted(labels["worker_id"] for labels, _ in found) == ["worker_0", "worker_1"]
        for query in [query.replace("> 30", "> 0") for query in queries if query not in OF_ALL_SERVERS]:
            found = monitor.results(query, at)
            alone = [
                result for instance in monitor.names for result in monitor.results(of_instance(query, instance), at)
            ]
            # What compares has no result as long as all is well.
            assert found or re.search(r"[<>]|==", query), query
            assert all(labels["instance"] in monitor.names for labels, _ in found), query
            if query.startswith("topk("):
                assert all(result in alone for result in found), query
            else:
                assert sorted(map(str, found)) == sorted(map(str, alone)), query


def test_linked_files_of_the_documentation_exist() -> None:
    """Every file that the documentation links to is there."""
    for page in [*TOP.glob("*.md"), *(TOP / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), (page.name, target)
