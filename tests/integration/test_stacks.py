"""Where a worker hung is in the log, whatever its class, and whatever it hung in."""

from __future__ import annotations

import contextlib
import re
import signal
from pathlib import Path

import psutil
import pytest

from tests.helpers.places import APPLICATIONS
from tests.helpers.servers import Server, eventually
from tests.helpers.worker_exits import exits, hanging, page_with_exits
from tests.integration.conftest import Serve

WHERE = re.compile(
    r"gunicorn_prom_hooks: worker \(pid:(\d+)\) aborted; stacks of its threads:\n((?:(?:[ \w].*)?\n)+?)(?=\[)"
)
WSGI = APPLICATIONS / "hanging_wsgi.py"
ASGI = APPLICATIONS / "hanging_asgi.py"
PATCHED = "from gevent import monkey\nmonkey.patch_all()\n"
SYNC, ASGI_WORKER, UVICORN = "sync", "asgi", "uvicorn_worker.UvicornWorker"
DETAIL = {ASGI_WORKER: "SIGKILL"}
"""Exits of workers after a timeout in a loop: some run gunicorn's handler, some are killed by SIGABRT."""


def stacks(server: Server, count: int) -> list[tuple[str, str]]:
    """Pid and stacks of each worker that was aborted, once there are so many."""

    def probe() -> list[tuple[str, str]] | None:
        found = WHERE.findall(server.log)
        return found if len(found) >= count else None

    found = eventually(probe, f"{count} stacks are in the log")
    assert len(found) == count, server.log
    return found


def hung(server: Server, path: str, count: int = 1) -> str:
    """Has a worker hang there until it is ended; its stacks."""
    pid = server.get("/").text
    # gunicorn ends none that it has never heard of: tornado's first heartbeat is a second late.
    eventually(lambda: server.scrape().all("gunicorn_worker_heartbeat_age_seconds"), "a heartbeat")
    with hanging(server, path):
        found = stacks(server, count)
    assert found[-1][0] == pid
    return found[-1][1]


@pytest.mark.parametrize(
    ("worker", "more", "app", "places"),
    [
        (SYNC, "", WSGI, ("in_a_loop", "in_an_extension", "in_a_regular_expression", "in_a_call")),
        ("gthread", "threads = 3\n", WSGI, ("in_an_extension", "in_a_call")),
        ("gevent", "", WSGI, ("in_a_loop", "in_an_extension")),
        ("gevent", PATCHED, WSGI, ("in_a_loop", "in_an_extension")),
        ("gevent_pywsgi", "", WSGI, ("in_a_loop", "in_an_extension")),
        ("tornado", "", WSGI, ("in_a_loop", "in_an_extension")),
        (ASGI_WORKER, "", ASGI, ("in_a_loop", "in_an_extension", "in_a_call")),
        (UVICORN, "", ASGI, ("in_a_loop", "in_an_extension", "in_a_call")),
        ("uvicorn.workers.UvicornWorker", "", ASGI, ("in_a_loop",)),
    ],
    ids=lambda value: value if isinstance(value, str) and "\n" not in value else "",
)
def test_stacks_at_a_timeout_name_the_function_that_hung(
    serve: Serve, worker: str, more: str, app: Path, places: tuple[str, ...]
) -> None:
    """The function that hangs is in the stacks, which are logged once, above the line about the worker's end."""
    server = serve(f"worker_class = {worker!r}\ntimeout = 1\n{more}", app=app)
    for number, place in enumerate(places, 1):
        text = hung(server, f"/{place}", number)
        assert f" in {place}\n" in text
        assert "gunicorn_prom_hooks" not in text.split(f" in {place}\n")[0], "what hung comes first, not our handler"
        log = server.log
        assert log.rindex("WORKER TIMEOUT") < log.rindex("stacks of its threads") < log.rindex(" exited: timeout")
    assert "Traceback" not in server.log.split("WORKER TIMEOUT")[0]
    samples = server.scrape()
    assert samples.one("gunicorn_master_worker_restart_total", reason="timeout") == len(places)
    assert samples.sum("gunicorn_exporter_errors_total") == 0


