"""What the documentation says is so."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest
import requests
from conftest import Serve
from servers import eventually, running, unused_port
from test_page import full_page

from gunicorn_prom_hooks import Settings

TOP = Path(__file__).parents[2]


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


def test_metrics_reference(serve: Serve) -> None:
    """The tables in docs/metrics.md are exactly what a full page has: names, types and labels."""
    server = serve(
        "def endpoint(environ): raise ValueError\ninstall(globals(), port=METRICS_PORT, endpoint=endpoint)\n"
    )
    samples = full_page(server)
    exposed = {}
    for family in samples.families:
        labels = {label for sample in family.samples for label in sample.labels}
        exposed[family.name] = family.type, frozenset(labels - {"le"})
    assert exposed == documented()


def test_settings_table() -> None:
    """The README's table names every setting, and no other."""
    table = re.findall(r"^\| `(\w+)` \|", (TOP / "README.md").read_text(), re.MULTILINE)
    assert table == [field.name for field in fields(Settings)]


def python_snippets() -> list[str]:
    """The README's Python."""
    return re.findall(r"```python\n(.*?)```", (TOP / "README.md").read_text(), re.DOTALL)


@pytest.mark.parametrize("snippet", python_snippets())
def test_readme_configs(serve: Serve, snippet: str) -> None:
    """Every config file in the README makes a server with metrics, at the port that the README says."""
    port = unused_port()
    config = "bind = '127.0.0.1:PORT'\ncontrol_socket_disable = True\n" + snippet
    server = serve(
        config=config.replace("port=9091", f"port={port}"),
        environ={"PROMETHEUS_METRICS_PORT": str(port)},
        metrics_port=port,
    )
    server.get("/shop/1")
    samples = server.settled(2)
    assert samples.one("gunicorn_requests_total", endpoint="/shop" if "/shop" in snippet else "/shop/:id") == 1


@pytest.mark.parametrize("name", ["gunicorn.conf.py", "gunicorn_production.conf.py"])
def test_sample_configs(serve: Serve, name: str) -> None:
    """The sample configs work as they are, with the sample application; only the ports are ours."""
    port = unused_port()
    text = (TOP / "sample_configs" / name).read_text()
    server = serve(
        config=text.replace("port=9091", f"port={port}") + "\nbind = '127.0.0.1:PORT'\ncontrol_socket_disable = True\n",
        app=(TOP / "sample_configs" / "demo_app.py").read_text(),
        environ={"PROMETHEUS_METRICS_PORT": str(port), "WEB_CONCURRENCY": "2"},
        metrics_port=port,
    )
    for path, status in {"/items/7": 200, "/slow": 200, "/fail": 500, "/unavailable": 503, "/stream": 200}.items():
        assert server.get(path).status_code == status
    samples = server.settled(6)
    assert samples.one("gunicorn_failed_requests_total", endpoint="/fail", error_type="RuntimeError") == 1
    assert samples.one("gunicorn_request_duration_seconds_sum", endpoint="/stream") >= 0.5
    assert samples.sum("gunicorn_exporter_errors_total") == 0


@pytest.mark.needs("prometheus")
def test_readme_queries(serve: Serve, tmp_path: Path) -> None:
    """Every PromQL query in the README is one, and Prometheus takes the README's configuration."""
    readme = (TOP / "README.md").read_text()
    [config] = re.findall(r"```yaml\n(.*?)```", readme, re.DOTALL)
    (tmp_path / "prometheus.yml").write_text(config.replace("127.0.0.1:9091", "127.0.0.1:9"))
    port = unused_port()
    command = ["prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=data"]
    command.append(f"--web.listen-address=127.0.0.1:{port}")
    queries = [line for block in re.findall(r"```promql\n(.*?)```", readme, re.DOTALL) for line in block.splitlines()]
    assert len(queries) >= 5
    with running(command, tmp_path, tmp_path / "log"):
        url = f"http://127.0.0.1:{port}"
        eventually(lambda: requests.get(f"{url}/-/ready", timeout=5).ok, "Prometheus is ready")
        for query in queries:
            answer = requests.get(f"{url}/api/v1/query", params={"query": query}, timeout=10).json()
            assert answer["status"] == "success", (query, answer)


def test_links() -> None:
    """Every file that the documentation links to is there."""
    for page in [*TOP.glob("*.md"), *(TOP / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), (page.name, target)
