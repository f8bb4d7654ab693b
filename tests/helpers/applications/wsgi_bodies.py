"""A WSGI application with each kind of body."""

from __future__ import annotations

import ssl
import sys


def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/again":
        try:
            raise KeyError("again")
        except KeyError:
            start_response("503 Sorry", [], exc_info=sys.exc_info())
        return [b"sorry"]
    if path == "/partner":
        raise ssl.SSLCertVerificationError(1, "certificate has expired")
    start_response("200 OK", [])
    if path == "/generator":
        return (part for part in (b"ab", b"", b"cd"))
    return {"/": [b"ok"], "/list": [b"hello", b"", b"world"], "/tuple": (b"ab", b"cd", b"ef"), "/empty": []}[path]
