"""What the documentation says is so."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest
import requests
from gunicorn.config import Config
from websockets.sync.client import connect

from gunicorn_prom_hooks import Settings
from tests.helpers.places import APPLICATIONS, TOP
from tests.helpers.servers import eventually, running, unused_port
from tests.integration.conftest import APP, Serve
from tests.integration.test_asgi import ECHO
from tests.integration.test_registry_page import full_page

HAS_DIRTY_WORKERS = "dirty_workers" in Config().settings
DIRTY = "dirty_workers = 1\ndirty_apps = ['app:Idle']\nproc_name = 'docs-PORT'\ngraceful_timeout = 3\n"
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


def promql() -> list[str]:
    """Every query in the documentation."""
    pages = [TOP / "README.md", *(TOP / "docs").glob("*.md")]
    blocks = [block for page in pages for block in re.findall(r"```promql\n(.*?)```", page.read_text(), re.DOTALL)]
    inline = [query for page in pages for query in re.findall(r"`(histogram_quantile\([^`]*)`", page.read_text())]
    return [line for block in blocks for line in block.splitlines()] + inline


@pytest.mark.needs("prometheus")
def test_documented_queries_have_results_in_prometheus(serve: Serve, tmp_path: Path) -> None:
    """Prometheus takes the README's config, and every query in the documentation has an answer on a real page."""
    server = serve("workers = 2\n")
    full_page(server)
    [config] = re.findall(r"```yaml\n(.*?)```", (TOP / "README.md").read_text(), re.DOTALL)
    config = "global: {scrape_interval: 1s}\n" + config.replace("127.0.0.1:9091", f"127.0.0.1:{server.metrics_port}")
    (tmp_path / "prometheus.yml").write_text(config)
    port = unused_port()
    command = ["prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=data"]
    command.append(f"--web.listen-address=127.0.0.1:{port}")
    known = set(documented())
    queries = promql()
    assert len(queries) >= 25
    for query in queries:
        for name in re.findall(r"\b(?:gunicorn|process)_\w+", query):
            assert re.sub(r"_(total|bucket|sum|count)$", "", name) in known, (name, query)
    # What asks for event loops alone is asked where there are some, in test_how_full.py.
    queries = [query for query in queries if "event_loop" not in query or "gunicorn_requests_capacity" in query]
    with running(command, tmp_path, tmp_path / "log"):
        url = f"http://127.0.0.1:{port}"

        def ask(query: str) -> list[object]:
            answer = requests.get(f"{url}/api/v1/query", params={"query": query}, timeout=10).json()
            assert answer["status"] == "success", (query, answer)
            return list(answer["data"]["result"])

        eventually(lambda: ask("rate(gunicorn_worker_busy_seconds_total[1m])"), "Prometheus has scraped twice")
        for query in queries:
            result = ask(query)
            # What compares, or asks for clients that left, has no answer as long as all is well.
            assert result or re.search(r"[<>]|499", query), query


def test_linked_files_of_the_documentation_exist() -> None:
    """Every file that the documentation links to is there."""
    for page in [*TOP.glob("*.md"), *(TOP / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), (page.name, target)
