"""Several hosts with the same gunicorns, one Prometheus that finds them in a file, two more above it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.helpers.network import Host, Network, network
from tests.helpers.prometheus import (
    Prometheus,
    configured,
    every_second,
    requests_by_endpoint,
    sample_config,
    write_sample_rules,
    write_targets,
)
from tests.helpers.servers import Server, eventually
from tests.helpers.steady_load import SteadyLoad
from tests.integration.conftest import APP, CONFIG, missing

pytestmark = [pytest.mark.slow, pytest.mark.needs("prometheus", "promtool", "ip")]

PORTS = {"shop": (8000, 9091), "blog": (8001, 9092)}
"""Port and metrics port of each application, on each host."""
SCRAPE_SECONDS = 1.0
MARGIN = 0.5
"""Seconds by which a client's clock may be off: it reads it after the answer has come."""


@pytest.fixture
def machines() -> Iterator[Network]:
    """Three hosts. The test itself runs in the hub."""
    with ExitStack() as stack:
        try:
            found = stack.enter_context(network(3))
        except OSError as error:
            missing(f"network namespaces cannot be made here: {error}")
        stack.enter_context(found.hub.inside())
        yield found


@dataclass
class Fleet:
    """The servers of a network, the file that names them, and the load of all clients.

    Attributes:
        folder: of the servers' files.
        targets: the file for Prometheus.
        running: by the label ``instance``.
        loads: all that there ever were.
    """

    folder: Path
    targets: Path
    running: dict[str, Server] = field(default_factory=dict)
    loads: list[SteadyLoad] = field(default_factory=list)

    def start(self, host: Host, *names: str) -> list[str]:
        """Start these applications on a host, and wait until they are ready. Return their instances."""
        found = []
        for name in names:
            port, metrics_port = PORTS[name]
            more = f"worker_class = 'gthread'\nthreads = 4\nkeepalive = 30\nworkers = 2\nproc_name = '{name}'\n"
            config = CONFIG.replace("127.0.0.1", "0.0.0.0").replace(
                "port=METRICS_PORT", "port=METRICS_PORT, address='0.0.0.0', worker_label='slot'"
            )
            server = Server(
                self.folder / host.name / name, app=APP, config=config + more, port=port, metrics_port=metrics_port
            )
            with host.inside():
                server.start()
                eventually(lambda server=server: server.scrape().one("gunicorn_workers", state="running") == 2, name)  # type: ignore[misc]
            found.append(f"{host.address}:{metrics_port}")
            self.running[found[-1]] = server
        return found

    def write_targets(self) -> None:
        """Name the running servers in the file."""
        write_targets(self.targets, self.running)

    def load(self, stack: ExitStack, instances: Sequence[str]) -> list[SteadyLoad]:
        """Start clients of these servers."""
        found = []
        for instance in instances:
            load = SteadyLoad(instance.partition(":")[0], self.running[instance].port)
            found.append(stack.enter_context(load))
        self.loads += found
        return found

    def kill(self, machines: Network, host: Host, instance: str) -> None:
        """Set the link of a host down, and end its processes, those of one server, with SIGKILL."""
        machines.set_link(host, "down")
        host.kill()
        server = self.running.pop(instance)
        assert server.process is not None
        server.process.wait(10)

    @property
    def sent(self) -> dict[str, float]:
        """Return what all clients sent, by endpoint."""
        return dict(sum((load.counts for load in self.loads), Counter[str]()))


@pytest.fixture
def fleet(tmp_path: Path, machines: Network) -> Iterator[Fleet]:
    """No server as yet."""
    targets = tmp_path / "first" / "targets" / "gunicorn.json"
    targets.parent.mkdir(parents=True)
    found = Fleet(tmp_path / "hosts", targets)
    yield found
    for server in found.running.values():
        server.stop()


@dataclass
class Monitors:
    """Three Prometheus.

    Attributes:
        first: finds the servers in a file, and evaluates the rules.
        federated: fetches the results of the rules from the first.
        written: receives what the first sends.
    """

    first: Prometheus
    federated: Prometheus
    written: Prometheus

    def __iter__(self) -> Iterator[Prometheus]:
        return iter((self.first, self.federated, self.written))


@pytest.fixture
def monitors(tmp_path: Path, fleet: Fleet) -> Iterator[Monitors]:
    """They run with the sample configs, in the hub."""
    write_sample_rules(fleet.targets.parents[1])
    receiver = configured(tmp_path / "written", "", None, "--web.enable-remote-write-receiver")
    with receiver as written:
        config = sample_config("remote_write.yml", {"http://central.example:9090": written.url})
        with configured(tmp_path / "first", every_second(config)) as first:
            config = sample_config("federation.yml", {"prometheus.example:9090": first.url.removeprefix("http://")})
            with configured(tmp_path / "federated", every_second(config)) as federated:
                yield Monitors(first, federated, written)


def wait_until_up(monitor: Prometheus, fleet: Fleet) -> None:
    """Wait until the servers that run, and no others, answer scrapes."""

    def up() -> bool:
        return {labels["instance"] for labels, _ in monitor.results("up{job='gunicorn'} == 1")} == set(fleet.running)

    eventually(up, "the servers that run are up")


def wait_until_down(monitor: Prometheus, instance: str) -> None:
    """Wait until a scrape of the server has failed."""
    eventually(lambda: monitor.results(f"up{{instance='{instance}'}} == 0"), "Prometheus sees that it is down")


