"""A WSGI application that calls the function named by the path, which hangs."""

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


def app(environ, start_response):
    hang = globals().get(environ["PATH_INFO"][1:])
    if hang is not None:
        hang()
    body = str(os.getpid()).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
