"""What docs/migrating.md says: the rows of its tables and the lines of its configs. A receiver of statsd datagrams."""

from __future__ import annotations

import re
import socket
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from tests.helpers.places import TOP
from tests.helpers.prometheus import Prometheus

PAGE = TOP / "docs" / "migrating.md"
Found = dict[tuple[str, ...], float]


def section(title: str) -> str:
    """Return the text of the page's section whose heading has this word."""
    [found] = [part for part in PAGE.read_text().split("\n## ")[1:] if title in part.partition("\n")[0]]
    return found


def rows(title: str) -> list[tuple[str, str]]:
    """Return the two cells of each row in the section's tables with the header before, after."""
    tables = re.findall(r"^\| before \| after \|\n\|[- |]+\|\n((?:\|.*\|\n)+)", section(title), re.MULTILINE)
    cells = [re.fullmatch(r"\| (.+) \| `(.+)` \|", line) for table in tables for line in table.splitlines()]
    assert cells, title
    assert None not in cells, title
    return [(found[1], found[2]) for found in cells if found]


def config(title: str) -> str:
    """Return the first config of the section that shows changed lines, with the old lines and the new ones."""
    found = re.search(r"```diff\n(.*?)```", section(title), re.DOTALL)
    assert found is not None, title
    lines = found[1].splitlines()
    assert all(line[:1] in ("+", "-", " ", "") for line in lines), lines
    return "".join(f"{line[1:]}\n" for line in lines)


def of_instance(query: str, instance: str, names: Iterable[str]) -> str:
    """Return the query with a matcher for this instance at each of these metrics."""
    known = "|".join(sorted(names, key=len, reverse=True))
    matcher = f'instance="{instance}"'
    return re.sub(
        rf"\b({known})\b(\{{)?", lambda found: f"{found[1]}{{{matcher}{',' if found[2] else '}'}", query
    ).replace(",}", "}")


def values(monitor: Prometheus, query: str) -> Found:
    """Return what a query gives, by the values of its labels but the target's. A counter's zero series are left out."""
    return {
        tuple(sorted(value for name, value in labels.items() if name not in ("__name__", "instance", "job"))): float(
            found
        )
        for labels, found in monitor.results(query)
        if float(found) or "<other>" not in labels.values()
    }


class Statsd:
    """Received datagrams, added up as a statsd server does.

    Attributes:
        counters: sums by name.
        timers: values in ms by name, also of histograms.
        gauges: the last value by name.
    """

    def __init__(self) -> None:
        self.counters: dict[str, float] = defaultdict(float)
        self.timers: dict[str, list[float]] = defaultdict(list)
        self.gauges: dict[str, float] = {}

    def add(self, datagram: str) -> None:
        """Add what one datagram says."""
        name, _, rest = datagram.partition(":")
        value, kind = rest.split("|")[:2]
        if kind == "c":
            self.counters[name] += float(value)
        elif kind == "g":
            self.gauges[name] = float(value)
        else:
            self.timers[name].append(float(value))

    def value(self, cell: str) -> float:
        """Return the number that a cell of the page names."""
        names = re.findall(r"`([^`]+)`", cell)
        if cell.startswith("number of"):
            return float(len(self.timers[names[0]]))
        if cell.startswith("sum of"):
            return sum(self.timers[names[0]])
        if cell.startswith("latest"):
            return self.gauges[names[0]] if names[0] in self.gauges else self.timers[names[0]][-1]
        return sum(self.counters[name] for name in names)


@contextmanager
def statsd() -> Iterator[tuple[int, Statsd]]:
    """Receive datagrams until the end of the block. Yield the UDP port and what has been received so far."""
    received = Statsd()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(0.1)
        ended = threading.Event()

        def receive() -> None:
            while not ended.is_set():
                try:
                    received.add(server.recv(65536).decode())
                except TimeoutError:
                    continue

        thread = threading.Thread(target=receive)
        thread.start()
        try:
            yield server.getsockname()[1], received
        finally:
            ended.set()
            thread.join()
