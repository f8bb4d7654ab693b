"""Many servers in one process, told by their address on the loopback interface, each with a page that grows.

Run as ``python -m benchmarks.simulated_servers PORT FOLDER``. The folder has two recorded pages, ``first`` and
``second``. ``/metrics`` at 127.1.0.1, 127.1.0.2 and so on is the page of a server of its own.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import uvicorn

from benchmarks.recorded_pages import OPENMETRICS, following

PAGES = 240
"""Before a server starts again with the first page, as if it had been restarted."""
HEADERS = [(b"content-type", f"{OPENMETRICS}; charset=utf-8".encode()), (b"content-encoding", b"gzip")]


def address(number: int) -> str:
    """Return the address of the server of that number."""
    return f"127.1.{number // 250}.{1 + number % 250}"


class Servers:
    """The application. The next page of a server is the one that follows its last."""

    def __init__(self, pages: list[bytes]) -> None:
        self._pages = pages
        self._scrapes: defaultdict[str, int] = defaultdict(int)

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Answer a scrape."""
        host = scope["server"][0]
        body = self._pages[self._scrapes[host] % len(self._pages)]
        self._scrapes[host] += 1
        headers = [*HEADERS, (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def main() -> None:
    """Serve until the end."""
    port, folder = int(sys.argv[1]), Path(sys.argv[2])
    pages = following((folder / "first").read_text(), (folder / "second").read_text(), PAGES)
    uvicorn.run(
        Servers(pages),
        host="0.0.0.0",
        port=port,
        lifespan="off",
        log_level="warning",
        access_log=False,
        backlog=4096,
        timeout_keep_alive=120,
    )


if __name__ == "__main__":
    main()
