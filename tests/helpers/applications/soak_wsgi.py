"""The application of the soak, WSGI."""

from __future__ import annotations

import time

from tests.helpers.applications import soak_record


def app(environ, start_response):
    status, seconds, body = soak_record.begin(environ["REQUEST_METHOD"], environ["PATH_INFO"], environ["QUERY_STRING"])
    with soak_record.finished.time():
        while environ["wsgi.input"].read(65536):
            pass
        time.sleep(seconds)
        start_response(f"{status} Said", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
        return [body]
