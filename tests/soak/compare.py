"""Failures of clients beside those of gunicorn without this package, under the same plan."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

DEVIATIONS: Final = 4.0
CLUSTER: Final = 4.0
"""How many requests one event fails at once: those that a worker has accepted, of clients that are eight in all."""


def most(bare: int, requests: int, bare_requests: int) -> float:
    """Return how many failures are no more than chance.

    As many for each request as without this package, and four standard deviations of the difference of two such
    counts, whose failures come in clusters. With none in the other run this allows 16.
    """
    expected = bare * requests / max(1, bare_requests)
    return expected + DEVIATIONS * math.sqrt(CLUSTER * (2 * expected + CLUSTER))


def more_failures(failures: Mapping[str, int], requests: int, bare: Mapping[str, int], bare_requests: int) -> list[str]:
    """Return the kinds of failures of which there are more than without this package."""
    problems = []
    for kind, count in sorted(failures.items()):
        allowed = most(bare.get(kind, 0), requests, bare_requests)
        if count > allowed:
            problems.append(
                f"clients saw {count} times {kind!r} in {requests} requests; without this package "
                f"{bare.get(kind, 0)} in {bare_requests}; allowed {allowed:.0f}"
            )
    return problems
