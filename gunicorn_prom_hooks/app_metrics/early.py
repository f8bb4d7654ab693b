"""The trap: metrics that were made before prometheus_client was told where to keep them."""

from __future__ import annotations

import sys


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
