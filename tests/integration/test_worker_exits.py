"""Each reason of a worker exit in a real server: what is counted, what is not, and the log line."""

from __future__ import annotations

import contextlib
import os
import re
import signal

import pytest

from tests.helpers.cgroups import MakeCgroup, joining, limited_cgroup  # noqa: F401 - a fixture
from tests.helpers.places import APPLICATIONS
from tests.helpers.servers import Samples, Server, eventually
from tests.helpers.worker_exits import busy_worker, exit_lines, exits, hanging, killed, page_with_exits, restarts
from tests.integration.conftest import APP, CONFIG, Serve

HANG = "hang_here"
WORKERS = {"sync": "", "gthread": "worker_class = 'gthread'\nthreads = 2\n", "gevent": "worker_class = 'gevent'\n"}


def running(server: Server) -> list[int]:
    """Pids of the two workers, once both are running: what is sent to one that is just being forked is lost on it."""
    server.wait_for_workers(2)
    return sorted(process.pid for process in server.workers())


@pytest.mark.parametrize("worker", WORKERS)
def test_sigkill_is_a_signal_exit_with_the_request_killed_and_logged(serve: Serve, worker: str) -> None:
    """A worker killed by hand in the middle of a request is a signal, the request is named, and nothing else moves."""
    server = serve("workers = 2\n" + WORKERS[worker])
    running(server)
    before = server.settled(1).sum("gunicorn_requests_total")
    with hanging(server, "/sleep/1000"):
        worker_id, pid = busy_worker(server)
        os.kill(pid, signal.SIGKILL)
        samples = page_with_exits(server, {("signal", "SIGKILL"): 1})
    assert killed(samples) == {("GET", "/sleep/:id", "signal"): 1}
    assert restarts(samples) == {"error": 1}
    assert samples.sum("gunicorn_requests_total") == before
    [(of, how, what)] = exit_lines(server, 1)
    assert (int(of), how) == (pid, "signal (SIGKILL)")
    assert re.fullmatch(r"GET /sleep/1000 \(\d+\.\d{3} s\)", what)
    assert f"worker {worker_id} (pid:{pid})" in server.log


@pytest.mark.parametrize("level", ["info", "critical"])
def test_sigsegv_is_a_signal_exit_at_any_log_level(serve: Serve, level: str) -> None:
    """A crash has the name of its signal, whether or not the log level lets gunicorn say so."""
    server = serve(f"workers = 2\nloglevel = {level!r}\n")
    pid, _ = running(server)
    os.kill(pid, signal.SIGSEGV)
    samples = page_with_exits(server, {("signal", "SIGSEGV"): 1})
    assert killed(samples) == {}
    assert samples.one("gunicorn_log_messages_total", level="warning") >= 1
    lines = exit_lines(server, 1 if level == "info" else 0)
    assert lines == ([(str(pid), "signal (SIGSEGV)", "no request in progress")] if level == "info" else [])


def test_exit_code_of_a_worker_is_an_error_exit(serve: Serve) -> None:
    """A worker that exits by itself, without a word, is an error with its exit code."""
    server = serve("workers = 2\n")
    running(server)
    with contextlib.suppress(Exception):
        server.get("/exit")
    samples = page_with_exits(server, {("error", "7"): 1})
    assert killed(samples) == {("GET", "/exit", "error"): 1}
    assert restarts(samples) == {"error": 1}
    [(_, how, what)] = exit_lines(server, 1)
    assert how == "error (7)"
    assert what.startswith("GET /exit (")


@pytest.mark.parametrize("worker", WORKERS)
def test_timeout_exit_has_the_request_killed_and_its_stack_logged(serve: Serve, worker: str) -> None:
    """A worker that hangs for 3 seconds is a timeout; the log has where it hung, and just below it what it was at."""
    app = APPLICATIONS / "hanging_everywhere.py"
    server = serve("workers = 2\ntimeout = 3\n" + WORKERS[worker], app=app, environ={"WORKER": worker})
    running(server)
    with hanging(server, "/hang/7") as [client]:
        _, pid = busy_worker(server)
        answer = client.recv(1000)
    samples = page_with_exits(server, {("timeout", "SIGKILL" if worker == "gthread" else "SIGABRT"): 1})
    # What gunicorn still answers on the way out is answered, and it counts as interrupted all the same.
    assert samples.sum("gunicorn_requests_total", status="500") == answer.count(b" 500 ")
    assert (answer == b"") == (worker != "sync")
    assert killed(samples) == {("GET", "/hang/:id", "timeout"): 1}
    failed = [labels["error_type"] for labels, _ in samples.all("gunicorn_failed_requests_total")]
    handled = [labels["error_type"] for labels, _ in samples.all("gunicorn_worker_error_handling_total")]
    assert failed == (["timeout"] if worker == "sync" else [])
    assert handled == []  # of a live worker
    assert restarts(samples) == {"timeout": 1}
    [(of, _, what)] = exit_lines(server, 1)
    log = server.log
    assert int(of) == pid
    flight = re.fullmatch(r"GET /hang/7 \((\d+\.\d{3}) s\)", what)
    assert flight is not None
    assert 3.0 <= float(flight[1]) < 8.0
    assert log.index("aborted; stacks of its threads") < log.rindex(f"in {HANG}") < log.index(" exited: timeout")
    assert samples.one("gunicorn_worker_timeout_seconds") == 3


