"""``check URL``: what is wrong with a running server, as Prometheus sees it."""

from __future__ import annotations

import time
from collections.abc import Iterator

from ...status.formatting import duration
from ..client import Answer, Client, Unreachable
from ..findings import Finding, note
from .page import Page, check_counters, check_families, lint

TEXT = "text/plain;version=0.0.4"
OPENMETRICS = "application/openmetrics-text;version=1.0.0"
SCRAPE_TIMEOUT = 10.0
"""Seconds after which Prometheus gives up by default. It never waits longer than the interval."""
LARGE_SHARE = 0.2
"""Share of the interval beyond which a scrape is called slow."""


def check_url(client: Client, interval: float) -> tuple[list[str], list[Finding]]:
    """Return facts and findings on a running server.

    Args:
        client: of the server.
        interval: seconds between two scrapes of Prometheus.
    """
    try:
        text = client.get("metrics", TEXT)
        findings = list(_check_status(client, text))
        if findings:
            return [], findings
        facts, findings = _check_pages(client, text, interval)
        return facts, findings + list(_check_health(client))
    except Unreachable as error:
        return [], [Finding(error.what, error.advice)]


def _check_status(client: Client, answer: Answer) -> Iterator[Finding]:
    url = client.target.url("metrics")
    if answer.status == 401:
        yield Finding(
            f"{url} answers 401: it wants credentials, or other ones",
            "Give them with --token-file or --basic-auth, or in the environment as the server has them",
        )
    elif answer.status != 200:
        yield Finding(f"{url} answers {answer.status}", "Give the URL of the metrics, such as http://127.0.0.1:9091")


def _check_pages(client: Client, text: Answer, interval: float) -> tuple[list[str], list[Finding]]:
    findings: list[Finding] = []
    page = _parse(text, openmetrics=False, findings=findings)
    # The exporter pauses after a page for as long as the page took. Prometheus never meets this pause.
    time.sleep(min(text.seconds, 0.25))
    other = client.get("metrics", OPENMETRICS)
    if other.status != 200:
        findings.append(
            Finding(f"the page in the OpenMetrics format answers {other.status}", "The error log has the reason")
        )
    elif other.content_type.startswith("application/openmetrics-text"):
        _parse(other, openmetrics=True, findings=findings)
    elif page is not None:
        findings.append(
            note(
                f"asked for OpenMetrics, the server sends {other.content_type or 'no content type'!r}",
                "Look for a proxy that changes headers",
            )
        )
    if page is None:
        return [], findings
    if not page.is_of_this_package:
        what = f"{client.target.url('metrics')} is a page of metrics, but not of this package"
        return [], [Finding(what, "Look at `port` in the config, and at which program has this port")]
    findings += [*check_families(page), *check_counters(page), *lint(page)]
    seconds = max(text.seconds, other.seconds)
    findings += _check_duration(seconds, interval)
    return _facts(client, page, text, seconds, interval), findings


def _parse(answer: Answer, *, openmetrics: bool, findings: list[Finding]) -> Page | None:
    try:
        return Page(answer.text, openmetrics=openmetrics)
    except ValueError as error:
        name = "OpenMetrics" if openmetrics else "text"
        findings.append(
            Finding(f"the page in the {name} format cannot be parsed: {error}", "Prometheus drops the whole page")
        )
        return None


def _check_duration(seconds: float, interval: float) -> Iterator[Finding]:
    limit = min(interval, SCRAPE_TIMEOUT)
    advice = "See 'What a scrape takes' in docs/metrics.md, or scrape less often"
    if seconds >= limit:
        yield Finding(f"a scrape takes {duration(seconds)}, and Prometheus gives up after {duration(limit)}", advice)
    elif seconds > LARGE_SHARE * interval:
        yield note(f"a scrape takes {duration(seconds)} of the interval of {duration(interval)}", advice)


def _facts(client: Client, page: Page, answer: Answer, seconds: float, interval: float) -> list[str]:
    build = page.labels_of("gunicorn_build_info")
    states = {labels.get("state", ""): value for labels, value in page.values("gunicorn_workers")}
    target = sum(value for _, value in page.values("gunicorn_workers_target"))
    return [
        f"{client.target.url('metrics')}: {build.get('app', '?')}, gunicorn {build.get('gunicorn', '?')} with "
        f"{build.get('worker_class', '?')} workers, {states.get('running', 0):.0f} of {target:.0f} running",
        f"{page.series:,} series in {len(page.families)} families, {len(answer.body) / 1000:,.0f} kB, "
        f"{answer.sent_bytes / 1000:,.0f} kB compressed",
        f"a scrape takes {duration(seconds)}: {100 * seconds / interval:.1f} % of the interval of {duration(interval)}",
    ]


def _check_health(client: Client) -> Iterator[Finding]:
    health = client.get("healthz")
    if health.status != 200:
        yield Finding(f"{client.target.url('healthz')} answers {health.status}", "Look for a proxy in between")
    ready = client.get("readyz")
    if ready.status == 503:
        yield Finding(
            "no worker can take requests: /readyz answers 503",
            "No worker has booted, or none has had a heartbeat within `timeout`: the error log says which",
        )
    elif ready.status != 200:
        yield Finding(f"{client.target.url('readyz')} answers {ready.status}", "Look for a proxy in between")
