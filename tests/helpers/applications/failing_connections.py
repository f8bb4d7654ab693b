"""A WSGI application whose own pipes and connections break."""

from __future__ import annotations

import socket
import struct
import subprocess


def broken_pipe():
    with subprocess.Popen(["true"], stdin=subprocess.PIPE) as process:
        process.wait()
        assert process.stdin is not None
        process.stdin.write(b"x" * 100000)


def reset():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with socket.create_connection(listener.getsockname()) as upstream:
            peer, _ = listener.accept()
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.close()
            return upstream.makefile("rb")


def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/pipe":
        broken_pipe()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return environ["wsgi.file_wrapper"](reset()) if path == "/wrapped" else reset() if path == "/body" else [b"ok"]
