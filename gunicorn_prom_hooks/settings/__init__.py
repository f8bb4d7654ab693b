"""The settings: keyword over environment over default, checked before the server starts."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final

from ..paths import PathPattern
from .checks import CHECKS, MULTIPROC_DIR, Endpoint, InvalidSetting

__all__ = [
    "DEFAULT_DURATION_BUCKETS",
    "MULTIPROC_DIR",
    "Endpoint",
    "InvalidSetting",
    "Settings",
    "announce_directory",
    "client_credentials",
    "load",
    "named_directory",
]

_OLD_MULTIPROC_DIR = "prometheus_multiproc_dir"
"""The deprecated name, which prometheus_client still reads."""
DEFAULT_DURATION_BUCKETS: Final = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5),
    *(0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0, 60.0),
)
"""Upper bounds in seconds."""
_KUBERNETES_PREFIX = "tcp://"
"""The beginning of what Kubernetes sets PROMETHEUS_METRICS_PORT to, for a Service named prometheus-metrics."""


@dataclass(frozen=True)
class Settings:
    """The settings, checked and ready for use.

    Attributes:
        port: TCP port of the exporter, 1 to 65535; 0: no exporter.
        address: IP address to bind, or a host name, of which every address is bound.
        endpoint: the user's callable, or None.
        max_endpoints: maximum number of values of the label ``endpoint``, 1 to 10,000; further ones become ``<other>``.
            Each adds 4 KB and 0.3 ms of CPU to a scrape for each of its methods: 10,000 with one method are 44 MB and
            3 s.
        worker_label: ``age``: worker_id is ``worker_<age>_<timestamp>``; ``slot``: ``worker_<slot>``.
        queue_header: request header with the time at which a proxy forwarded the request; empty: none is read.
        app_metrics: whether the application's own metrics are exposed. Read at the start, not at a reload.
        multiproc_dir: directory for these; empty: a private one; None: the one that the environment names. Read at the
            start, not at a reload.
        duration_buckets: upper bounds in seconds of the histograms of requests, 1 to 50, ascending, without +Inf. Those
            of the per-worker histogram are fixed. Read at the start, not at a reload.
        size_histograms: whether the sizes of request and response bodies are counted.
        exclude: paths of requests that are not recorded at all; ``*`` stands for any characters. Or compiled regular
            expressions, which match whole paths.
        labels: names and values of labels that are added to every series.
        created_timestamps: whether counters and histograms have ``_created`` samples in the OpenMetrics format.
        status_page: whether the exporter serves a status page.
        certfile: PEM file with the certificate chain of the exporter; empty: plain HTTP.
        keyfile: PEM file with its private key; empty: it is in ``certfile``.
        client_cafile: PEM file with the authorities whose client certificates are accepted; empty: none is required.
        token: bearer token that a client must send; empty: none.
        basic_auth: ``user:password`` that a client may send instead; empty: none.
    """

    port: int = 9091
    address: str = "127.0.0.1"
    endpoint: Endpoint | None = None
    max_endpoints: int = 200
    worker_label: str = "age"
    queue_header: str = "X-Request-Start"
    app_metrics: bool = True
    multiproc_dir: str | None = None
    duration_buckets: tuple[float, ...] = DEFAULT_DURATION_BUCKETS
    size_histograms: bool = True
    exclude: tuple[PathPattern, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    created_timestamps: bool = False
    status_page: bool = True
    certfile: str = ""
    keyfile: str = ""
    client_cafile: str = ""
    token: str = field(default="", repr=False)
    basic_auth: str = field(default="", repr=False)


def load(given: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> Settings:
    """Return the settings from ``install``'s keywords and the environment.

    Raises:
        InvalidSetting: a setting is unknown or its value is not allowed.
    """
    if MULTIPROC_DIR not in environ:
        environ = {**environ, MULTIPROC_DIR: named_directory(environ)}
    known = {field.name for field in fields(Settings)}
    for name in given:
        if name not in known:
            raise InvalidSetting(f"gunicorn_prom_hooks: no setting {name!r}; allowed are {', '.join(sorted(known))}")
    values = {}
    for name, (variable, check) in CHECKS.items():
        if name in given:
            values[name] = _checked(check, f"setting {name}", given[name])
        elif environ.get(variable) and not environ[variable].startswith(_KUBERNETES_PREFIX):
            what = f"setting {name} (environment variable {variable})"
            values[name] = _checked(check, what, environ[variable])
    for name in ("keyfile", "client_cafile"):
        if values.get(name) and not values.get("certfile"):
            raise InvalidSetting(f"gunicorn_prom_hooks: setting {name} requires certfile")
    return Settings(**values)


def _checked(check: Callable[[str, Any], Any], what: str, value: Any) -> Any:
    """Return the checked value.

    Raises:
        InvalidSetting: it is not allowed, or so odd that the check fails.
    """
    try:
        return check(what, value)
    except InvalidSetting:
        raise
    except Exception as error:
        raise InvalidSetting(
            f"gunicorn_prom_hooks: {what}: the value cannot be used: {type(error).__name__}"
        ) from error


def client_credentials(environ: Mapping[str, str] = os.environ) -> tuple[str, str]:
    """Return token and ``user:password`` of this environment, unchecked; empty if there are none."""
    token, basic_auth = (environ.get(CHECKS[name][0], "").strip() for name in ("token", "basic_auth"))
    return token, basic_auth


def named_directory(environ: Mapping[str, str] = os.environ) -> str:
    """Return the directory that prometheus_client finds in this environment; empty if there is none."""
    return environ.get(MULTIPROC_DIR) or environ.get(_OLD_MULTIPROC_DIR, "")


def announce_directory(path: str) -> None:
    """Set the directory for prometheus_client, in this process and those that it forks."""
    if os.environ.get(MULTIPROC_DIR) != path:
        os.environ[MULTIPROC_DIR] = path