def test_max_requests_exit_is_counted_and_not_logged(serve: Serve) -> None:
    """A worker that has served its share is no news: counted, and not in the log."""
    server = serve("workers = 1\nmax_requests = 3\n")
    for _ in range(5):
        server.get("/")
    samples = page_with_exits(server, {("max_requests", "0"): 2})
    assert restarts(samples) == {"restart": 2}
    assert killed(samples) == {}
    assert exit_lines(server, 0) == []
    assert samples.one("gunicorn_worker_lifetime_seconds_count") == 2
    assert samples.one("gunicorn_worker_boot_seconds_count") >= 2


@pytest.mark.parametrize("worker", WORKERS)
def test_hup_exits_are_reload_and_a_busy_worker_is_stopping(serve: Serve, worker: str) -> None:
    """HUP: all old workers have left for a reload; one that is still at a request is stopping till then."""
    server = serve("workers = 2\n" + WORKERS[worker])
    old = running(server)
    with hanging(server, "/sleep/6") as [client]:
        busy_worker(server)
        server.signal(signal.SIGHUP)
        samples = page_with_exits(server, {("reload", "0"): 1})
        assert samples.one("gunicorn_workers", state="stopping") == 1
        assert samples.one("gunicorn_reloads_total") == 1
        samples = page_with_exits(server, {("reload", "0"): 2})
        assert b"200 OK" in client.recv(1000)
    assert killed(samples) == {}
    assert restarts(samples) == {"restart": 2}
    assert not set(running(server)) & set(old)
    assert server.scrape().one("gunicorn_workers", state="stopping") == 0
    assert exit_lines(server, 0) == []


def test_worker_killed_during_a_reload_is_a_signal_exit(serve: Serve) -> None:
    """A worker that a reload has told to leave, and that crashes instead, is no reload."""
    server = serve("workers = 2\n")
    running(server)
    with hanging(server, "/sleep/1000"):
        _, pid = busy_worker(server)
        server.signal(signal.SIGHUP)
        page_with_exits(server, {("reload", "0"): 1})
        os.kill(pid, signal.SIGKILL)
        samples = page_with_exits(server, {("reload", "0"): 1, ("signal", "SIGKILL"): 1})
    assert killed(samples) == {("GET", "/sleep/:id", "signal"): 1}


def test_ttou_exit_is_scale_down(serve: Serve) -> None:
    """TTIN adds a worker, TTOU takes the oldest: that is scale_down, and only that."""
    server = serve("workers = 2\n")
    old = running(server)
    server.signal(signal.SIGTTIN)
    assert server.wait_for_workers(3).one("gunicorn_workers_target") == 3
    server.signal(signal.SIGTTOU)
    samples = page_with_exits(server, {("scale_down", "0"): 1})
    assert restarts(samples) == {"restart": 1}
    assert len(set(running(server)) & set(old)) == 1
    assert exit_lines(server, 0) == []


@pytest.mark.parametrize("name", ["SIGTERM", "SIGQUIT", "SIGINT"])
def test_shutdown_exits_include_workers_that_the_master_kills(serve: Serve, name: str) -> None:
    """At a shutdown the master counts its workers under shutdown, also those that it has to kill."""
    app = APPLICATIONS / "default_blocked_signals.py"
    server = serve("workers = 2\ngraceful_timeout = 8\n", app=app)
    running(server)
    with hanging(server, "/hang"):
        _, pid = busy_worker(server)
        server.signal(getattr(signal, name))
        samples = page_with_exits(server, {("shutdown", "0"): 1})
        assert samples.one("gunicorn_workers", state="stopping") == 1
        assert restarts(samples) == {"restart": 1}
        assert server.process is not None
        server.process.wait(20)
    [(of, how, what)] = exit_lines(server, 1)
    assert (int(of), how) == (pid, "shutdown (SIGKILL)")
    assert what.startswith("GET /hang (")


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGQUIT"])
def test_graceful_exit_by_a_signal_from_outside_is_a_signal_exit(serve: Serve, name: str) -> None:
    """A worker that leaves in good order because of a signal that the master did not send is named after it."""
    server = serve("workers = 2\n")
    pid, _ = running(server)
    os.kill(pid, getattr(signal, name))
    samples = page_with_exits(server, {("signal", name): 1})
    assert restarts(samples) == {"restart": 1}
    assert exit_lines(server, 0) == []


