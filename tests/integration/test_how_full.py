"""How full a server is, by the documented queries, in a real Prometheus that scrapes servers of several classes."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.helpers.blocking_apps import LOOPS, WSGI, blocked, connected, get
from tests.helpers.prometheus import documented, prometheus, promql
from tests.helpers.servers import eventually
from tests.integration.conftest import Serve


@pytest.mark.needs("prometheus")
def test_documented_load_queries_tell_full_servers_from_idle_ones(serve: Serve, tmp_path: Path) -> None:
    """Of servers of five classes, full and idle ones, each query says of each server what it is, and no more."""
    threads = "worker_class = 'gthread'\nthreads = 2\ntimeout = 120\n"
    servers = {
        "gthread": serve(threads, app=WSGI),
        "idle gthread": serve(threads, app=WSGI),
        "idle sync": serve(app=WSGI),
    }
    for kind in ("asgi", "uvicorn", "gevent"):
        app, config = LOOPS[kind]
        servers[kind] = serve(config + "timeout = 120\n", app=app)
    servers["idle asgi"] = serve(LOOPS["asgi"][1], app=LOOPS["asgi"][0])
    busy = documented("busy_seconds", "requests_capacity")
    loops = documented('le="0.005"')
    both = documented("busy_seconds", 'le="0.005"')
    wait = documented("waiting_connections", "sum by", "__name__")
    alert = documented("waiting_connections", "> 0", "sum by", "__name__")
    total = documented("waiting_connections", "sum({__name__")
    blocks = documented("event_loop_blocked_seconds", "max by")
    with ExitStack() as stack:
        ask = stack.enter_context(prometheus(tmp_path, servers)).ask
        eventually(lambda: set(ask(both)) == set(servers), "all are scraped")
        assert ask(alert) == {}
        assert ask(total) == {"all of them": 0.0}
        for name in ("gthread", "asgi", "uvicorn", "gevent"):
            address = "127.0.0.1", servers[name].port
            stack.enter_context(blocked(servers[name], socket.AF_INET, address, 2 if name == "gthread" else 1))
            stack.enter_context(connected(socket.AF_INET, address, *[get()] * 5))

        def probe() -> bool:
            full = ask(both)
            assert {name for name, value in full.items() if value > 0.9} == {"gthread", "asgi", "uvicorn", "gevent"}
            assert max(full[name] for name in servers if name.startswith("idle")) < 0.7, full
            assert {name for name, value in ask(busy).items() if value > 0.9} == {"gthread"}
            return True

        eventually(probe, "the full ones are full")
        assert set(ask(busy)) == {"gthread", "idle gthread", "idle sync", "gevent"}
        assert set(ask(loops)) == {"asgi", "uvicorn", "gevent", "idle asgi"}
        assert max(ask(both).values()) <= 1.1
        waiting = ask(wait)
        assert {name: value for name, value in waiting.items() if value} == dict.fromkeys(
            ("gthread", "asgi", "uvicorn", "gevent"), 5.0
        )
        assert set(waiting) == set(servers)
        assert set(ask(alert)) == {"gthread", "asgi", "uvicorn", "gevent"}
        assert ask(total) == {"all of them": 20.0}
        assert set(ask(blocks)) == {"asgi", "uvicorn", "gevent"}
        for query in promql():
            if "event_loop" in query:
                assert ask(query), query
