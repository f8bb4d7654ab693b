"""A function called in a forked child."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any


def in_fork(function: Callable[[], object], *, returns: bool = True) -> Any:
    """Return the result of the function in a forked child, as JSON has it, once the child has exited.

    Args:
        function: called in the child.
        returns: False: the function closes all descriptors of the child, and its result is lost.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writing, json.dumps([os.getpid(), function()]).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        data = pipe.read()
    os.waitpid(pid, 0)
    if not returns:
        assert data == b""
        return None
    child, found = json.loads(data)
    assert child == pid
    return found
