"""The settings: keyword over environment over default, checked before the server starts."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from ipaddress import ip_address
from typing import Any, cast

Endpoint = Callable[[Mapping[str, Any]], "str | None"]
"""The user's ``endpoint``: from WSGI environ or ASGI scope, after the request, to a label value; None: the default."""

MULTIPROC_DIR = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable in which prometheus_client looks for the directory."""
_OLD_MULTIPROC_DIR = "prometheus_multiproc_dir"
"""The deprecated name, which prometheus_client still reads."""
_KUBERNETES_PREFIX = "tcp://"
"""The beginning of what Kubernetes sets PROMETHEUS_METRICS_PORT to, for a Service named prometheus-metrics."""
_HOSTNAME = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9-]{1,63}(?<!-))*\.?")


class InvalidSetting(SystemExit):
    """An invalid setting. The text is one line with the setting, the value and what is allowed.

    A ``SystemExit``, because gunicorn prints a traceback for any other exception in a config file.
    """


@dataclass(frozen=True)
class Settings:
    """The settings, checked and ready for use.

    Attributes:
        port: TCP port of the exporter, 1 to 65535; 0: no exporter.
        address: IP address to bind, or a host name, of which every address is bound.
        endpoint: the user's callable, or None.
        max_endpoints: maximum number of values of the label ``endpoint``, 1 to 10,000; further ones become ``<other>``.
            Each adds 4 KB and 0.3 ms of CPU to a scrape for each of its methods. So 10,000 with three methods are
            123 MB and 10 s, Prometheus' default ``scrape_timeout``.
        worker_label: ``age``: worker_id is ``worker_<age>_<timestamp>``; ``slot``: ``worker_<slot>``.
        queue_header: request header with the time at which a proxy forwarded the request; empty: none is read.
        app_metrics: whether the application's own metrics are exposed. Read at the start, not at a reload.
        multiproc_dir: directory for these; empty: a private one; None: the one that the environment names. Read at the
            start, not at a reload.
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
    for name, (variable, check) in _CHECKS.items():
        if name in given:
            values[name] = check(f"setting {name}", given[name])
        elif environ.get(variable) and not environ[variable].startswith(_KUBERNETES_PREFIX):
            values[name] = check(f"setting {name} (environment variable {variable})", environ[variable])
    for name in ("keyfile", "client_cafile"):
        if values.get(name) and not values.get("certfile"):
            raise InvalidSetting(f"gunicorn_prom_hooks: setting {name} requires certfile")
    return Settings(**values)


def named_directory(environ: Mapping[str, str] = os.environ) -> str:
    """Return the directory that prometheus_client finds in this environment; empty if there is none."""
    return environ.get(MULTIPROC_DIR) or environ.get(_OLD_MULTIPROC_DIR, "")


def announce_directory(path: str) -> None:
    """Set the directory for prometheus_client, in this process and those that it forks."""
    if os.environ.get(MULTIPROC_DIR) != path:
        os.environ[MULTIPROC_DIR] = path


def _refuse(what: str, value: object, allowed: str) -> InvalidSetting:
    return InvalidSetting(f"gunicorn_prom_hooks: {what}: {value!r} is not allowed; it must be {allowed}")


def _whole(low: int, high: int, allowed: str) -> Callable[[str, Any], int]:
    def check(what: str, value: Any) -> int:
        number = value
        if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value.strip()):
            number = int(value)
        if not isinstance(number, int) or isinstance(number, bool) or not low <= number <= high:
            raise _refuse(what, value, allowed)
        return number

    return check


def _address(what: str, value: Any) -> str:
    if isinstance(value, str):
        text = value.strip().removeprefix("[").removesuffix("]")
        try:
            return str(ip_address(text))
        except ValueError:
            if _HOSTNAME.fullmatch(text) and not re.fullmatch(r"[0-9.]*", text):
                return text
    raise _refuse(what, value, "an IP address or a host name, such as 127.0.0.1, :: or localhost")


def _endpoint(what: str, value: Any) -> Endpoint | None:
    if value is None:
        return None
    if callable(value):
        return cast("Endpoint", value)
    raise _refuse(what, value, "a callable that takes the WSGI environ or the ASGI scope, or None")


def _worker_label(what: str, value: Any) -> str:
    if value in ("age", "slot"):
        return str(value)
    raise _refuse(what, value, "'age' or 'slot'")


def _queue_header(what: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9-]{0,100}", value.strip()):
        return value.strip()
    raise _refuse(what, value, "the name of a header, of letters, digits and hyphens, or '' for none")


def _switch(what: str, value: Any) -> bool:
    words = {"1": True, "true": True, "on": True, "yes": True, "0": False, "false": False, "off": False, "no": False}
    switch = words.get(value.strip().lower()) if isinstance(value, str) else value
    if not isinstance(switch, bool):
        raise _refuse(what, value, "true or false")
    return switch


def _directory(what: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, (str, os.PathLike)) and "\0" not in (path := os.fspath(value)) and isinstance(path, str):
        return os.path.abspath(path) if path else ""
    raise _refuse(what, value, "the path of a directory, or '' for a private one")


def _file(what: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, (str, os.PathLike)) and isinstance(path := os.fspath(value), str) and "\0" not in path:
        return os.path.abspath(path) if path else ""
    raise _refuse(what, value, "the path of a PEM file, or None")


def _secret(pattern: str, allowed: str) -> Callable[[str, Any], str]:
    """Return the check of a setting whose value is never shown.

    An empty value is refused: as a rule it comes from a variable that is not set.
    """

    def check(what: str, value: Any) -> str:
        if value is None:
            return ""
        if isinstance(value, str) and re.fullmatch(pattern, value.strip()):
            return value.strip()
        raise InvalidSetting(
            f"gunicorn_prom_hooks: {what}: the value, not shown here, is not allowed; it must be {allowed}"
        )

    return check


_CHECKS: Mapping[str, tuple[str, Callable[[str, Any], Any]]] = {
    "port": ("PROMETHEUS_METRICS_PORT", _whole(0, 65535, "a port from 1 to 65535, or 0 for no HTTP server")),
    "address": ("PROMETHEUS_BIND_ADDRESS", _address),
    "endpoint": ("", _endpoint),
    "max_endpoints": ("GUNICORN_PROM_MAX_ENDPOINTS", _whole(1, 10_000, "a whole number from 1 to 10000")),
    "worker_label": ("GUNICORN_PROM_WORKER_LABEL", _worker_label),
    "queue_header": ("GUNICORN_PROM_QUEUE_HEADER", _queue_header),
    "app_metrics": ("GUNICORN_PROM_APP_METRICS", _switch),
    "multiproc_dir": (MULTIPROC_DIR, _directory),
    "status_page": ("GUNICORN_PROM_STATUS_PAGE", _switch),
    "certfile": ("PROMETHEUS_METRICS_CERTFILE", _file),
    "keyfile": ("PROMETHEUS_METRICS_KEYFILE", _file),
    "client_cafile": ("PROMETHEUS_METRICS_CLIENT_CAFILE", _file),
    "token": (
        "PROMETHEUS_METRICS_TOKEN",
        _secret(r"[!-~]{1,4096}", "1 to 4096 visible ASCII characters without a space, or None for no token"),
    ),
    "basic_auth": (
        "PROMETHEUS_METRICS_BASIC_AUTH",
        _secret(
            r"[^:\x00-\x1f\x7f]{1,1000}:[^\x00-\x1f\x7f]{1,1000}", "'user:password', neither of them empty, or None"
        ),
    ),
}
"""Environment variable (none if empty) and check of each setting."""
