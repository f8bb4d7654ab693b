"""What prometheus_client has done before this package sets it up, and how it is left where this package does not."""

from __future__ import annotations

import sys
import tempfile

from ..settings import announce_directory


def made_too_early() -> list[str]:
    """Return the names of metrics in prometheus_client's default registry that are kept in one process's memory."""
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
    """Leave prometheus_client as it is without this package, for the user's hooks and application.

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
        # gunicorn sets raw_env after this package has imported prometheus_client.
        values.ValueClass = values.get_value_class()  # type: ignore[no-untyped-call]
