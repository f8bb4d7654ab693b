"""Worker classes whose requests are not counted are not harmed either."""

from __future__ import annotations

from conftest import Serve

ASGI = """
async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})
"""


def test_asgi(serve: Serve) -> None:
    """gunicorn's asgi worker serves as without us, its workers are on the page, and nothing of ours fails."""
    server = serve("workers = 2\nworker_class = 'asgi'\naccesslog = '-'\n", app=ASGI)
    for _ in range(20):
        assert server.get("/").text == "ok"
    samples = server.wait_for_workers(2)
    assert len(samples.all("gunicorn_worker_memory_bytes")) == 2
    assert samples.sum("gunicorn_exporter_errors_total") == 0
