"""Reloads, upgrades, ports, scaling: the exporter is there when the server is, and never in its way."""

from __future__ import annotations

import os
import re
import signal
import socket
from pathlib import Path

import psutil
import pytest
import requests

from tests.helpers.servers import Samples, Server, eventually, unused_port
from tests.integration.conftest import CONFIG, Serve


def worker_ids(samples: Samples) -> set[str]:
    """The live workers."""
    return {labels["worker_id"] for labels, _ in samples.all("gunicorn_worker_info")}


def refused(port: int) -> bool:
    """Return whether connections to the port are refused."""
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) != 0


def test_hup_keeps_counts_of_replaced_workers(serve: Serve) -> None:
    """A HUP replaces all workers, twice over, and no counter is lost or doubled."""
    server = serve("workers = 2\n")
    for round_ in range(1, 3):
        before = worker_ids(server.wait_for_workers(2))
        server.signal(signal.SIGHUP)

        def renewed(old: set[str] = before) -> Samples | None:
            samples = server.scrape()
            return None if worker_ids(samples) & old else samples

        samples = eventually(renewed, "new workers")
        assert samples.sum("gunicorn_requests_total") == 10 * (round_ - 1) + 1
        for _ in range(10):
            server.get("/")
        server.settled(10 * round_ + 1)
    samples = server.wait_for_workers(2)
    assert samples.sum("gunicorn_requests_total") == 21
    assert samples.one("gunicorn_master_worker_restart_total", reason="restart") == 4
    assert samples.one("gunicorn_master_worker_restart_total", reason="error") == 0


def test_hup_with_another_port_moves_the_exporter_and_port_0_ends_it(serve: Serve) -> None:
    """A HUP whose config names another port moves the exporter there, with everything counted so far; 0 ends it."""
    server = serve()
    new = unused_port()
    server.configure(CONFIG.replace("METRICS_PORT", str(new)))
    server.signal(signal.SIGHUP)
    samples = eventually(lambda: server.scrape(new), "the new port answers")
    assert samples.sum("gunicorn_requests_total") == 1
    eventually(lambda: refused(server.metrics_port), "the old port is free")
    server.configure(CONFIG.replace("METRICS_PORT", "0"))
    server.signal(signal.SIGHUP)
    eventually(lambda: refused(new), "no port any more")
    assert server.get("/").status_code == 200


def test_hup_may_move_the_server_to_the_former_metrics_port(serve: Serve) -> None:
    """gunicorn binds before it calls ``on_reload``: by then the port is free, and the metrics have their new one."""
    server = serve("workers = 1\n")
    port, metrics_port = server.metrics_port, unused_port()
    server.write_whole(
        "gunicorn.conf.py",
        CONFIG.replace("METRICS_PORT", str(metrics_port)).replace("PORT", str(port)) + "workers = 1\n",
    )
    server.signal(signal.SIGHUP)
    eventually(lambda: requests.get(f"http://127.0.0.1:{port}/", timeout=5).ok, "the server at the other port")
    assert eventually(lambda: server.scrape(metrics_port), "the page").sum("gunicorn_workers") >= 1


def test_target_that_a_hook_restores_leaves_no_worker_stopping(serve: Serve) -> None:
    """gunicorn stops none of them: once its timeouts have passed, all workers are known to stay."""
    server = serve(
        """
workers = 2
timeout = graceful_timeout = 1
def nworkers_changed(server, new_value, old_value):
    if old_value is not None and new_value < 2:
        server.num_workers = 2
install(globals(), port=METRICS_PORT)
"""
    )
    server.wait_for_workers(2)
    before = {worker.pid for worker in server.workers()}
    server.signal(signal.SIGTTOU)

    def stopping() -> float:
        return server.scrape().sum("gunicorn_workers", state="stopping")

    eventually(stopping, "one is marked")
    eventually(lambda: not stopping(), "and it is not any more")
    samples = server.scrape()
    assert samples.sum("gunicorn_workers", state="running") == samples.one("gunicorn_workers_target") == 2
    assert {worker.pid for worker in server.workers()} == before


