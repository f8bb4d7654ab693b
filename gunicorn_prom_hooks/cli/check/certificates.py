"""The time in which a certificate is valid, found out by a handshake in memory: ssl reads no dates from a file."""

from __future__ import annotations

import contextlib
import ssl
from typing import Final

_NOT_YET_VALID, _EXPIRED = 9, 10
"""OpenSSL's codes."""
_MAX_STEPS: Final = 10


def find_date_problem(certfile: str, server: ssl.SSLContext) -> str:
    """Return what is wrong with the dates of a certificate; empty if nothing is.

    Args:
        certfile: PEM file with the chain.
        server: context that has loaded it.
    """
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    # The certificate itself is trusted: only its dates matter here, and not its authority.
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    client.load_verify_locations(certfile)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = client.wrap_bio(to_client, to_server), server.wrap_bio(to_server, to_client, server_side=True)
    try:
        for _ in range(_MAX_STEPS):
            for end in ends:
                with contextlib.suppress(ssl.SSLWantReadError):
                    end.do_handshake()
    except ssl.SSLCertVerificationError as error:
        return error.verify_message if error.verify_code in (_NOT_YET_VALID, _EXPIRED) else ""
    except ssl.SSLError:
        return ""  # the server asks this client for a certificate: its own was accepted
    return ""
