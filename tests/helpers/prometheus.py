"""A real Prometheus that scrapes servers once per second, and the queries of the documentation for it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from tests.helpers.places import TOP
from tests.helpers.servers import Server, eventually, running, unused_port

SAMPLES = TOP / "sample_configs" / "prometheus"
RULES = SAMPLES / "gunicorn.rules.yml"
FLEET_RULES = SAMPLES / "fleet.rules.yml"
Labels = Mapping[str, str]


def promql() -> list[str]:
    """Return every query about each server in the documentation.

    Those of other exporters and their counterparts are on a page of their own, and so are those over all servers.
    """
    others = ("migrating.md", "scale.md")
    pages = [TOP / "README.md", *(page for page in (TOP / "docs").glob("*.md") if page.name not in others)]
    blocks = [block for page in pages for block in re.findall(r"```promql\n(.*?)```", page.read_text(), re.DOTALL)]
    inline = [query for page in pages for query in re.findall(r"`(histogram_quantile\([^`]*)`", page.read_text())]
    return [line for block in blocks for line in block.splitlines()] + inline


def shortened(text: str, seconds: int = 8) -> str:
    """Return the queries or rules with windows of this many seconds, and a step of one second in subqueries.

    So is the least age of a worker.
    """
    text = re.sub(r"\[\d+[smhd]\]", f"[{seconds}s]", text)
    text = re.sub(r"\[\d+[smhd]:\w*\]", f"[{seconds}s:1s]", text)
    text = re.sub(r"\b(gunicorn_worker_uptime_seconds) > \d+", rf"\1 > {seconds}", text)
    return re.sub(r"\boffset \d+[smhd]\b", f"offset {seconds}s", text)


def shortened_rules(seconds: int, hold: int = 0) -> str:
    """Return the sample rules with windows of this many seconds, with this ``for`` where there is one, each second."""
    text = re.sub(r"\bfor: \w+", f"for: {hold}s", shortened(RULES.read_text(), seconds))
    return re.sub(r"\binterval: \w+", "interval: 1s", text)


def sample_config(name: str, replaced: Mapping[str, str] | None = None) -> str:
    """Return a sample config of Prometheus with these texts replaced, each of which it must have."""
    text = (SAMPLES / name).read_text()
    for old, new in (replaced or {}).items():
        assert old in text, (name, old)
        text = text.replace(old, new)
    return text


def every_second(config: str) -> str:
    """Return a sample config with intervals of one second."""
    assert "interval: 15s" in config
    return config.replace("interval: 15s", "interval: 1s")


def write_sample_rules(folder: Path) -> None:
    """Write the sample rules under their names, to be evaluated each second."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RULES.name).write_text(shortened_rules(60))
    (folder / FLEET_RULES.name).write_text(FLEET_RULES.read_text())


