"""A shop with metrics of its own that also fails, waits, and blocks its thread while the file ``block`` exists."""

from __future__ import annotations

import random
import time

from tests.helpers.applications import blocking_wsgi, default, shop


def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path.startswith(("/order", "/set/")):
        time.sleep(random.expovariate(1 / 0.008))
        return shop.app(environ, start_response)
    if path == "/block":
        return blocking_wsgi.app(environ, start_response)
    if path == "/report":
        time.sleep(random.uniform(0.1, 0.4))
    return default.app(environ, start_response)
