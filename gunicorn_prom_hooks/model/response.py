"""A response of the exporter other than the metrics: its body and its headers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Response(NamedTuple):
    """A response with status 200.

    Attributes:
        body: bytes as they are sent, before compression.
        content_type: value of the header ``Content-Type``.
        headers: further headers.
    """

    body: bytes
    content_type: str
    headers: Mapping[str, str]
