"""The checks of the settings' values, and their environment variables."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_address
from itertools import pairwise
from math import inf
from typing import Any, Final, cast

from ..paths import PathPattern

Endpoint = Callable[[Mapping[str, Any]], "str | None"]
"""The user's ``endpoint``: from WSGI environ or ASGI scope, after the request, to a label value; None: the default."""

MULTIPROC_DIR = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable in which prometheus_client looks for the directory."""
MAX_DURATION_BUCKETS: Final = 50
MAX_LABELS: Final = 20
MAX_PATTERNS: Final = 100
LABEL_NAMES: Final = frozenset(
    (
        *("collector", "detail", "endpoint", "error_type", "instance", "job", "label", "le", "level", "listener"),
        *("method", "mode", "quantile", "reason", "state", "status", "timestamp", "where", "worker_id"),
    )
)
"""Names of labels that series of this package have, those that only describe a server or worker excepted, or that
Prometheus adds."""
_MAX_TEXT: Final = 256
"""Characters of a label value and of a pattern."""
_HOSTNAME = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9-]{1,63}(?<!-))*\.?")


class InvalidSetting(SystemExit):
    """An invalid setting. The text is one line with the setting, the value and what is allowed.

    A ``SystemExit``, because gunicorn prints a traceback for any other exception in a config file.
    """


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


def _items(value: Any) -> Sequence[Any] | None:
    """Return the items of a list, or of a text in which commas separate them; None for anything else."""
    if isinstance(value, str):
        return [item.strip() for item in value.split(",") if item.strip()]
    return list(value) if isinstance(value, (list, tuple, set, frozenset)) else None


def _duration_buckets(what: str, value: Any) -> tuple[float, ...]:
    try:
        found = list(map(float, _items(value) or ()))
    except (OverflowError, TypeError, ValueError):
        found = []
    bounds = found[:-1] if found and found[-1] == inf else found
    ascending = all(low < high for low, high in pairwise((0.0, *bounds, inf)))
    if not ascending or not 1 <= len(bounds) <= MAX_DURATION_BUCKETS:
        raise _refuse(
            what, value, f"1 to {MAX_DURATION_BUCKETS} ascending numbers of seconds above 0, such as 0.1,0.5,2"
        )
    return tuple(bounds)


def _exclude(what: str, value: Any) -> tuple[PathPattern, ...]:
    patterns = [value] if isinstance(value, re.Pattern) else _items(() if value is None else value)
    if patterns is None or len(patterns) > MAX_PATTERNS or not all(map(_is_pattern, patterns)):
        raise _refuse(what, value, f"at most {MAX_PATTERNS} paths that begin with / or *, such as /healthz,/static/*")
    return tuple(patterns)


def _is_pattern(pattern: Any) -> bool:
    if isinstance(pattern, re.Pattern):
        return isinstance(pattern.pattern, str)
    return isinstance(pattern, str) and pattern[:1] in ("/", "*") and len(pattern) <= _MAX_TEXT


def _labels(what: str, value: Any) -> Mapping[str, str]:
    pairs: Sequence[tuple[Any, Any]] | None = None
    if value is None:
        pairs = []
    elif isinstance(value, Mapping):
        pairs = list(value.items())
    elif isinstance(value, str):
        texts = (item.partition("=") for item in _items(value) or ())
        pairs = [(name.strip(), text.strip()) for name, _, text in texts]
    if pairs is None or len(pairs) > MAX_LABELS:
        raise _refuse(what, value, f"at most {MAX_LABELS} names and values, such as env=prod,zone=a")
    found = {}
    for name, text in pairs:
        if name in found or not _is_name(name):
            raise _refuse(what, name, "the name of a label that no metric has, given once: ASCII letters, digits, _")
        if not _is_text(text):
            raise _refuse(what, text, f"the text of a label value, of 1 to {_MAX_TEXT} printable characters")
        found[name] = text
    return found


def _is_name(name: Any) -> bool:
    if not isinstance(name, str) or name in LABEL_NAMES:
        return False
    return re.fullmatch(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*", name) is not None


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _MAX_TEXT and value.isprintable()


def _directory(what: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, (str, os.PathLike)) and "\0" not in (path := os.fspath(value)) and isinstance(path, str):
        return os.path.normpath(path) if path else ""  # gunicorn changes the directory only after the config file
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


CHECKS: Final[Mapping[str, tuple[str, Callable[[str, Any], Any]]]] = {
    "port": ("PROMETHEUS_METRICS_PORT", _whole(0, 65535, "a port from 1 to 65535, or 0 for no HTTP server")),
    "address": ("PROMETHEUS_BIND_ADDRESS", _address),
    "endpoint": ("", _endpoint),
    "max_endpoints": ("GUNICORN_PROM_MAX_ENDPOINTS", _whole(1, 10_000, "a whole number from 1 to 10000")),
    "worker_label": ("GUNICORN_PROM_WORKER_LABEL", _worker_label),
    "queue_header": ("GUNICORN_PROM_QUEUE_HEADER", _queue_header),
    "app_metrics": ("GUNICORN_PROM_APP_METRICS", _switch),
    "multiproc_dir": (MULTIPROC_DIR, _directory),
    "duration_buckets": ("GUNICORN_PROM_DURATION_BUCKETS", _duration_buckets),
    "size_histograms": ("GUNICORN_PROM_SIZE_HISTOGRAMS", _switch),
    "exclude": ("GUNICORN_PROM_EXCLUDE", _exclude),
    "labels": ("GUNICORN_PROM_LABELS", _labels),
    "created_timestamps": ("GUNICORN_PROM_CREATED_TIMESTAMPS", _switch),
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
