"""What prometheus_client was told before us: metrics made too early, and a predecessor's private directory."""

from __future__ import annotations

import sys

from ..settings import forget_private_directory


def made_too_early() -> list[str]:
    """Names of the metrics in prometheus_client's default registry that are kept in the memory of one process."""
    if "prometheus_client" not in sys.modules:
        return []
    from prometheus_client import REGISTRY, metrics, values

    if getattr(values.ValueClass, "_multiprocess", False):
        return []  # the variable was set before the import: they are in files, and on the page
    names = []
    for collector in list(getattr(REGISTRY, "_collector_to_names", ())):
        if isinstance(collector, metrics.MetricWrapperBase):
            names += [family.name for family in collector.describe()]
    return sorted(names)


def forget_predecessor() -> None:
    """Have prometheus_client keep metrics in memory if its directory is the private one of a master before this one.

    A master that is replaced hands on its environment. Where this server sets up no application metrics, its processes
    would write into a directory that goes with the other one.
    """
    if forget_private_directory() and "prometheus_client.values" in sys.modules:
        from prometheus_client import values

        values.ValueClass = values.MutexValue