def test_hup_with_an_invalid_setting_keeps_the_previous_settings(serve: Serve) -> None:
    """A reload with a setting that is wrong keeps the settings from before, and says so in one line."""
    server = serve()
    server.configure(CONFIG.replace("METRICS_PORT", "'nine'"))
    server.signal(signal.SIGHUP)
    eventually(lambda: "the previous settings stay" in server.log, "a line in the log")
    assert "setting port: 'nine' is not allowed" in server.log
    eventually(lambda: server.log.count("Booting worker") == 2, "the reload went through")
    assert server.get("/").status_code == 200
    assert server.settled(2)


def test_metrics_port_in_use_is_logged_once_and_bound_when_free(serve: Serve) -> None:
    """A metrics port that is taken is one line in the log; the server serves, and binds once the port is free."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        server = serve(metrics_port=port)
        for _ in range(20):
            assert server.get("/").status_code == 200
        eventually(lambda: "no metrics at" in server.log, "a line in the log")
        holder.close()
        assert server.settled(21).sum("gunicorn_requests_total") == 21
    assert len(re.findall("no metrics at", server.log)) == 1
    assert "Traceback" not in server.log


def test_usr2_loses_no_request_and_moves_the_metrics_to_the_new_master(serve: Serve) -> None:
    """An upgrade with USR2 loses no request; the metrics move to the new master when the old one goes."""
    server = serve("workers = 2\npidfile = 'pid'\n")
    old = server.pid
    server.signal(signal.SIGUSR2)
    pidfile = server.folder / "pid.2"
    new = int(eventually(pidfile.read_text, "the new master's pid").strip())
    try:
        eventually(lambda: "no metrics at" in server.log, "the new master waits for the port")
        assert server.scrape().one("process_start_time_seconds") == pytest.approx(
            psutil.Process(old).create_time(), abs=1
        )
        os.kill(old, signal.SIGTERM)
        answered = 0
        assert server.process is not None
        while server.process.poll() is None:
            assert server.get("/").status_code == 200
            answered += 1
        eventually(lambda: server.scrape().sum("gunicorn_workers", state="running") == 2, "the new master's page")
        for _ in range(5):
            assert server.get("/").status_code == 200
        samples = server.settled(5)
        assert samples.one("process_start_time_seconds") == pytest.approx(psutil.Process(new).create_time(), abs=1)
        assert answered > 0
    finally:
        family = psutil.Process(new)
        children = family.children()
        family.terminate()
        psutil.wait_procs([family, *children], 20)
    assert refused(server.metrics_port)


def test_ttin_and_ttou_change_the_target_and_keep_counts_of_exited_workers(serve: Serve) -> None:
    """TTIN and TTOU show in the target and in the live workers; what a worker that left had counted stays."""
    server = serve("workers = 1\n")
    server.signal(signal.SIGTTIN)
    samples = server.wait_for_workers(2)
    assert samples.one("gunicorn_workers_target") == 2
    for _ in range(30):
        server.get("/")
    server.settled(31)
    server.signal(signal.SIGTTOU)
    samples = server.wait_for_workers(1)
    assert samples.one("gunicorn_workers_target") == 1
    assert samples.sum("gunicorn_requests_total") == 31
    assert samples.sum("gunicorn_worker_requests_total") < 31


def test_metrics_port_is_held_by_no_worker_and_free_after_the_server(serve: Serve) -> None:
    """The port is free when the server has gone, and no worker holds it while it runs."""
    server = serve("workers = 2\n")
    server.wait_for_workers(2)
    for worker in server.workers():
        assert server.metrics_port not in {connection.laddr.port for connection in worker.net_connections()}
    server.stop()
    assert refused(server.metrics_port)


def test_failed_import_ends_the_server_with_exit_code_3(serve: Serve, tmp_path: Path) -> None:
    """An application that fails to import ends gunicorn with its own exit code, as without us."""
    server = Server(tmp_path / "broken", app="raise RuntimeError('broken')", config=CONFIG)
    server.start()
    assert server.process is not None
    assert server.process.wait(30) == 3
    assert "broken" in server.log
    assert "gunicorn_prom_hooks: pre_fork failed" not in server.log
    assert refused(server.metrics_port)


def test_preloaded_workers_forked_during_scrapes_all_serve(serve: Serve) -> None:
    """With --preload, and scraped all the while, workers that come and go by the dozen never hang at boot."""
    server = serve("workers = 3\npreload_app = True\nmax_requests = 2\n")
    for number in range(60):
        assert server.get("/").status_code == 200
        if number % 3 == 0:
            assert server.page().status_code == 200
    server.settled(61)


def test_exporter_serves_an_ipv6_address(serve: Serve) -> None:
    """The exporter binds an IPv6 address as well as an IPv4 one."""
    server = serve("install(globals(), port=METRICS_PORT, address='::1')\n")
    page = eventually(
        lambda: requests.get(f"http://[::1]:{server.metrics_port}/metrics", timeout=10), "the page on ::1"
    )
    assert "gunicorn_requests_total" in page.text


def test_exporter_serves_each_address_of_a_name_and_retries_one_in_use(serve: Serve) -> None:
    """The exporter is at each address of its name; one that is taken is told and tried again, the others are served."""
    with socket.create_server(("127.0.0.2", 0)) as holder:
        port = holder.getsockname()[1]
        server = serve(
            """
