"""A WSGI application that answers with the request body twice, or with the file ``five``."""

from __future__ import annotations


def app(environ, start_response):
    if environ["PATH_INFO"] == "/file":
        start_response("200 OK", [("Content-Length", "5000")])
        return environ["wsgi.file_wrapper"](open("five", "rb"))
    read = environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Length", str(2 * len(read)))])
    return [read, read]
