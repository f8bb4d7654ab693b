"""The trap: metrics that were made before prometheus_client was told where to keep them."""

from __future__ import annotations

import sys
import tempfile

from ..settings import announce_directory


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


def stand_aside(path: str) -> None:
    """Leave prometheus_client as it is without us, so that what the user's hooks and application do with it works.

    Args:
        path: the user's directory.
    """
    from prometheus_client import values

    announce_directory(path)
    try:
        tempfile.TemporaryFile(dir=path).close()
    except OSError:
        values.ValueClass = values.MutexValue  # prometheus_client would raise where the application makes metrics
        return
    if not getattr(values.ValueClass, "_multiprocess", False):
        # gunicorn sets raw_env later than we have imported this.
        values.ValueClass = values.get_value_class()  # type: ignore[no-untyped-call]