@pytest.mark.parametrize("name", ["SIGINT", "SIGQUIT"])
def test_request_interrupted_by_a_quick_exit_fails_as_shutdown(serve: Serve, name: str) -> None:
    """A sync worker that is told to stop at once answers with a 500: the failure is called shutdown, not SystemExit."""
    server = serve("workers = 2\n")
    running(server)
    with hanging(server, "/hang") as [client]:
        _, pid = busy_worker(server)
        os.kill(pid, getattr(signal, name))
        assert b" 500 " in client.recv(1000)
    samples = page_with_exits(server, {("signal", name): 1})
    failed = [(labels["endpoint"], labels["error_type"]) for labels, _ in samples.all("gunicorn_failed_requests_total")]
    assert failed == [("/hang", "shutdown")]
    assert killed(samples) == {("GET", "/hang", "signal"): 1}


def test_reloader_exit_is_reload_and_not_a_counted_reload(serve: Serve) -> None:
    """gunicorn's own reloader: a worker that leaves because a file has changed has left for a reload."""
    server = serve("workers = 1\nreload = True\nreload_engine = 'poll'\n")
    server.wait_for_workers(1)
    app = server.folder / "app.py"

    def changed() -> Samples:
        # Again and again: the reloader compares with what it has seen first, and begins at some time.
        os.utime(app, (app.stat().st_atime, app.stat().st_mtime + 10))
        samples = server.scrape()
        assert exits(samples)
        return samples

    samples = eventually(changed, "a worker has left", 30)
    assert {reason for reason, _ in exits(samples)} == {"reload"}
    assert samples.one("gunicorn_reloads_total") == 0


def test_failed_import_after_hup_is_a_boot_exit_followed_by_shutdown(serve: Serve) -> None:
    """An application that cannot be loaded is boot, and what gunicorn does then is a shutdown."""
    # One worker: where two of them fail, gunicorn trips over the second while it shuts down for the first.
    server = serve("workers = 1\ngraceful_timeout = 5\n")
    server.wait_for_workers(1)
    with hanging(server, "/sleep/1000"):
        busy_worker(server)
        server.write_application("raise ValueError\n")
        server.signal(signal.SIGHUP)

        def probe() -> dict[tuple[str, str], float]:
            found = exits(server.scrape())
            assert found.get(("boot", "3")), found
            return found

        found = eventually(probe, "the failed boot is counted")
        assert {reason for reason, _ in found} <= {"boot", "shutdown", "reload"}
        assert server.process is not None
        server.process.wait(20)
    assert "exited: boot (3); no request in progress" in server.log
    assert "exited: shutdown (SIGKILL); in progress: GET /sleep/1000" in server.log


def test_exit_while_the_application_loads_is_a_boot_exit(serve: Serve) -> None:
    """Workers that exit again and again before they have loaded the application are boot, each of them."""
    server = serve("workers = 1\n")
    server.wait_for_workers(1)
    server.write_application("import sys\nsys.exit(9)\n")
    server.workers()[0].kill()

    def probe() -> bool:
        found = exits(server.scrape())
        assert found.pop(("signal", "SIGKILL"), 0) == 1, found
        return set(found) == {("boot", "9")} and found["boot", "9"] >= 3

    eventually(probe, "failed boots")
    server.write_application(APP)
    server.wait_for_workers(1)


def test_oom_kill_in_a_cgroup_is_oom_and_a_later_sigkill_is_signal(serve: Serve, limited_cgroup: MakeCgroup) -> None:  # noqa: F811 - the fixture
    """A worker that eats the memory of its cgroup is oom; another that is killed by hand is not."""
    cgroup, _ = limited_cgroup(300 * 1024 * 1024)
    app = APPLICATIONS / "default_memory.py"
    server = serve("workers = 2\n", app=app, before=joining(cgroup))
    running(server)
    with contextlib.suppress(Exception):
        server.get("/eat")
    samples = page_with_exits(server, {("oom", "SIGKILL"): 1})
    assert killed(samples) == {("GET", "/eat", "oom"): 1}
    assert restarts(samples) == {"error": 1}
    os.kill(running(server)[0], signal.SIGKILL)
    page_with_exits(server, {("oom", "SIGKILL"): 1, ("signal", "SIGKILL"): 1})


