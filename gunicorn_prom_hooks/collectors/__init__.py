"""Collectors: from a snapshot of the server to numbers, and from the numbers to families of metrics."""

from .registry import MetricsPage

__all__ = ["MetricsPage"]
