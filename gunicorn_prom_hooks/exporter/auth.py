"""Authentication of clients: by bearer token, by user and password, or none."""

from __future__ import annotations

import base64
import binascii
import hmac
from typing import Final

_REALM: Final = 'realm="gunicorn metrics"'


class Credentials:
    """Credentials that a client has to send. Where both are set, either is enough.

    Args:
        token: token of the scheme Bearer; empty: none.
        basic_auth: ``user:password`` for the scheme Basic; empty: none.
    """

    def __init__(self, token: str = "", basic_auth: str = "") -> None:
        self._token = token.encode()
        self._basic = basic_auth.encode()

    @property
    def wanted(self) -> bool:
        """Return whether a client has to send credentials."""
        return bool(self._token or self._basic)

    @property
    def challenges(self) -> tuple[str, ...]:
        """Return the values of ``WWW-Authenticate``, one per accepted scheme."""
        bearer = (f"Bearer {_REALM}",) if self._token else ()
        return (*bearer, f'Basic {_REALM}, charset="UTF-8"') if self._basic else bearer

    def admit(self, authorization: str) -> bool:
        """Return whether a header ``Authorization`` is accepted. Compares in constant time."""
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
