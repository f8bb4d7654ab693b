"""The default application, with ``/spin``, which stops the heartbeat of each worker class."""

from __future__ import annotations

import os
import signal
import threading
import time

from tests.helpers.applications import default

LONGEST_SECONDS = 60


def spin(*_signal):
    """Use the processor. A sleep would let another greenlet, and with it the heartbeat, go on."""
    deadline = time.monotonic() + LONGEST_SECONDS
    while time.monotonic() < deadline:
        pass


signal.signal(signal.SIGUSR2, spin)


def app(environ, start_response):
    if environ["PATH_INFO"] == "/spin":
        if threading.get_native_id() != os.getpid():
            os.kill(os.getpid(), signal.SIGUSR2)  # the heartbeat of a gthread worker comes from its main thread
        spin()
    return default.app(environ, start_response)
