"""Flask: its request object stands in the environ and knows the rule that matched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MODULE = "flask"


def route(environ: Mapping[str, Any]) -> str | None:
    """The URL rule, such as ``/items/<int:id>``; None if no rule matched."""
    request = environ.get("werkzeug.request")
    rule = getattr(request, "url_rule", None)
    return None if rule is None else rule.rule