@pytest.mark.parametrize(
    ("worker", "app", "place", "detail"),
    [
        (SYNC, WSGI, "in_a_loop", "SIGABRT"),
        (SYNC, WSGI, "in_an_extension", "SIGKILL"),
        (ASGI_WORKER, ASGI, "in_a_loop", "SIGKILL"),
        (UVICORN, ASGI, "in_a_loop", "SIGABRT"),
    ],
)
def test_stacks_do_not_change_the_signal_that_ends_the_worker(
    serve: Serve, worker: str, app: Path, place: str, detail: str
) -> None:
    """That a worker is asked for its stacks does not change how it ends."""
    server = serve(f"worker_class = {worker!r}\ntimeout = 1\n", app=app)
    with contextlib.suppress(Exception):
        server.get(f"/{place}")  # and hangs up: gunicorn's sync worker waits for that before it exits
    page_with_exits(server, {("timeout", detail): 1})
    stacks(server, 1)


@pytest.mark.parametrize("path", ["/", "/in_a_loop"])
def test_sigabrt_from_outside_is_the_reason_of_the_exit(serve: Serve, path: str) -> None:
    """SIGABRT that gunicorn has not sent is the reason, though its handler exits with 1, or with 0 after a request."""
    server = serve("timeout = 0\n", app=WSGI)
    pid = int(server.get("/").text)
    with hanging(server, path):
        if path != "/":
            eventually(lambda: server.scrape().sum("gunicorn_requests_in_progress") == 1, "it hangs")
        psutil.Process(pid).send_signal(signal.SIGABRT)
        page_with_exits(server, {("signal", "SIGABRT"): 1})


def test_sigabrt_from_outside_logs_stacks(serve: Serve) -> None:
    """SIGABRT that gunicorn has not sent has the stacks logged too, where Python code still runs."""
    server = serve("timeout = 0\n", app=WSGI)
    pid = int(server.get("/").text)
    with hanging(server, "/in_a_loop"):
        eventually(lambda: server.scrape().sum("gunicorn_requests_in_progress") == 1, "it hangs")
        psutil.Process(pid).send_signal(signal.SIGABRT)
        [(found, text)] = stacks(server, 1)
    assert (int(found), " in in_a_loop\n" in text) == (pid, True)


@pytest.mark.parametrize("worker", [SYNC, UVICORN])
def test_faulthandler_and_signal_handlers_of_the_user_still_work(serve: Serve, worker: str) -> None:
    """faulthandler writes where the user wants it to, before and after, and the user's handlers are called."""
    app = (
        (WSGI if worker == SYNC else ASGI).read_text()
        + """
import faulthandler, signal

crashes = open("crashes", "a")  # the next worker does so, too
faulthandler.enable(crashes)
faulthandler.register(signal.SIGUSR2, file=open("dumps", "a"))

def crash():
    faulthandler._sigsegv()
"""
    )
    server = serve(f"worker_class = {worker!r}\ntimeout = 1\n", app=app)
    hung(server, "/in_a_loop")
    pid = int(server.get("/").text)
    psutil.Process(pid).send_signal(signal.SIGUSR2)
    eventually(lambda: "most recent call first" in (server.folder / "dumps").read_text(), "the user's own signal")
    with contextlib.suppress(Exception):
        server.get("/crash")
    crashes = eventually(
        lambda: found if ("signal", "SIGSEGV") in (found := exits(server.scrape())) else None,
        "the crash is counted",
    )
    assert crashes["signal", "SIGSEGV"] == 1
    assert " in crash" in (server.folder / "crashes").read_text()
    assert len(WHERE.findall(server.log)) == 1


def test_sigabrt_handler_of_the_user_is_called_once(serve: Serve) -> None:
    """It is called as without us, once."""
    app = (
        WSGI.read_text()
        + """
import os, signal

def aborted(sig, frame):
    open("aborted", "a").write(f"{sig}\\n")
    os._exit(3)

signal.signal(signal.SIGABRT, aborted)
"""
    )
    server = serve("timeout = 1\n", app=app)
    hung(server, "/in_a_loop")
    assert (server.folder / "aborted").read_text() == "6\n"


