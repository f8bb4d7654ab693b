"""Checks of one real gunicorn that speaks HTTP/2, whatever its version."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable

import httpx

from tests.helpers.client_record import GONE
from tests.helpers.compatibility import ASGI
from tests.helpers.http2_client import Streams, TlsServer, ask_on_streams
from tests.helpers.matrix_checks import ANSWER_SECONDS, Cell, clean_log
from tests.helpers.places import APPLICATIONS
from tests.helpers.servers import eventually

WSGI_APP, ASGI_APP = APPLICATIONS / "client_record_wsgi.py", APPLICATIONS / "client_record_http2.py"
STATUSES = (200, 201, 404, 503)
ROUNDS = 5
LENGTH = 20_000


async def without_length() -> AsyncIterator[bytes]:
    """A body that comes without a Content-Length."""
    yield b"x" * LENGTH


def counts(cell: Cell) -> None:
    """Many streams at a time: every one is counted with its status."""
    assert isinstance(cell.server, TlsServer)
    asked: Counter[str] = Counter()

    async def ask(client: httpx.AsyncClient, status: int) -> None:
        answer = await client.get("/about", params={"status": status})
        assert (answer.http_version, answer.status_code) == ("HTTP/2", status)
        asked[str(status)] += 1

    ask_on_streams(cell.server, [(status,) for status in STATUSES * ROUNDS], ask)

    def agrees() -> bool:
        page: Counter[str] = Counter()
        for endpoint in ("/about", "<unmatched>"):
            for labels, value in cell.server.scrape().all("gunicorn_requests_total", endpoint=endpoint):
                page[labels["status"]] += int(value)
        assert page == asked, (page, asked)
        return True

    eventually(agrees, "the page agrees with the client", ANSWER_SECONDS)


def sizes(cell: Cell) -> None:
    """The sizes of bodies are right. Of an ASGI application's requests only a Content-Length tells it."""
    assert isinstance(cell.server, TlsServer)
    received: list[int] = []

    async def ask(client: httpx.AsyncClient) -> None:
        answer = await client.post("/echo", content=without_length())
        received.append(len(answer.content))

    ask_on_streams(cell.server, [()] * ROUNDS, ask)
    sent = 0 if cell.worker in ASGI else ROUNDS * LENGTH

    def agrees() -> bool:
        page = cell.server.scrape()
        found = [page.sum(f"gunicorn_{kind}_size_bytes_sum", endpoint="/echo") for kind in ("request", "response")]
        assert found == [sent, sum(received)], (found, sent, received)
        return True

    eventually(agrees, "the sizes agree", ANSWER_SECONDS)


def _leaving(how: str) -> Callable[[Cell], None]:
    def leave(cell: Cell) -> None:
        assert isinstance(cell.server, TlsServer)
        before = cell.server.scrape().all("gunicorn_requests_total", endpoint="/large")
        with Streams(cell.server) as streams:
            stream = streams.open("GET", f"/large?bell={how}")
            streams.flush()
            eventually((cell.server.folder / "bells" / how).exists, "the application has the request")
            if how == "reset":
                streams.reset(stream)
            else:
                streams.cut()

        def gone() -> bool:
            page = cell.server.scrape()
            found = page.all("gunicorn_requests_total", endpoint="/large")
            wanted = sum(value for labels, value in before if labels["status"] == GONE) + 1
            assert page.sum("gunicorn_requests_total", endpoint="/large", status=GONE) == wanted, found
            assert page.sum("gunicorn_requests_in_progress") == 0
            return True

        eventually(gone, "it is a 499", 2 * ANSWER_SECONDS)

    return leave


CHECKS: dict[str, Callable[[Cell], None]] = {
    "counts": counts,
    "sizes": sizes,
    "reset": _leaving("reset"),
    "cut": _leaving("cut"),
    "log": clean_log,
}
