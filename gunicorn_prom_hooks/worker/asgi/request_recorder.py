"""The requests of an ASGI application: what the scope and the messages tell becomes the neutral start and finish."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Mapping
from time import monotonic
from typing import Any, Final

from ...errors import ErrorReporter
from ...shm.schema import ERROR_HANDLING, UNKNOWN_SIZE
from ..recording.exceptions import CLIENT_GONE
from ..recording.headers import size_of_length
from ..recording.labels import Resolve
from ..recording.recorder import Recorder
from ..recording.requests import NO_STATUS, UNRESOLVED, Requests, StartedRequest
from .disconnects import error_type_of

_BODY_HEADERS: Final = frozenset({b"content-length", b"transfer-encoding"})
_WITHOUT_RESPONSE: Final = (SystemExit, KeyboardInterrupt, GeneratorExit, CancelledError)
BODILESS: Final = (204, 304)
"""Statuses of responses without a body."""
INCOMPLETE: Final = "IncompleteResponse"
"""error_type of a response that the application began and did not end, without an exception."""


class AsgiRequests(Requests):
    """The requests of one ASGI worker.

    Args:
        recorder: where requests are recorded.
        resolve: names the endpoint, from the scope; None: the path does.
        errors: where failures are reported.
        queue_header: name, in lower case, of the header with the time at which a proxy passed the request on.
    """

    def __init__(
        self, recorder: Recorder, resolve: Resolve | None, errors: ErrorReporter, queue_header: bytes | None
    ) -> None:
        super().__init__(recorder, resolve, errors, "asgi", handles_errors=True)
        self.queue_header = queue_header
        self.header_names = _BODY_HEADERS if queue_header is None else _BODY_HEADERS | {queue_header}
        """Names of the headers that are read."""

    def begin(self, scope: Mapping[str, Any], started: float) -> StartedRequest | None:
        """Record the start of a request or handshake, see ``start``."""
        path, root = scope.get("path", ""), scope.get("root_path")
        is_excluded = self.recorder.is_excluded
        # uvicorn puts the root path in front of what the client has sent.
        if is_excluded is not None and root and path.startswith(root) and is_excluded(path[len(root) :]):
            return None
        return self.start(scope.get("method", "GET"), path, started)

    def end(
        self,
        scope: Mapping[str, Any],
        request: StartedRequest,
        status: int,
        sent: int | None,
        app_status: int,
        error_type: str | None = None,
        label: str | None = UNRESOLVED,
    ) -> None:
        """Record the end of a request.

        Args:
            scope: of the request, by now with what the framework has put into it.
            request: as ``begin`` returned it.
            status: the status that the client saw.
            sent: bytes of the response's body; None if unknown.
            app_status: the status that the application set; 0 if it set none.
            error_type: of the exception that ended it, or None.
            label: the endpoint as the user or the framework names it, if that is known already.
        """
        is_bodiless = status in BODILESS or request.method == "HEAD"
        headers = self._headers(scope)
        received = 0, 0
        if b"content-length" in headers:
            received = size_of_length(headers[b"content-length"])
        elif b"transfer-encoding" in headers:
            received = 0, UNKNOWN_SIZE
        self.finish(
            request,
            scope,
            status,
            0 if is_bodiless else sent,  # the server sends no body, whatever the application sends
            app_status=app_status,
            received=received,
            queue_stamp=None if self.queue_header is None else headers.get(self.queue_header),
            error_type=error_type,
            label=label,
            keep=not is_bodiless,  # on the fast path the application's body would be taken for one that was sent
        )

    def broken_off(
        self,
        scope: Mapping[str, Any],
        request: StartedRequest,
        app_status: int,
        sent: int,
        left: bool,
        exc: BaseException | None = None,
        *,
        answered: bool = False,
        unsent: bool = False,
    ) -> None:
        """Record the end of a request whose response was not complete when the application returned or raised.

        Args:
            scope: of the request.
            request: as ``begin`` returned it.
            app_status: the status that the application set; 0 if it set none.
            sent: bytes of the body, so far.
            left: whether the client disconnected.
            exc: what the application raised.
            answered: whether the server responds even to an exception that ends a task or the worker.
            unsent: whether the client has got nothing of the response.
        """
        seen = NO_STATUS if unsent or not app_status else app_status
        if left:
            self.end(scope, request, CLIENT_GONE, sent, app_status)
        elif exc is None:
            self.end(scope, request, seen, sent, app_status, INCOMPLETE if app_status else None)
        elif answered or not isinstance(exc, _WITHOUT_RESPONSE):
            self.end(scope, request, seen, sent, app_status, error_type_of(exc))
        # Else there is no response: the worker exits, and the request stays in the in-flight table.

    def refused(self, scope: Mapping[str, Any], request: StartedRequest, app_status: int, exc: BaseException) -> None:
        """Count the failure of a request that was counted as the last message of its response was handed to the server.

        The server has refused that message, or a middleware has sent it after a failure: the client has not got the
        whole response.

        Args:
            scope: of the request.
            request: as ``begin`` returned it.
            app_status: the status that the application set. A request with a 5xx is a failed one already.
            exc: what came out of the application.
        """
        if app_status < 500:
            self.failed(scope, request.method, app_status, error_type_of(exc))

    def refused_by_hook(self, req: Any, exc: BaseException) -> None:
        """Record a request for which the user's ``pre_request`` has raised, as gunicorn answers it.

        Args:
            req: gunicorn's.
            exc: what the hook raised.
        """
        try:
            request = self.start(req.method, req.path, monotonic())
            if request is not None:
                self.finish(request, {}, NO_STATUS, None, error_type=error_type_of(exc), label=None, keep=False)
        except Exception:  # noqa: BLE001 - the exception of the hook is to reach gunicorn
            self.errors.report("asgi")

    def failed(self, scope: Mapping[str, Any], method: str, app_status: int | None, error_type: str) -> None:
        """Count an exception of the application, or of the server, that belongs to no request in progress."""
        try:
            label = None if self.resolve is None else self.resolve(scope)
            labels = self.naming.failed(method, scope["path"], app_status, label, error_type)
            self.recorder.count(ERROR_HANDLING, *labels, self.recorder.error_type(error_type))
        except Exception:  # noqa: BLE001 - the next request must be served
            self.errors.report("asgi")

    def _headers(self, scope: Mapping[str, Any]) -> dict[bytes, str]:
        """Return the headers that are read; none if the application has replaced them with something else."""
        try:
            headers = dict(scope["headers"])
            return {name: headers[name].decode("latin-1") for name in self.header_names if name in headers}
        except Exception:  # noqa: BLE001 - an application may do that
            self.errors.report("asgi")
            return {}
