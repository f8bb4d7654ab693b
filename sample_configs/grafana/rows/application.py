"""The metrics that the application records itself. Their names are chosen by the variables."""

from __future__ import annotations

from building import AnyPanel, Query, graph, markdown
from queries import SERVERS, per_server

TITLE = "Application metrics"
TEXT = """\
These are the metrics that the application records with `prometheus_client`. The dashboard cannot know them.

- Choose counters in the variable *counter*: each has a graph of its rate. The `_count` of a histogram is a counter.
- Choose gauges in the variable *gauge*: each has a graph of its value.
"""


def panels() -> list[AnyPanel]:
    """Return the panels of this row."""
    rates = graph(
        "Rate of $metric",
        "cps",
        "The rate of a counter of the application, summed over its labels. Copy the panel and sum by a label to see "
        "more.",
        Query(f'{per_server("sum")} (rate({{__name__="$metric", __name__!="", {SERVERS}}}[$__rate_interval]))'),
        width=24,
    )
    values = graph(
        "Value of $gauge",
        "short",
        "The value of a gauge of the application, by all of its labels.",
        Query(f'{{__name__="$gauge", __name__!="", {SERVERS}}}', ""),
        width=24,
    )
    return [
        markdown("About application metrics", "How to choose the metrics below.", TEXT),
        rates.repeat("metric").repeat_direction("h"),
        values.repeat("gauge").repeat_direction("h"),
    ]
