"""What the exporter serves beside the metrics: a body and what HTTP says about it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Response(NamedTuple):
    """An answer with status 200.

    Attributes:
        body: as it is sent.
        content_type: header of that name.
        headers: further headers.
    """

    body: bytes
    content_type: str
    headers: Mapping[str, str]
