"""Requests and failures by endpoint."""

from __future__ import annotations

from building import AnyPanel, Column, Query, graph, table
from queries import ENDPOINTS, events, per_server, rate

TITLE = "Requests by endpoint"
BY = "method, endpoint"


def _in_range(metric: str, by: str) -> str:
    return f"{per_server('sum', by)} (rate({metric}{{{ENDPOINTS}}}[$__range]))"


def _quantile_in_range(share: float) -> str:
    histogram = _in_range("gunicorn_request_duration_seconds_bucket", f"{BY}, le")
    return f"histogram_quantile({share:g}, {histogram}) >= 0"


def panels() -> list[AnyPanel]:
    """Return the panels of this row."""
    requests = _in_range("gunicorn_requests_total", BY)
    return [
        graph(
            "Requests by endpoint",
            "reqps",
            "Answered requests per second of the ten endpoints with the most requests. Choose an endpoint above to "
            "see others.",
            Query(
                f"topk(10, {rate('gunicorn_requests_total', 'endpoint', ENDPOINTS)} > 0)", "{{endpoint}} {{instance}}"
            ),
        ),
        graph(
            "Requests by status",
            "reqps",
            "Answered requests per second by the status that the client received. 499 is a client that disconnected "
            "before it had the whole response. A rising share of 5xx or 499 shows a problem in the application or "
            "behind it.",
            Query(f"{rate('gunicorn_requests_total', 'status', ENDPOINTS)} > 0", "{{status}} {{instance}}"),
        ),
        table(
            "Endpoints",
            "All endpoints with requests in the time range, with their averages over this range. The time taken is the "
            "average number of requests in progress: the endpoints with the most are the ones to make cheaper.",
            [
                Column("requests", f"{requests} > 0", "reqps"),
                Column(
                    "failed",
                    f"{_in_range('gunicorn_failed_requests_total', BY)} / ({requests} > 0)",
                    "percentunit",
                    (0.01, 0.05),
                ),
                Column("p50", _quantile_in_range(0.5), "s", (0.5, 2)),
                Column("p95", _quantile_in_range(0.95), "s", (0.5, 2)),
                Column("p99", _quantile_in_range(0.99), "s", (0.5, 2)),
                Column("time taken", f"{_in_range('gunicorn_request_duration_seconds_sum', BY)} > 0", "short"),
            ],
        ),
        graph(
            "Failures by exception",
            "short",
            "Requests that ended with an exception or a 5xx, counted from each point of the graph to the next. The "
            "first failure of its kind is included. The traceback is in gunicorn's error log or in the application's.",
            Query(
                events("gunicorn_failed_requests_total", "endpoint, error_type", ENDPOINTS),
                "{{error_type}} {{endpoint}} {{instance}}",
            ),
            bars=True,
        ),
        graph(
            "Disconnects and malformed requests",
            "reqps",
            "Clients that disconnected before the response, and requests that gunicorn refused as malformed. Clients "
            "disconnect most often because something is slow. Malformed requests come from scanners, or from a proxy "
            "that sends TLS to a plain port. The worker classes asgi, gevent_pywsgi and tornado do not report these.",
            Query(
                rate("gunicorn_requests_total", where=f'{ENDPOINTS}, status=~"499|<other>"'), "disconnects {{instance}}"
            ),
            Query(rate("gunicorn_invalid_requests_total"), "malformed {{instance}}"),
        ),
        graph(
            "Bodies",
            "Bps",
            "Bytes per second in the bodies of requests and responses. Chunked request bodies are not included. "
            "An endpoint with large responses may need a limit or pages.",
            Query(rate("gunicorn_request_size_bytes_sum", where=ENDPOINTS), "requests {{instance}}"),
            Query(rate("gunicorn_response_size_bytes_sum", where=ENDPOINTS), "responses {{instance}}"),
        ),
        graph(
            "Websockets",
            "short",
            "Websockets that are open in live workers, on ASGI workers only. A number that only grows shows clients "
            "that are not disconnected.",
            Query(
                f"{per_server('sum', 'endpoint')} (gunicorn_websockets_in_progress{{{ENDPOINTS}}})",
                "{{endpoint}} {{instance}}",
            ),
        ),
    ]
