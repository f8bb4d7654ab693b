"""The resources of the status page: HTML, JSON, and the files of the page, with their headers."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pkgutil
from collections.abc import Callable, Mapping
from typing import Final

from ..model.response import Response
from ..model.server_snapshot import ServerSnapshot
from .builder import StatusBuilder, ignore_failure
from .page import render

_FILES: Final = {
    "status.css": "text/css; charset=utf-8",
    "status.js": "text/javascript; charset=utf-8",
    "status.svg": "image/svg+xml",
}
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_SAFE: Final = {
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_DATA: Final = {**_SAFE, "Cache-Control": "no-store"}
_CACHEABLE: Final = {**_SAFE, "Cache-Control": "max-age=3600"}
"""An hour. The page refers to a file by an address that changes with its content, so no old file is used."""


class StatusPage:
    """The page, its JSON and its files. Keeps a minute of totals for rates and latency. Used by one thread at a time.

    Attributes:
        paths: of all resources.

    Args:
        failed: called for each part of the page that fails, while the exception is handled.
    """

    paths: Final = ("/", "/status.json", *(f"/{name}" for name in _FILES))

    def __init__(self, failed: Callable[[], None] = ignore_failure) -> None:
        self._builder = StatusBuilder(failed=failed)
        self._files = {name: pkgutil.get_data(__package__ or "", name) or b"" for name in _FILES}
        self._versions = {name: hashlib.sha256(body).hexdigest()[:16] for name, body in self._files.items()}

    def resource(self, path: str, take_snapshot: Callable[[], ServerSnapshot]) -> Response | None:
        """Return the resource at this path, None if there is none.

        Args:
            path: of the request, without the query.
            take_snapshot: takes a snapshot of the server; called only for the paths that show it.
        """
        if path == "/":
            data = self._builder.build(take_snapshot())
            return Response(render(data, self._address), "text/html; charset=utf-8", _DATA)
        if path == "/status.json":
            data = self._builder.build(take_snapshot())
            return Response(_json(dataclasses.asdict(data)), "application/json", _DATA)
        name = path.removeprefix("/")
        if name != path and name in _FILES:
            headers = {**_CACHEABLE, "ETag": f'"{self._versions[name]}"'}
            return Response(self._files[name], _FILES[name], headers)
        return None

    def _address(self, name: str) -> str:
        """Return the address of a file, with its version."""
        return f"{name}?v={self._versions[name]}"


def _json(data: Mapping[str, object]) -> bytes:
    return json.dumps(data, separators=(",", ":")).encode("ascii") + b"\n"