def wait_for_sums(monitors: Monitors, fleet: Fleet, lost: Mapping[str, float]) -> None:
    """Wait until each Prometheus has what the clients sent, except what was lost with a host."""
    expected = {endpoint: count - lost.get(endpoint, 0) for endpoint, count in fleet.sent.items()}
    for name, monitor in zip(("first", "federated", "written"), monitors, strict=True):

        def equal(name: str = name, monitor: Prometheus = monitor) -> bool:
            found = requests_by_endpoint(monitor)
            assert found == expected, (name, found, expected)
            return True

        eventually(equal, f"{name} has all")


def of_instance(instance: str) -> str:
    """Return the query for the requests by endpoint that the running server has counted."""
    return f"sum by (endpoint) (gunicorn_requests_total{{instance='{instance}'}})"


def test_sums_over_many_machines_are_what_the_clients_sent(machines: Network, fleet: Fleet, monitors: Monitors) -> None:
    """A host is killed and comes back under load, and the sum by endpoint is what the clients sent, in each Prometheus.

    The load of this host, and of no other, stops until Prometheus has scraped what the host has counted.
    """
    first, second, third = machines.hosts
    with ExitStack() as stack:
        steady = fleet.start(first, "shop", "blog")
        [instance] = fleet.start(second, "shop")
        fleet.write_targets()
        fleet.load(stack, steady)
        [load] = fleet.load(stack, [instance])
        wait_until_up(monitors.first, fleet)

        fleet.load(stack, fleet.start(third, "shop"))
        fleet.write_targets()
        wait_until_up(monitors.first, fleet)

        # Only the instance tells the servers apart.
        listeners = [labels for labels, _ in monitors.first.results("gunicorn_listener_backlog")]
        assert {labels["instance"] for labels in listeners} == set(fleet.running)
        assert {labels["listener"] for labels in listeners} == {"http://0.0.0.0:8000", "http://0.0.0.0:8001"}
        workers = [labels for labels, _ in monitors.first.results("gunicorn_worker_pid")]
        assert Counter(labels["worker_id"] for labels in workers) == {"worker_0": 4, "worker_1": 4}

        eventually(lambda: len(load.answers) > 100, "requests to the host")
        load.stop()
        recorded = f"job_instance_endpoint_started:gunicorn_requests:sum{{instance='{instance}'}}"
        for query in (of_instance(instance), f"sum by (endpoint) ({recorded})"):
            eventually(lambda query=query: requests_by_endpoint(monitors.first, query) == load.counts, query)  # type: ignore[misc]
        fleet.kill(machines, second, instance)
        wait_until_down(monitors.first, instance)
        fleet.write_targets()
        wait_until_up(monitors.first, fleet)

        # It is loaded before Prometheus finds it.
        machines.set_link(second, "up")
        fleet.start(second, "shop")
        [again] = fleet.load(stack, [instance])
        eventually(lambda: again.counts["/boom"] > load.counts["/boom"], "more requests than before the kill")
        fleet.write_targets()
        wait_until_up(monitors.first, fleet)
        for one in fleet.loads:
            one.stop()
        wait_for_sums(monitors, fleet, {})
        assert len(monitors.first.results(f"count by (started) (last_over_time({recorded}[10m]))")) == 2
        assert [one.refused for one in fleet.loads] == [0] * len(fleet.loads)


def test_what_is_lost_with_a_host_is_what_it_answered_after_the_last_scrape(
    machines: Network, fleet: Fleet, monitors: Monitors
) -> None:
    """A host is killed under load: the sums lack what was answered after its last scrape, and nothing else."""
    first, second, _ = machines.hosts
    with ExitStack() as stack:
        [steady] = fleet.start(first, "shop")
        [instance] = fleet.start(second, "shop")
        fleet.write_targets()
        _, load = fleet.load(stack, [steady, instance])
        eventually(
            lambda: requests_by_endpoint(monitors.first, of_instance(instance)).get("/boom", 0) > 50,
            "requests to the host",
        )
        known = len(load.answers)
        eventually(lambda: len(load.answers) > known + 50, "requests after a scrape")
        fleet.kill(machines, second, instance)
        load.wait_until_gone()
        wait_until_down(monitors.first, instance)
        for one in fleet.loads:
            one.stop()

        selector = f"{{instance='{instance}'}}[5m]"
        seen = requests_by_endpoint(
            monitors.first, f"sum by (endpoint) (last_over_time(gunicorn_requests_total{selector}))"
        )
        lost = {endpoint: count - seen[endpoint] for endpoint, count in load.counts.items()}
        scraped = max(at for at, value in monitors.first.stored(f"up{selector}") if value == "1")
        took = float(dict(monitors.first.stored(f"scrape_duration_seconds{selector}"))[scraped])
        at_least, at_most = load.answered_after(scraped + took + MARGIN), load.answered_after(scraped - MARGIN)
        print(f"{sum(lost.values()):.0f} of {len(load.answers)} lost, {at_least} to {at_most} expected")  # noqa: T201 - shown by pytest -s
        assert at_least <= sum(lost.values()) <= at_most
        assert load.answers[-1][0] - scraped < SCRAPE_SECONDS + took + MARGIN
        wait_for_sums(monitors, fleet, lost)
