"""A WSGI application that takes the locks which a fork could have left locked."""

from __future__ import annotations

import hashlib
import logging
import ssl


def app(environ, start_response):
    # What a lock that was held during the fork would make hang.
    logging.getLogger("app").info("x")
    ssl.RAND_bytes(8)
    ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    hashlib.new("sha512", b"x").hexdigest()
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
