"""The line in the log about a worker's death: who, how, and in the middle of what."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ..model.exits import ExitReason
from ..model.requests import InFlightRequest
from ..paths import escape_unprintable

MAX_REQUESTS: Final = 3
"""So many requests are named, the oldest ones."""


def obituary(
    pid: object,
    worker_id: str,
    how: tuple[ExitReason, str],
    requests: Sequence[InFlightRequest],
    unnamed: int,
    now: float,
) -> str:
    """One line of plain text.

    Args:
        pid: of the worker.
        worker_id: the label.
        how: reason and detail.
        requests: those it died on, oldest first.
        unnamed: how many more there were.
        now: monotonic seconds.
    """
    named = [
        f"{escape_unprintable(request.method)} {escape_unprintable(request.path)} "
        f"({max(0.0, now - request.start):.3f} s in flight)"
        for request in requests[:MAX_REQUESTS]
    ]
    others = len(requests) - len(named) + unnamed
    if others:
        named.append(f"{others} other request{'s' if others > 1 else ''}")
    what = ", ".join(named) or "no request"
    return f"gunicorn_prom_hooks: worker {worker_id} (pid:{pid}) ended: {how[0]} ({how[1]}), in the middle of {what}"