import socket

def getaddrinfo(host, *args, real=socket.getaddrinfo, **kwargs):
    names = ("127.0.0.1", "127.0.0.2") if host == "metrics.test" else (host,)
    return [found for name in names for found in real(name, *args, **kwargs)]

socket.getaddrinfo = getaddrinfo
install(globals(), port=METRICS_PORT, address="metrics.test")
""",
            metrics_port=port,
        )
        assert server.scrape().sum("gunicorn_workers") == 1
        assert server.log.count(f"no metrics at 127.0.0.2:{port} yet: Address already in use") == 1
        holder.close()
    page = eventually(lambda: requests.get(f"http://127.0.0.2:{port}/metrics", timeout=10).text, "the second address")
    assert "gunicorn_workers" in page
    assert server.scrape().sum("gunicorn_workers") == 1


def test_failed_thread_start_is_logged_once_and_retried_at_hup(serve: Serve) -> None:
    """As long as the exporter has no thread nothing listens, and one line says so; the next reload starts it."""
    server = serve("""
import _thread, os

def start_new_thread(function, *args, real=_thread.start_new_thread):
    called = [getattr(arg, "run", None) for arg in args[0]]
    if "Exporter._run" in repr(called) and not os.path.exists("enough"):
        raise RuntimeError("can't start new thread")
    return real(function, *args)

if "prom_test_real" not in vars(_thread):
    _thread.prom_test_real = _thread.start_new_thread
    _thread.start_new_thread = start_new_thread
""")
    assert refused(server.metrics_port)
    assert server.log.count("the exporter cannot start: can't start new thread") == 1
    (server.folder / "enough").touch()
    server.signal(signal.SIGHUP)
    assert eventually(server.scrape, "the page").sum("gunicorn_workers") >= 1
    assert "Traceback" not in server.log


def test_unresolvable_address_is_logged_once_and_retried_at_hup(serve: Serve) -> None:
    """An address that cannot be looked up is one line in the log; the server serves, and a reload tries again."""
    server = serve("install(globals(), port=METRICS_PORT, address='no-such-host.invalid')\nworkers = 2\n")

    def two_workers(but_not: frozenset[str] = frozenset()) -> frozenset[str]:
        # All of them have booted: what gunicorn sends to one that is only just being forked is lost on it.
        seen: set[str] = set()

        def probe() -> bool:
            seen.add(server.get("/").text)
            return len(seen - but_not) == 2

        eventually(probe, "two workers answer")
        return frozenset(seen)

    first = two_workers()
    assert server.log.count("'no-such-host.invalid' cannot be used") == 1
    server.signal(signal.SIGHUP)
    two_workers(first)
    assert server.log.count("cannot be used") == 2
    server.configure(CONFIG)
    server.signal(signal.SIGHUP)
    assert eventually(server.scrape, "the page").sum("gunicorn_workers") >= 1
