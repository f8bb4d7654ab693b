"""Pages of a real gunicorn under load, and the pages that follow them if the load goes on."""

from __future__ import annotations

import gzip
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from prometheus_client.openmetrics.parser import text_string_to_metric_families

from benchmarks.server import free_port, gunicorn
from benchmarks.waiting import DEADLINE_SECONDS

CONFIG: Final = """
from gunicorn_prom_hooks import install
worker_class = "gthread"
workers = 4
threads = 4
install(globals(), port=METRICS_PORT)
"""
ENDPOINTS: Final = 20
POSTS: Final = 5
"""Endpoints that take POST requests as well."""
SECONDS: Final = 3.0
"""Between the two pages that are recorded."""
OPENMETRICS: Final = "application/openmetrics-text;version=1.0.0"
GROWS: Final = ("counter", "histogram")


def record(folder: Path) -> tuple[str, str]:
    """Return two pages of a gunicorn under load, one some seconds after the other, with the same series."""
    port = free_port()
    with gunicorn(folder, CONFIG.replace("METRICS_PORT", str(port)), app="many_endpoints") as (_, app_port):
        stop = threading.Event()
        thread = threading.Thread(target=_load, args=(f"http://127.0.0.1:{app_port}", stop), daemon=True)
        thread.start()
        first, second = "", _page(port)
        deadline = time.monotonic() + DEADLINE_SECONDS
        while _values(first).keys() != _values(second).keys():  # until each endpoint has been asked
            if time.monotonic() > deadline:
                raise TimeoutError("new series have come all the time")
            time.sleep(SECONDS)
            first, second = second, _page(port)
        stop.set()
        thread.join(20)
    return first, second


def following(first: str, second: str, count: int) -> list[bytes]:
    """Return this number of pages, compressed. From one to the next, counters grow as from the first to the second.

    Gauges have the values of the first and of the second page in turn.
    """
    kinds = {
        sample.name: family.type in GROWS
        for family in text_string_to_metric_families(first)  # type: ignore[no-untyped-call]
        for sample in family.samples
    }
    lines = list(_templates(first, _values(first), _values(second), kinds))
    found = []
    for number in range(count):
        text = "".join(
            template if values is None else f"{template} {_value(values, number, grows=grows)!r}\n"
            for template, values, grows in lines
        )
        found.append(gzip.compress(text.encode(), compresslevel=1))
    return found


def _value(values: tuple[float, float], number: int, *, grows: bool) -> float:
    return values[0] + number * (values[1] - values[0]) if grows else values[number % 2]


def _templates(
    first: str, before: Mapping[str, float], after: Mapping[str, float], kinds: Mapping[str, bool]
) -> Iterator[tuple[str, tuple[float, float] | None, bool]]:
    for line in first.splitlines():
        if line.startswith("#"):
            yield f"{line}\n", None, False
        else:
            series = line.rpartition(" ")[0]
            yield series, (before[series], after[series]), kinds[series.partition("{")[0]]


def _values(page: str) -> dict[str, float]:
    lines = [line.rpartition(" ") for line in page.splitlines() if not line.startswith("#")]
    return {series: float(value) for series, _, value in lines}


def _page(port: int) -> str:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers={"Accept": OPENMETRICS})
    with urllib.request.urlopen(request, timeout=20) as answer:
        text: str = answer.read().decode()
    return text


def _load(url: str, stop: threading.Event) -> None:
    while not stop.is_set():
        for request in _requests(url):
            try:
                with urllib.request.urlopen(request, timeout=20) as answer:
                    answer.read()
            except urllib.error.HTTPError as error:
                error.close()  # a 404 that is asked for


def _requests(url: str) -> Sequence[urllib.request.Request]:
    paths = [f"{url}/api/resource-{chr(97 + number)}/42" for number in range(ENDPOINTS)]
    return [
        *(urllib.request.Request(path) for path in paths),
        *(urllib.request.Request(path, data=b"x" * 2000) for path in paths[:POSTS]),
        urllib.request.Request(f"{url}/none"),
    ]