MANY_THREADS = """
import threading, time

def a_function_with_a_long_name_of_which_there_are_many_in_each_of_many_threads(depth=60):
    if depth:
        return a_function_with_a_long_name_of_which_there_are_many_in_each_of_many_threads(depth - 1)
    time.sleep(1000)

def with_many_threads():
    for _ in range(35):
        threading.Thread(
            target=a_function_with_a_long_name_of_which_there_are_many_in_each_of_many_threads, daemon=True
        ).start()
    time.sleep(1000)
"""


def test_stacks_of_more_than_100_threads_are_those_of_their_own_worker(serve: Serve) -> None:
    """The main thread, which comes last, is in the log, and the text is not among that of other workers."""
    server = serve("timeout = 2\nworkers = 3\n", app=WSGI.read_text() + MANY_THREADS)
    for number, path in enumerate(("with_many_threads", "in_a_call", "in_a_call", "in_a_call"), 1):
        with hanging(server, f"/{path}"):
            stacks(server, number)
        text = server.log.split("stacks of its threads")[-1].split(" exited: timeout")[0]
        assert f" in {path}\n" in text
        assert ("many_threads" in text) == (number == 1)
        server.wait_for_workers(3)


@pytest.mark.parametrize("worker", [SYNC, UVICORN])
def test_application_handler_of_the_stack_signal_is_not_called_at_a_timeout(serve: Serve, worker: str) -> None:
    """Its handler is not called after a timeout, also if it sets that when it is loaded; there are no stacks."""
    app = (
        (WSGI if worker == SYNC else ASGI).read_text()
        + """
import signal

signal.signal(signal.SIGRTMAX - 2, lambda *_: open("called", "a").close())
"""
    )
    server = serve(f"worker_class = {worker!r}\ntimeout = 1\n", app=app)
    with hanging(server, "/in_a_loop"):
        eventually(lambda: " exited: timeout" in server.log, "the worker has ended")
    assert not (server.folder / "called").exists()
    assert WHERE.findall(server.log) == []


def open_files(pid: int) -> int:
    """Number of files of that kind which a process has open."""
    names = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            names.append(str(link.readlink()))
    return sum("gunicorn_prom_hooks" in name for name in names)


def test_all_workers_share_one_stack_file(serve: Serve) -> None:
    """There is one file for all workers, however many there were."""
    server = serve("workers = 3\nmax_requests = 5\n", app=WSGI)
    pids = {server.get("/").text for _ in range(60)}
    assert len(pids) > 6
    server.settled(61)

    def probe() -> bool:
        assert [open_files(worker.pid) for worker in server.workers()] == [1, 1, 1]
        assert open_files(server.pid) == 1
        return True

    eventually(probe, "one file for all")


def test_stacks_of_four_workers_that_time_out_together_are_logged(serve: Serve) -> None:
    """All workers time out together: each has its stacks in the log."""
    server = serve(f"worker_class = {UVICORN!r}\nworkers = 4\ntimeout = 5\n", app=ASGI)
    server.wait_for_workers(4)
    with contextlib.ExitStack() as stack:
        for count in range(1, 5):  # one that hangs accepts no other one
            stack.enter_context(hanging(server, "/in_a_loop"))
            eventually(lambda count=count: server.scrape().sum("gunicorn_requests_in_progress") == count, "it hangs")  # type: ignore[misc]
        found = stacks(server, 4)
    assert len({pid for pid, _ in found}) == 4
    assert all(" in in_a_loop\n" in text for _, text in found)


def test_stacks_are_not_written_into_a_file_of_the_application(serve: Serve) -> None:
    """Its own post_fork closes all descriptors that it does not know, and the numbers are taken by its files."""
    closing = """
import os
OWN = []
timeout = 1
def post_fork(server, worker):
    keep = {sock.fileno() for sock in worker.sockets} | {0, 1, 2, worker.tmp.fileno()}
    for fd in map(int, os.listdir("/proc/self/fd")):
        if fd not in keep:
            try:
                os.close(fd)
            except OSError:
                pass
    OWN.extend(open(f"own.{number}", "ab", buffering=0) for number in range(8))
install(globals(), port=METRICS_PORT)
"""
    server = serve(f"workers = 1\n{closing}", app=WSGI)
    with hanging(server, "/in_a_loop"):
        eventually(lambda: exits(server.scrape()), "the worker is ended")
    assert [file.stat().st_size for file in server.folder.glob("own.*")] == [0] * 8
    assert not WHERE.findall(server.log)
