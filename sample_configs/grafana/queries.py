"""Parts of queries that several panels share."""

from __future__ import annotations

SERVERS = 'job=~"$job", instance=~"$instance"'
"""Selects the series of the chosen servers."""
ENDPOINTS = f'{SERVERS}, endpoint=~"$endpoint"'
"""Selects the series of the chosen servers and endpoints."""
UNEXPECTED = 'reason!~"max_requests|reload|scale_down|shutdown"'
"""Selects worker exits that the master did not request. Series at zero are among them, so a sum begins at 0."""


def rate(metric: str, by: str = "", where: str = SERVERS) -> str:
    """Return the rate of a counter, summed by server and by these labels. The rate is taken before the sum."""
    return f"{per_server('sum', by)} (rate({metric}{{{where}}}[$__rate_interval]))"


def events(metric: str, by: str = "", where: str = SERVERS, *, zeros: bool = False) -> str:
    """Return the number of events since the previous point of a graph, by server and by these labels.

    Each event counts once, at one point. A series that has appeared since then counts with its value, since it appears
    with its first event. So does one that is less than before, since its server has started again.
    """
    series = f"{metric}{{{where}}}"
    return f"{per_server('sum', by)} (({series} - {series} offset $__interval) >= 0 or {series})" + (
        "" if zeros else " > 0"
    )


def events_in_range(metric: str, by: str, where: str = SERVERS) -> str:
    """Return the number of events in the time range, by server and by these labels.

    The increase of a series does not include its first event. So a series that is younger than the time range counts
    with its value.
    """
    series = f"{metric}{{{where}}}"
    young = f"({series} unless {series} offset $__range)"
    return f"{per_server('sum', by)} ({young} or increase({series}[$__range])) > 0"


def quantile(share: float, histogram: str, by: str = "", where: str = SERVERS) -> str:
    """Return a quantile of a histogram, by server and by these labels. Without observations there is no value."""
    return f"histogram_quantile({share:g}, {rate(f'{histogram}_bucket', f'{by}, le'.lstrip(', '), where)}) >= 0"


def per_server(aggregation: str, by: str = "") -> str:
    """Return an aggregation by server and by these labels, up to the expression in parentheses."""
    return f"{aggregation} by ({', '.join(filter(None, ('job', 'instance', by)))})"


CAPACITY_USED = (
    f"{rate('gunicorn_worker_busy_seconds_total')} / {per_server('sum')} (gunicorn_requests_capacity{{{SERVERS}}})"
)
"""The used part of the threads or connections. Event loops without a limit have no value."""
_LAG = "gunicorn_worker_event_loop_lag_seconds"
IN_TIME = f'{SERVERS}, le="0.005"'
LOOP_BUSY = f"1 - {rate(f'{_LAG}_bucket', where=IN_TIME)} / {rate(f'{_LAG}_count')}"
"""The share of time in which an event waits more than 5 ms for the event loop. Only event loops have a value."""
FULL = (
    f'{per_server("max")} (label_replace({CAPACITY_USED}, "of", "requests", "", "")'
    f' or label_replace({LOOP_BUSY}, "of", "event loop", "", ""))'
)
"""How full each server is, whatever its worker class."""
_WAITING = "gunicorn_listener_backlog|gunicorn_listener_waiting_connections"
WAITING = f'{per_server("sum")} ({{__name__=~"{_WAITING}", {SERVERS}}})'
"""The connections that wait in the accept queue or inside workers."""
