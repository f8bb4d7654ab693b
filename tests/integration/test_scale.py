"""What docs/scale.md says: series of a server, shards, agents, and the command that measures."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import requests

from benchmarks import scale
from tests.helpers import series
from tests.helpers.places import APPLICATIONS
from tests.helpers.prometheus import (
    Prometheus,
    configured,
    every_second,
    requests_by_endpoint,
    sample_config,
    write_sample_rules,
    write_targets,
)
from tests.helpers.series import Size
from tests.helpers.servers import Server, eventually, running, unused_port
from tests.integration.conftest import CONFIG, Serve

CENTRAL = "http://central.example:9090"
RECEIVER = "--web.enable-remote-write-receiver"


def number_of_series(server: Server) -> int:
    """Return the number of samples on the page."""
    return sum(not row.startswith("#") for row in server.page().text.splitlines())


def small(serve: Serve) -> tuple[Server, Size]:
    """One sync worker, one endpoint."""
    server = serve("worker_class = 'sync'\n")
    server.settled(1)
    return server, Size(workers=1, pairs=1, statuses=1)


def medium(serve: Serve) -> tuple[Server, Size]:
    """Four gthread workers by slot, 30 endpoints of which 10 have two methods, failures, a proxy, a worker exit."""
    config = CONFIG.replace("METRICS_PORT)", "METRICS_PORT, worker_label='slot')")
    server = serve("worker_class = 'gthread'\nthreads = 2\nworkers = 4\n", config=config)
    names = [chr(ord("a") + number // 26) + chr(ord("a") + number % 26) for number in range(30)]
    server.settled(1)  # a request is counted after its response
    os.kill(server.workers()[0].pid, signal.SIGKILL)
    eventually(lambda: server.scrape().sum("gunicorn_worker_exits_total", detail="SIGKILL"), "the worker has exited")
    for name in names:
        server.get(f"/{name}", headers={"X-Request-Start": f"t={time.time()}"})
    for name in names[:10]:
        server.post(f"/{name}", b"1")
    for path in ("/boom", "/503", "/missing", "/sleep/0"):
        server.get(path)
    # "/" is asked by the helper that waits for the server.
    return server, Size(4, pairs=45, statuses=45, failures=2, worker_failures=3, exited=1, queue=True)


def large(serve: Serve) -> tuple[Server, Size]:
    """Eight asgi workers, as many endpoints as the limit allows and ``<other>``, short buckets, no sizes."""
    settings = "METRICS_PORT, max_endpoints=100, duration_buckets=(0.1, 0.5, 1), size_histograms=False)"
    config = CONFIG.replace("METRICS_PORT)", settings)
    server = serve("worker_class = 'asgi'\nworkers = 8\n", config=config, app=APPLICATIONS / "default_asgi.py")
    for number in range(150):
        server.get(f"/{chr(97 + number // 26)}x{chr(97 + number % 26)}")
    server.settled(151)
    return server, Size(8, pairs=101, statuses=101, event_loops=8, limited=False, buckets=3, sizes=False)


@pytest.mark.parametrize("case", [small, medium, large], ids=lambda case: case.__name__)
def test_formula_gives_the_series_of_a_real_page(case: Callable[[Serve], tuple[Server, Size]], serve: Serve) -> None:
    """The formula gives exactly the number of series of the page."""
    server, size = case(serve)
    server.wait_for_workers(size.workers)
    eventually(lambda: number_of_series(server) == size.series, f"{size.series} series; {number_of_series(server)}")


def test_documented_formula_is_the_one_that_is_tested() -> None:
    """The terms of the formula in the documentation have the numbers of the code."""
    [formula] = re.findall(r"```text\n(series = .*?)```", scale.PAGE.read_text(), re.DOTALL)
    terms = dict(re.findall(r"(\d+) \* ([a-z ]+?)(?:\n|$)", formula, re.MULTILINE))
    assert {what: int(number) for number, what in terms.items()} == {
        "listeners": series.PER_LISTENER,
        "workers": series.PER_WORKER,
        "workers with an event loop": series.PER_EVENT_LOOP,
        "slots whose worker has exited before": series.PER_EXITED,
        "pairs of an endpoint and a method": Size(0, 1, 0).series - Size(0, 0, 0).series,
    }
    assert f"series = {series.FIXED}\n" in formula


def answered(server: Server) -> dict[str, float]:
    """Return what this server has been asked: three requests here, one by the helper that waits for it."""
    for path in ("/", "/items/1", "/items/2"):
        server.get(path)
    return {"/": 2, "/items/:id": 2}


@contextmanager
def servers_in(folder: Path, serve: Serve, count: int) -> Iterator[dict[str, float]]:
    """Start servers that the targets file in this folder names. Yield the requests to all of them by endpoint."""
    found = [serve() for _ in range(count)]
    (folder / "targets").mkdir(parents=True)
    write_targets(folder / "targets" / "gunicorn.json", [f"127.0.0.1:{server.metrics_port}" for server in found])
    sums = [answered(server) for server in found]
    yield {endpoint: sum(one[endpoint] for one in sums) for endpoint in sums[0]}


def scraped(monitor: Prometheus) -> set[str]:
    """Return the instances that this Prometheus scrapes."""
    return {labels["instance"] for labels, _ in monitor.results("up{job='gunicorn'} == 1")}


@pytest.mark.slow
@pytest.mark.needs("prometheus")
def test_two_shards_share_the_targets_and_a_third_has_the_sums(serve: Serve, tmp_path: Path) -> None:
    """Each target is scraped by one of two Prometheus, and the sums over both are what was sent."""
    with servers_in(tmp_path, serve, 6) as expected, ExitStack() as stack:
        shards = []
        for number in ("0", "1"):
            folder = tmp_path / number
            write_sample_rules(folder)
            text = sample_config("sharding.yml", {'"0"': f'"{number}"', "targets/*.json": "../targets/*.json"})
            shards.append(stack.enter_context(configured(folder, every_second(text))))
        urls = '", "'.join(shard.url.removeprefix("http://") for shard in shards)
        text = every_second(sample_config("federation.yml", {"prometheus.example:9090": urls}))
        above = stack.enter_context(configured(tmp_path / "above", text))
        eventually(lambda: sum(len(scraped(shard)) for shard in shards) == 6, "each target is scraped")
        assert not scraped(shards[0]) & scraped(shards[1])
        eventually(lambda: requests_by_endpoint(above) == expected, "the sums over both")
        for name, shard in zip("01", shards, strict=True):
            query = f"job_instance:gunicorn_requests:sum{{prometheus='{name}'}}"

            def same(query: str = query, shard: Prometheus = shard) -> bool:
                return {labels["instance"] for labels, _ in above.results(query)} == scraped(shard)

            eventually(same, "the series have the label of the shard that scrapes the server")


@pytest.mark.slow
@pytest.mark.needs("prometheus")
def test_agent_sends_to_a_prometheus_that_evaluates_the_rules(serve: Serve, tmp_path: Path) -> None:
    """The store has the sums of what an agent scrapes; its rules are evaluated there."""
    central = tmp_path / "central"
    write_sample_rules(central)
    rules = every_second("global: {evaluation_interval: 15s}\nrule_files: ['*.rules.yml']\n")
    with servers_in(tmp_path / "agent", serve, 2) as expected, configured(central, rules, None, RECEIVER) as store:
        text = every_second(sample_config("agent.yml", {CENTRAL: store.url}))
        with configured(tmp_path / "agent", text, agent=True):
            eventually(lambda: requests_by_endpoint(store) == expected, "the sums of both servers")


@pytest.mark.slow
@pytest.mark.needs("prometheus", "victoria-metrics")
def test_agent_sends_to_victoria_metrics(serve: Serve, tmp_path: Path) -> None:
    """VictoriaMetrics has the requests that an agent has scraped."""
    port = unused_port()
    command = ["victoria-metrics", f"-httpListenAddr=127.0.0.1:{port}", f"-storageDataPath={tmp_path / 'data'}"]
    with (
        servers_in(tmp_path / "agent", serve, 2) as expected,
        running([*command, "-search.latencyOffset=0s"], tmp_path, tmp_path / "log"),
    ):
        store = Prometheus(f"http://127.0.0.1:{port}", {}, 0)
        eventually(
            lambda: requests.get(f"{store.url}/health", timeout=5).status_code == 200, "VictoriaMetrics is ready"
        )
        text = every_second(sample_config("agent.yml", {CENTRAL: store.url}))
        query = "sum by (endpoint) (gunicorn_requests_total)"
        with configured(tmp_path / "agent", text, agent=True):
            eventually(lambda: requests_by_endpoint(store, query) == expected, "the sums of both servers")


@pytest.mark.slow
@pytest.mark.needs("prometheus")
def test_command_measures_simulated_servers_and_writes_the_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command writes a row for each step, with the series and samples that so many servers have."""
    page = tmp_path / "scale.md"
    page.write_text(f"before\n{scale.BEGIN}\nold\n{scale.END}\nafter\n")
    arguments = ["--servers", "2", "10", "--intervals", "--first-interval", "1", "--seconds", "6", "--page", str(page)]
    scale.main(arguments)
    text = page.read_text()
    assert text.startswith(f"before\n{scale.BEGIN}\n")
    assert text.endswith(f"{scale.END}\nafter\n")
    assert "old" not in text
    [of_page] = map(int, re.findall(r"has (\d+) series", text.replace(",", "")))
    rows = [row.strip("| ").split(" | ") for row in re.findall(r"^\| \d.*$", text, re.MULTILINE)]
    assert [row[0] for row in rows] == ["2", "10", "10"]  # the last one without rules
    for row in rows:
        found = dict(zip(scale.HEADER, row, strict=True))
        servers = int(found["servers"])
        assert int(found["series"].replace(",", "")) >= servers * of_page
        per_second = int(found["samples per second"].replace(",", ""))
        assert per_second == pytest.approx(servers * of_page, rel=0.35)
        assert found["scrapes on time"].endswith("%")
    assert scale.line(scale.HEADER) in capsys.readouterr().out


def test_documented_table_is_one_of_the_command() -> None:
    """The table between the markers has the columns of the command, and the numbers of servers that it measures."""
    text = scale.PAGE.read_text()
    measured = text[text.index(scale.BEGIN) : text.index(scale.END)]
    assert scale.line(scale.HEADER) in measured
    rows = [row.strip("| ").split(" | ") for row in re.findall(r"^\| \d.*$", measured, re.MULTILINE)]
    without = [row[:2] for row in rows if row[scale.HEADER.index("rules")] == "none"]
    of_rules = [int(row[0].replace(",", "")) for row in rows[: len(rows) - len(without)]]
    assert len(of_rules) > 1
    assert of_rules == list(scale.SERVERS[: len(of_rules)])
    steps = [[f"{scale.SERVERS[-1]:,}", f"{interval} s"] for interval in (scale.USUAL_SECONDS, *scale.INTERVALS)]
    assert without
    assert without == steps[: len(without)]