def test_killed_worker_logs_three_of_five_requests_and_the_number_of_others(serve: Serve) -> None:
    """A worker killed with five requests interrupts five; the log names the oldest three and counts the rest."""
    server = serve("workers = 1\nworker_class = 'gthread'\nthreads = 8\n")
    server.wait_for_workers(1)
    with contextlib.ExitStack() as stack:
        for number in range(5):
            stack.enter_context(hanging(server, f"/sleep/100{number}"))
            eventually(
                lambda expected=number + 1: server.scrape().one("gunicorn_requests_in_progress") == expected,  # type: ignore[misc]
                "it is in progress",
            )
        server.workers()[0].kill()
        samples = page_with_exits(server, {("signal", "SIGKILL"): 1})
    assert killed(samples) == {("GET", "/sleep/:id", "signal"): 5}
    [(_, _, what)] = exit_lines(server, 1)
    assert re.findall(r"/sleep/\d+", what) == ["/sleep/1000", "/sleep/1001", "/sleep/1002"]
    assert what.endswith(", 2 other requests")


def test_escape_sequence_in_a_path_is_not_in_the_log(serve: Serve) -> None:
    """A path with a terminal's escape sequence in it stands in the log in a form that does nothing, and cut."""
    server = serve("workers = 1\n")
    server.wait_for_workers(1)
    with hanging(server, "/sleep/1000?%1b"):
        pass
    with hanging(server, "/hang"):
        busy_worker(server)
        server.workers()[0].kill()
        page_with_exits(server, {("signal", "SIGKILL"): 1})
    assert "\x1b" not in server.log


LOGGERS = {
    "subclass that changes the text": """
from gunicorn.glogging import Logger
class Loud(Logger):
    def error(self, msg, *args, **kwargs):
        super().error("LOUD " + str(msg), *args, **kwargs)
logger_class = Loud
""",
    "class of its own": """
import sys
class Own:
    def __init__(self, cfg):
        self.cfg, self.access_log_enabled = cfg, False
    def setup(self, cfg): pass
    def close_on_exec(self): pass
    def reopen_files(self): pass
    def access(self, *args): pass
    def say(self, msg, *args, **kwargs):
        print("LOUD", str(msg) % args if args else msg, file=sys.stderr, flush=True)
    critical = error = warning = info = exception = say
    def debug(self, *args, **kwargs): pass
logger_class = Own
""",
    "filter that renders": """
import logging
class Render(logging.Filter):
    def filter(self, record):
        record.msg, record.args = {"event": "LOUD " + record.getMessage()}, ()
        return True
logging.getLogger("gunicorn.error").addFilter(Render())
""",
}


@pytest.mark.parametrize("logger", LOGGERS)
@pytest.mark.parametrize("level", ["info", "critical"])
def test_exit_reason_is_right_with_each_logger_of_the_user(serve: Serve, logger: str, level: str) -> None:
    """Whatever becomes of gunicorn's messages on their way into the log, ends are told right."""
    server = serve(config=LOGGERS[logger] + CONFIG + f"workers = 2\nloglevel = {level!r}\n")
    pid, _ = running(server)
    os.kill(pid, signal.SIGSEGV)
    samples = page_with_exits(server, {("signal", "SIGSEGV"): 1})
    assert samples.one("gunicorn_log_messages_total", level="warning") == 1
    assert samples.one("gunicorn_log_messages_total", level="info") >= 4
    if level == "info" or logger == "class of its own":
        eventually(lambda: "gunicorn_prom_hooks: worker worker_" in server.log, "the line")
        assert "LOUD " in server.log


def test_requests_cut_off_at_the_graceful_timeout_are_killed_by_reload(serve: Serve) -> None:
    """Requests that a gevent worker cuts off, at the end of its graceful timeout, went down with it."""
    server = serve("workers = 1\nworker_class = 'gevent'\ngraceful_timeout = 1\n")
    server.wait_for_workers(1)
    with hanging(server, *["/sleep/30"] * 3) as clients:
        eventually(lambda: server.scrape().one("gunicorn_requests_in_progress") == 3, "they are in progress")
        server.signal(signal.SIGHUP)
        samples = page_with_exits(server, {("reload", "0"): 1})
        assert [client.recv(1000) for client in clients] == [b""] * 3
    assert killed(samples) == {("GET", "/sleep/:id", "reload"): 3}
    assert samples.sum("gunicorn_requests_total", endpoint="/sleep/:id") == 0
    [(_, _, what)] = exit_lines(server, 1)
    assert what.count("GET /sleep/30 (") == 3
