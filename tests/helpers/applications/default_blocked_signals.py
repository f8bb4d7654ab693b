"""The default application, whose ``/hang`` blocks the signals that end a worker."""

from __future__ import annotations

import signal

from tests.helpers.applications import default


def app(environ, start_response):
    if environ["PATH_INFO"] == "/hang":
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGQUIT, signal.SIGINT, signal.SIGTERM})
    return default.app(environ, start_response)
