"""A small WSGI application to see metrics with: something fast, slow, failing and streaming."""

import random
import time


def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/":
        return answer(start_response, "200 OK", "Try /items/7, /slow, /fail, /unavailable, /stream.\n")
    if path.startswith("/items/"):
        return answer(start_response, "200 OK", f"item {path.removeprefix('/items/')}\n")
    if path == "/slow":
        time.sleep(random.uniform(0.2, 1.2))
        return answer(start_response, "200 OK", "that took a while\n")
    if path == "/fail":
        raise RuntimeError("this endpoint always fails")
    if path == "/unavailable":
        return answer(start_response, "503 Service Unavailable", "try again later\n")
    if path == "/stream":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return stream()
    return answer(start_response, "404 Not Found", "no such page\n")


def answer(start_response, status, text):
    body = text.encode()
    start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def stream():
    for number in range(10):
        time.sleep(0.05)
        yield f"line {number}\n".encode()