def write_targets(path: Path, targets: Iterable[str]) -> None:
    """Name these targets in a file for Prometheus, at once. The folder must exist when Prometheus starts."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps([{"targets": list(targets)}]))
    new.rename(path)


def documented(*parts: str, seconds: int = 8) -> str:
    """Return the documented query that has these parts and is the shortest, over the last seconds."""
    return shortened(min((query for query in promql() if all(part in query for part in parts)), key=len), seconds)


@dataclass
class Prometheus:
    """A running Prometheus.

    Attributes:
        url: where it answers.
        names: names of the servers by their label ``instance``.
        pid: of the process.
    """

    url: str
    names: Mapping[str, str]
    pid: int

    def results(self, query: str, at: float | None = None) -> list[tuple[Labels, str]]:
        """Return labels and value of each result, now or at this unix time. The value is text: NaN equals NaN."""
        given: dict[str, Any] = {"query": query} if at is None else {"query": query, "time": at}
        answer = requests.get(f"{self.url}/api/v1/query", params=given, timeout=60).json()
        assert answer["status"] == "success", (query, answer)
        return [(result["metric"], result["value"][1]) for result in answer["data"]["result"]]

    def stored(self, selector: str) -> list[tuple[float, str]]:
        """Return time and value of each stored sample of the one series that has any in this range, such as up[5m]."""
        answer = requests.get(f"{self.url}/api/v1/query", params={"query": selector}, timeout=10).json()
        [series] = answer["data"]["result"]
        return [(float(at), value) for at, value in series["values"]]

    def rows(self, query: str) -> list[tuple[str, Labels, float]]:
        """Return the server's name, the labels and the value of each result."""
        return [
            (self.names.get(labels.get("instance", ""), "all of them"), labels, float(value))
            for labels, value in self.results(query)
        ]

    def ask(self, query: str) -> dict[str, float]:
        """Return the highest value of each server."""
        found: dict[str, float] = {}
        for name, _, value in self.rows(query):
            found[name] = max(found.get(name, 0.0), value)
        return found

    def firing(self, alert: str) -> list[tuple[str, Labels, Labels]]:
        """Return the server's name, the labels and the annotations of each alert of that name that fires."""
        found = requests.get(f"{self.url}/api/v1/alerts", timeout=10).json()["data"]["alerts"]
        return [
            (self.names.get(one["labels"].get("instance", ""), "all of them"), one["labels"], one["annotations"])
            for one in found
            if one["labels"]["alertname"] == alert and one["state"] == "firing"
        ]

    def wait_for_sums(self) -> None:
        """Wait until each recorded sum has two values for each server. The first event after that is an increase."""
        for name in re.findall(r"record: (\S+:sum)\n", RULES.read_text()):
            query = f"count_over_time({name}[1m]) > 1"
            eventually(lambda query=query: set(self.ask(query)) == set(self.names.values()), name)  # type: ignore[misc]


def requests_by_endpoint(
    monitor: Prometheus, query: str = "sum by (endpoint) (job_endpoint:gunicorn_requests:total)"
) -> dict[str, float]:
    """Return the result of the query by endpoint, without those that have none."""
    return {labels["endpoint"]: float(value) for labels, value in monitor.results(query) if float(value)}


@contextmanager
def prometheus(
    folder: Path,
    servers: Mapping[str, Server | str],
    *,
    more: Mapping[str, Any] | None = None,
    rules: str = "",
    alertmanager: str = "",
) -> Iterator[Prometheus]:
    """Run a Prometheus that scrapes these servers and evaluates these rules, once per second.

    Args:
        folder: of its config, its data and its log.
        servers: by name; text is the host and port of another page.
        more: of the scrape config.
        rules: text of a rules file.
        alertmanager: host and port of the Alertmanager that receives alerts, if there is one.
    """
    names = {
        server if isinstance(server, str) else f"127.0.0.1:{server.metrics_port}": name
        for name, server in servers.items()
    }
    static: Sequence[Mapping[str, object]] = [{"targets": list(names)}]
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": ["gunicorn.rules.yml"] if rules else [],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager] if alertmanager else []}]}]},
        "scrape_configs": [{"job_name": "gunicorn", "static_configs": static, **(more or {})}],
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "gunicorn.rules.yml").write_text(rules)
    with configured(folder, json.dumps(config), names) as found:
        eventually(
            lambda: sorted(found.ask("count_over_time(up[1m]) >= 2 and up == 1")) == sorted(names.values()),
            "Prometheus has scraped each server twice",
        )
        yield found


@contextmanager
def configured(
    folder: Path, config: str, names: Mapping[str, str] | None = None, *arguments: str, agent: bool = False
) -> Iterator[Prometheus]:
    """Run a Prometheus with this config until the end of the block.

    Args:
        folder: of its config, its data and its log.
        config: text of the config file.
        names: of the servers, by their label ``instance``.
        arguments: further ones.
        agent: whether it runs as an agent, which has no queries.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "prometheus.yml").write_text(config)
    port = unused_port()
    storage = ["--enable-feature=agent", "--storage.agent.path=data"] if agent else ["--storage.tsdb.path=data"]
    command = ["prometheus", "--config.file=prometheus.yml", *storage, *arguments]
    command.append(f"--web.listen-address=127.0.0.1:{port}")
    with running(command, folder, folder / "log") as process:
        url = f"http://127.0.0.1:{port}"
        eventually(lambda: requests.get(f"{url}/-/ready", timeout=5).status_code == 200, "Prometheus is ready")
        yield Prometheus(url, names or {}, process.pid)
