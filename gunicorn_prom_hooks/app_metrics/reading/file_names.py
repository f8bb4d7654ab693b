"""What the name of a file says: the type of the metrics in it, a gauge's mode, and the process that writes it."""

from __future__ import annotations

from typing import NamedTuple

_TYPES = frozenset({"counter", "histogram", "summary"})
_MODES = frozenset({"all", "sum", "min", "max", "mostrecent"})
_LIVE = "live"
GAUGES = tuple(f"gauge_{live}{mode}" for live in ("", _LIVE) for mode in sorted(_MODES))
KINDS = (*sorted(_TYPES), *GAUGES)
"""What a name may begin with, before the process."""


class FileName(NamedTuple):
    """A name taken apart; ``mode`` is a gauge's, without ``live``, and empty for all other types."""

    typ: str
    mode: str
    live: bool
    identity: str


def parse_name(name: str) -> FileName | None:
    """Return the parts of the name; None if it is not a name of prometheus_client's."""
    if not name.endswith(".db"):
        return None
    typ, separator, identity = name[: -len(".db")].partition("_")
    if typ != "gauge":
        return FileName(typ, "", False, clean(identity)) if separator and typ in _TYPES else None
    mode, separator, identity = identity.partition("_")
    live = mode.startswith(_LIVE)
    mode = mode.removeprefix(_LIVE)
    return FileName(typ, mode, live, clean(identity)) if separator and mode in _MODES else None


def clean(text: str) -> str:
    """Return the text without lone surrogates, which cannot be encoded."""
    return text.encode(errors="replace").decode()
