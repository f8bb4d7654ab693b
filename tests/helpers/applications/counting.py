"""A WSGI application that counts its requests in a metric and answers with its user id."""

from __future__ import annotations

import os

from prometheus_client import Counter

served = Counter("served", "Requests that the application has seen.")


def app(environ, start_response):
    served.inc()
    body = f"{os.getuid()} VERSION".encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
