"""An ASGI application that calls the function named by the path, which hangs."""

from __future__ import annotations

import ctypes
import os
import re


def in_a_loop():
    while True:
        pass


def in_an_extension():
    sum(range(10**15))


def in_a_regular_expression():
    re.match("(a+)+b", "a" * 60)


def in_a_call():
    ctypes.PyDLL(None).sleep(1000)


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    hang = globals().get(scope["path"][1:])
    if hang is not None:
        hang()
    body = str(os.getpid()).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})
