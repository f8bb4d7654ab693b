"""A WSGI application that sends the file ``five`` without a Content-Length."""

from __future__ import annotations


def app(environ, start_response):
    start_response("200 OK", [])
    return environ["wsgi.file_wrapper"](open("five", "rb")) if environ["PATH_INFO"] == "/file" else [b"ok"]
