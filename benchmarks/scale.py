"""How many servers one Prometheus of this machine scrapes, and what that takes.

Run as ``python -m benchmarks.scale``, about 6 minutes: it writes the table of docs/scale.md. ``--help`` has the rest.

A real gunicorn is recorded under load. One process then serves its page for each simulated server, and a real
Prometheus scrapes them: more and more servers with the sample rules, until evaluations are missed, then the last number
of servers without rules at shorter and shorter intervals, until scrapes fail or are late. Prometheus and the simulated
servers share the machine.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil
import requests

from benchmarks.machine import describe
from benchmarks.recorded_pages import ENDPOINTS, record
from benchmarks.server import free_port
from benchmarks.simulated_servers import address
from tests.helpers.places import TOP
from tests.helpers.prometheus import SAMPLES, Prometheus, configured, sample_config, write_targets
from tests.helpers.servers import eventually, running

PAGE: Final = TOP / "docs" / "scale.md"
BEGIN, END = "<!-- measured: python -m benchmarks.scale -->", "<!-- end -->"
SERVERS: Final = (10, 100, 300, 1000)
INTERVALS: Final = (5, 2, 1)
USUAL_SECONDS: Final = 15
EVALUATION_SECONDS: Final = 15
MOST_MEMORY: Final = 0.6
"""Share of the machine's memory at which the steps end."""
ON_TIME: Final = 0.98
"""Share of the scrapes that must have been made, and succeeded."""
LATE, MEMORY, RULES = "scrapes were late", "no memory was left for more", "evaluations of the rules were missed"
MISSED: Final = "prometheus_rule_group_iterations_missed_total"
HEADER: Final = (
    "servers",
    "interval",
    "series",
    "samples per second",
    "scrape: mean, longest",
    "scrapes on time",
    "rules",
    "slowest rule",
    "memory",
    "CPU",
    "CPU of the servers",
    "disk",
)


@dataclass(frozen=True)
class Step:
    """Servers, seconds between scrapes, seconds that it lasts, and whether the rules are evaluated."""

    servers: int
    interval: int
    seconds: int
    has_rules: bool


@dataclass
class Machine:
    """What runs.

    Attributes:
        folder: of Prometheus.
        monitor: that scrapes.
        simulator: the process of the servers.
        port: of the servers.
    """

    folder: Path
    monitor: Prometheus
    simulator: subprocess.Popen[bytes]
    port: int

    def value(self, query: str) -> float:
        """Return the one result of a query."""
        [(_, value)] = self.monitor.results(query)
        return float(value)

    def own(self, name: str) -> float:
        """Return the sum of a metric of Prometheus' own."""
        page = requests.get(f"{self.monitor.url}/metrics", timeout=30).text
        return sum(float(value) for value in re.findall(rf"^{name}(?:\{{[^}}]*\}})? (\S+)$", page, re.MULTILINE))

    def rules(self) -> Mapping[str, float]:
        """Return the seconds that the last evaluation of each rule took."""
        data = requests.get(f"{self.monitor.url}/api/v1/rules", timeout=60).json()["data"]
        return {rule["name"]: rule["evaluationTime"] for group in data["groups"] for rule in group["rules"]}

    def cpu(self) -> tuple[float, float]:
        """Return the CPU seconds of Prometheus and of the servers."""
        times = [psutil.Process(pid).cpu_times() for pid in (self.monitor.pid, self.simulator.pid)]
        return times[0].user + times[0].system, times[1].user + times[1].system

    def configure(self, step: Step) -> None:
        """Set the interval and the servers."""
        text = config(step.interval, has_rules=step.has_rules)
        if text != (self.folder / "prometheus.yml").read_text():
            (self.folder / "prometheus.yml").write_text(text)
            requests.post(f"{self.monitor.url}/-/reload", timeout=60).raise_for_status()
        targets = [f"{address(number)}:{self.port}" for number in range(step.servers)]
        write_targets(self.folder / "targets" / "gunicorn.json", targets)
        have = "count(up)"
        eventually(lambda: self.monitor.results(have) and self.value(have) >= step.servers, "all are scraped", 120)


def config(interval: int, *, has_rules: bool) -> str:
    """Return the sample config with this interval, without its remote store."""
    text = sample_config("remote_write.yml", {f"scrape_interval: {USUAL_SECONDS}s": f"scrape_interval: {interval}s"})
    text = text.replace("  scrape_interval:", f"  scrape_timeout: {min(10, interval)}s\n  scrape_interval:")
    if not has_rules:
        text = re.sub(r"^rule_files:.*$", "", text, flags=re.MULTILINE)
    return text[: text.index("remote_write:")]


