"""The default application, whose ``/wait/NAME`` wait until the file ``go`` exists."""

from __future__ import annotations

import os
import time

from tests.helpers.applications import default


def app(environ, start_response):
    while environ["PATH_INFO"].startswith("/wait/") and not os.path.exists("go"):
        time.sleep(0.05)
    return default.app(environ, start_response)
