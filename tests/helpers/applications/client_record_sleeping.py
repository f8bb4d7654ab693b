"""The application of the client record, WSGI, whose ``/sleep`` takes half a second."""

from __future__ import annotations

import time

from tests.helpers.applications import client_record_wsgi


def app(environ, start_response):
    if environ["PATH_INFO"] == "/sleep":
        time.sleep(0.5)
    return client_record_wsgi.app(environ, start_response)
