"""How long requests take."""

from __future__ import annotations

from building import AnyPanel, Query, graph, heat_map
from queries import ENDPOINTS, quantile, rate

TITLE = "Latency"
DURATION = "gunicorn_request_duration_seconds"


def panels() -> list[AnyPanel]:
    """Return the panels of this row."""
    buckets = f"increase({DURATION}_bucket{{{ENDPOINTS}}}[$__rate_interval])"
    return [
        heat_map(
            "Request durations",
            "s",
            "Requests of all chosen servers by duration: each row is a bucket of the histogram, and the color is the "
            "number of requests. Two bands are two kinds of requests. A band that moves up shows that all requests "
            "become slower: look at the row of saturation.",
            f"sum by (le) ({buckets})",
        ),
        graph(
            "Percentiles",
            "s",
            "The 50th, 90th and 99th percentile of the request duration of each server. A high 99th percentile alone "
            "shows a few slow endpoints. If all three rise, the server or a service behind it is slow.",
            *(
                Query(quantile(share, DURATION, where=ENDPOINTS), f"p{share * 100:g} {{{{instance}}}}")
                for share in (0.5, 0.9, 0.99)
            ),
            height=9,
        ),
        graph(
            "Slowest endpoints",
            "s",
            "The 95th percentile of the ten slowest endpoints. Make these faster, or move them to a server of their "
            "own if others wait for them.",
            Query(
                f"topk(10, {quantile(0.95, DURATION, 'method, endpoint', ENDPOINTS)})",
                "{{method}} {{endpoint}} {{instance}}",
            ),
        ),
        graph(
            "Time taken by endpoints",
            "short",
            "The average number of requests in progress, of the ten endpoints where it is the highest. These take the "
            "most of the workers' time, and are the ones to make cheaper.",
            Query(
                f"topk(10, {rate(f'{DURATION}_sum', 'method, endpoint', ENDPOINTS)} > 0)",
                "{{method}} {{endpoint}} {{instance}}",
            ),
        ),
    ]
