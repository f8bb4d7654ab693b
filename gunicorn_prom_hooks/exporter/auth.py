"""Who may read the metrics: a bearer token, a user and password, or everybody."""

from __future__ import annotations

import base64
import binascii
import hmac
from typing import Final

_REALM: Final = 'realm="gunicorn metrics"'


class Credentials:
    """What a client has to send. Either is enough where both are set.

    Args:
        token: of the scheme Bearer; empty: none.
        basic_auth: ``user:password`` of the scheme Basic; empty: none.
    """

    def __init__(self, token: str = "", basic_auth: str = "") -> None:
        self._token = token.encode()
        self._basic = basic_auth.encode()

    @property
    def wanted(self) -> bool:
        """Whether a client has to send anything."""
        return bool(self._token or self._basic)

    @property
    def challenges(self) -> tuple[str, ...]:
        """Values of ``WWW-Authenticate``, one per scheme that is accepted."""
        bearer = (f"Bearer {_REALM}",) if self._token else ()
        return (*bearer, f'Basic {_REALM}, charset="UTF-8"') if self._basic else bearer

    def admit(self, authorization: str) -> bool:
        """Whether a request with this header ``Authorization`` is let in. Takes as long for a near miss as for any."""
        if not self.wanted:
            return True
        scheme, _, value = authorization.partition(" ")
        given = value.strip().encode("latin-1", "replace")
        if scheme.lower() == "bearer" and self._token:
            return hmac.compare_digest(given, self._token)
        if scheme.lower() == "basic" and self._basic:
            try:
                return hmac.compare_digest(base64.b64decode(given, validate=True), self._basic)
            except binascii.Error:
                return False
        return False