@contextlib.contextmanager
def machine(folder: Path, *, has_rules: bool) -> Iterator[Machine]:
    """Run the servers and Prometheus. The folder has the recorded pages."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.simulated_servers", str(port), str(folder)]
    home = folder / ("with rules" if has_rules else "without rules")
    (home / "targets").mkdir(parents=True)  # Prometheus watches a folder that is there when it starts
    for rules in SAMPLES.glob("*.rules.yml"):
        (home / rules.name).write_bytes(rules.read_bytes())
    with (
        running(command, TOP, folder / "simulator.log") as simulator,
        configured(home, config(USUAL_SECONDS, has_rules=has_rules), None, "--web.enable-lifecycle") as monitor,
    ):
        url = f"http://{address(0)}:{port}/metrics"
        eventually(lambda: requests.get(url, timeout=5).status_code == 200, "the servers answer")
        try:
            yield Machine(home, monitor, simulator, port)
        finally:
            psutil.Process(monitor.pid).kill()  # it would take its time to store what is thrown away


def measure(found: Machine, step: Step) -> tuple[list[str], str]:
    """Return the row of the table, and the limit that was reached, if one was."""
    found.configure(step)
    missed = found.own(MISSED)
    window = max(2 * step.interval, step.seconds // 2)
    time.sleep(max(0, step.seconds - window))
    begin, cpu = time.time(), found.cpu()
    time.sleep(window)
    cpu_seconds = [after - before for before, after in zip(cpu, found.cpu(), strict=True)]
    elapsed = time.time() - begin
    rules = found.rules()
    slowest = max(rules, key=lambda name: rules[name], default="")
    memory = psutil.Process(found.monitor.pid).memory_info().rss
    disk = sum(path.stat().st_size for path in (found.folder / "data").rglob("*") if path.is_file())
    over = f"[{window}s] offset 1s"  # what was scraped in the last second may not be stored yet
    succeeded = found.value(f"sum(sum_over_time(up{over}))")
    on_time = min(1.0, succeeded / (step.servers * window / step.interval))
    row = [
        f"{step.servers:,}",
        f"{step.interval} s",
        f"{found.own('prometheus_tsdb_head_series'):,.0f}",
        f"{found.value(f'sum(sum_over_time(scrape_samples_scraped{over}))') / window:,.0f}",
        f"{found.value(f'avg(avg_over_time(scrape_duration_seconds{over}))'):.3f}, "
        f"{found.value(f'max(max_over_time(scrape_duration_seconds{over}))'):.2f} s",
        f"{on_time:.1%}",
        f"{sum(rules.values()):.2f} s, {found.own(MISSED) - missed:.0f} missed" if rules else "none",
        f"`{slowest}` {rules[slowest]:.2f} s" if rules else "",
        f"{memory / 1e9:.2f} GB",
        f"{cpu_seconds[0] / elapsed:.2f}",
        f"{cpu_seconds[1] / elapsed:.2f}",
        f"{disk / 1e6:,.0f} MB",
    ]
    if memory > MOST_MEMORY * psutil.virtual_memory().total:
        return row, MEMORY
    if on_time < ON_TIME:
        return row, LATE
    return row, RULES if found.own(MISSED) > missed else ""


def line(cells: Sequence[str]) -> str:
    """Return a line of a table."""
    return f"| {' | '.join(cells)} |"


def about(folder: Path) -> str:
    """Return what the machine and the recorded page are."""
    series = sum(not row.startswith("#") for row in (folder / "first").read_text().splitlines())
    version = subprocess.run(["prometheus", "--version"], capture_output=True, text=True, check=True)
    number = re.search(r"version (\S+)", version.stdout + version.stderr)
    this = describe()
    return (
        f"Machine: {this.cores} cores ({this.processor}), {this.memory_gb:.0f} GB of memory, {this.system}, "
        f"Prometheus {number[1] if number else ''}. Measured on {time.strftime('%Y-%m-%d')}.\n"
        f"The page of each server has {series:,} series, with 4 gthread workers and {ENDPOINTS} endpoints."
    )


def write(page: Path, text: str) -> None:
    """Write the text between the markers of the page."""
    old = page.read_text()
    begin, end = old.index(BEGIN) + len(BEGIN), old.index(END)
    page.write_text(f"{old[:begin]}\n\n{text}\n\n{old[end:]}")


def run_steps(folder: Path, steps: Sequence[Step]) -> tuple[list[str], str]:
    """Measure the steps, all with rules or all without, until a limit is reached. Return the rows and the limit."""
    rows, limit = [], ""
    with machine(folder, has_rules=steps[0].has_rules) as found:
        for step in steps:
            cells, limit = measure(found, step)
            rows.append(line(cells))
            print(rows[-1], flush=True)
            if limit:
                break
    return rows, limit


def run(phases: Sequence[Sequence[Step]], page: Path) -> None:
    """Measure the steps with rules, then those without, and write the table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part, text in zip(("first", "second"), record(folder / "gunicorn"), strict=True):
            (folder / part).write_text(text)
        print(line(HEADER), flush=True)
        rows, ends = [], []
        for steps, which in zip(phases, ("with rules", "without rules"), strict=True):
            more, limit = run_steps(folder, steps)
            rows += more
            ends.append(f"The steps {which} ended because {limit}." if limit else f"The steps {which} found no limit.")
        table = "\n".join([line(HEADER), line(["---"] * len(HEADER)), *rows])
        write(page, f"{about(folder)}\n\n{table}\n\n{' '.join(ends)}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser: Any = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--servers", type=int, nargs="+", default=SERVERS, help="numbers of servers, at 15 s")
    parser.add_argument("--intervals", type=int, nargs="*", default=INTERVALS, help="shorter intervals, in seconds")
    parser.add_argument("--seconds", type=int, default=35, help="of a step; the last number of servers has twice that")
    parser.add_argument("--first-interval", type=int, default=USUAL_SECONDS, help="in seconds")
    parser.add_argument("--page", type=Path, default=PAGE, help="that the table is written to, between its markers")
    given = parser.parse_args(arguments)
    last = given.servers[-1]
    usual = given.first_interval
    with_rules = [Step(servers, usual, given.seconds * (1 + (servers == last)), True) for servers in given.servers]
    without = [Step(last, interval, given.seconds, False) for interval in (usual, *given.intervals)]
    run((with_rules, without), given.page)


if __name__ == "__main__":
    main()
