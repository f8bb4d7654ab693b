"""Each system call and library call of the product is made to fail, at its first and a later use: the server serves."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.helpers.fault_cases import CALLS, Case, cases
from tests.helpers.fault_server import FaultServer, Outcome
from tests.helpers.faults import ALWAYS
from tests.helpers.servers import DEADLINE, Server, eventually
from tests.integration.conftest import Serve

# A connection that the exporter breaks off in the handshake leaves urllib3 with a socket that it does not close.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <ssl.SSLSocket:pytest.PytestUnraisableExceptionWarning",
    "ignore:unclosed:ResourceWarning",
)
CASES = cases()
AT_BOOT = [case for case in CASES if case.activity == "boot"]
AT_STOP = [case for case in CASES if case.activity == "stop"]
STARTS = [case for case in AT_BOOT if case.outcome == "reported"][::8]
"""Cases with a server each that are run with all other tests. ``make faults`` runs the others, too."""
BY_HAND = pytest.mark.by_hand
LATER = [case for case in CASES if case.setup and case not in AT_BOOT + AT_STOP]
CHECKS = [case for case in LATER if case.seam.startswith("settings/")]
"""Calls that check a setting. In a reload the settings before stay; in a start there are none."""


def name_of(case: Case) -> str:
    """Return the name of a case."""
    return f"{case.setup}-{case.activity}-{case.seam}"


class Servers:
    """One server of each setup, started when it is first needed, and again after a test has failed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: dict[str, tuple[FaultServer, dict[str, Outcome]]] = {}
        self._number = 0

    def get(self, setup: str, activity: str) -> tuple[FaultServer, Outcome]:
        """Return the server, and what usually comes of the activity."""
        if setup not in self._running:
            self._number += 1
            server = FaultServer(self._folder / f"{setup}{self._number}", setup)
            server.__enter__()
            self._running[setup] = server, {}
        server, usual = self._running[setup]
        eventually(server.has_all_processes, "all processes have started")
        if activity not in usual:
            server.activities[activity]()  # once more than is looked at: the first time logs what the next does not
            usual[activity] = server.observe(server.activities[activity])
        return server, usual[activity]

    def end(self, setup: str) -> None:
        """End a server."""
        if setup in self._running:
            server, _ = self._running.pop(setup)
            server.__exit__(None, None, None)

    def end_all(self) -> None:
        """End all servers."""
        for setup in list(self._running):
            self.end(setup)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """The servers of this module."""
    servers = Servers(tmp_path_factory.mktemp("faults"))
    yield servers
    servers.end_all()


@pytest.fixture
def observe(servers: Servers) -> Iterator[Callable[[Case, str, int], tuple[Outcome, Outcome, int]]]:
    """Returns what comes of a case's activity with an error, what usually comes of it, and how often it was raised."""
    used: list[Case] = []
    passed = False

    def run(case: Case, error: str, times: int) -> tuple[Outcome, Outcome, int]:
        nonlocal passed
        used.append(case)
        passed = False
        server, usual = servers.get(case.setup, case.activity)
        pid, raised = server.pid, 0

        def activity() -> list[int]:
            nonlocal raised
            server.orders.arm(case.seam, error, times=times)
            answers = server.activities[case.activity]()
            raised = server.orders.disarm()
            return answers

        outcome = server.observe(activity)
        assert server.pid == pid
        assert server.process is not None
        assert server.process.poll() is None
        passed = True
        return outcome, usual, raised

    yield run
    if not passed:
        for case in used:
            servers.end(case.setup)


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a short name: below it gunicorn's dirty workers bind a Unix socket."""
    return tmp_path_factory.mktemp("faults")


ALLOWED = {
    "reported": [(1, 1)],
    "logged": [(1, 0)],
    "counted": [(0, 1), (1, 1)],
    "told": [(0, 0), (1, 0)],
    "quiet": [(0, 0)],
}
"""By outcome, the numbers of lines and counts."""


def outcome_of(case: Case, error: str) -> str:
    """Return what comes of one of the two errors of a case."""
    first, _, second = case.outcome.partition("/")
    return second if second and error == case.errors[1] else first


def check(case: Case, error: str, outcome: Outcome, usual: Outcome) -> None:
    """Check lines and counts against the case."""
    lines, counts = outcome.beyond(usual)
    lines = [line for line in lines if "the kernel does not tell" not in line]  # on a busy machine it is late
    assert (len(lines), sum(counts.values())) in ALLOWED[outcome_of(case, error)], (lines, counts)


@pytest.mark.slow
@pytest.mark.parametrize("case", LATER, ids=name_of)
def test_fault_at_a_later_use(observe: Callable[..., tuple[Outcome, Outcome, int]], case: Case) -> None:
    """A call that has succeeded before fails once: requests are answered, one line, one count, and the page is back."""
    for error in case.errors:
        outcome, usual, raised = observe(case, error, 1)
        assert raised == 1
        assert outcome.answers == usual.answers
        check(case, error, outcome, usual)


@pytest.mark.by_hand
@pytest.mark.parametrize("case", LATER, ids=name_of)
def test_fault_that_lasts(observe: Callable[..., tuple[Outcome, Outcome, int]], case: Case) -> None:
    """A call fails at each use: all requests are answered, the log does not grow with them, and the page comes back."""
    outcome, usual, raised = observe(case, case.errors[-1], ALWAYS)
    assert raised >= 1
    assert outcome.answers == usual.answers
    lines, counts = outcome.beyond(usual)
    assert max(Counter(lines).values(), default=0) <= 2, lines  # one of the master, one of the worker
    assert counts or case.outcome not in ("reported", "counted"), counts


def start_with_fault(folder: Path, case: Case, error: str) -> None:
    """Start a server whose first use of a call fails, have it replace its worker, reload and stop."""
    server = FaultServer(folder, case.setup)
    server.orders.arm(case.seam, error)
    with server:
        activity = server.activities.get(case.activity, server.look)
        activity()
        if not server.orders.uses:  # a worker has to have exited before, or another process has to be seen twice
            server.replace(signal.SIGKILL)
            activity()
        assert server.orders.disarm() == 1
        assert server.replace(signal.SIGKILL) + server.reload() == [200] * 4
        counts = server.whole_page().sum("gunicorn_exporter_errors_total")
        lines = [line for line in server.lines() if " exited*" not in line and " aborted; stacks" not in line]
        assert not [line for line in lines if not line.startswith("gunicorn_prom_hooks")]
        if case.activity == "boot":
            assert (len(lines), counts) in ALLOWED[outcome_of(case, error)], lines
    assert server.process is not None
    assert server.process.returncode == 0
    left = [path.name for path in (folder / "temporary").iterdir()]
    assert [name for name in left if not name.startswith("gunicorn-dirty-")] == []  # that is gunicorn's own


@pytest.mark.parametrize(
    "case", [case if case in STARTS else pytest.param(case, marks=BY_HAND) for case in AT_BOOT], ids=name_of
)
def test_fault_at_the_start(folder: Path, case: Case) -> None:
    """A call of the start fails: the server serves, one line, one count, and the page is there after a reload."""
    start_with_fault(folder, case, case.errors[0])


@pytest.mark.by_hand
@pytest.mark.parametrize("case", [case for case in LATER if case not in CHECKS], ids=name_of)
def test_fault_at_the_first_use(folder: Path, case: Case) -> None:
    """The first use of a call fails in a new server: it serves, and its page comes."""
    start_with_fault(folder, case, case.errors[-1])


@pytest.mark.parametrize("case", CHECKS, ids=name_of)
def test_setting_that_cannot_be_checked_at_the_start_ends_it_with_one_line(folder: Path, case: Case) -> None:
    """A call that checks a setting fails in the start: gunicorn ends as with a wrong setting."""
    for at, error in enumerate(case.errors):
        server = FaultServer(folder / str(at), case.setup)
        server.orders.arm(case.seam, error)
        server.start()
        assert server.process is not None
        assert server.process.wait(DEADLINE) == 1
        [line] = server.log.strip().splitlines()
        assert line.startswith("gunicorn_prom_hooks: setting ")
        assert line.count("the value cannot be used") == 1


@pytest.mark.parametrize("case", AT_STOP, ids=name_of)
def test_fault_at_the_stop(folder: Path, case: Case) -> None:
    """A call of the stop fails: the server ends as it does without the fault."""
    server = FaultServer(folder, case.setup)
    with server:
        server.ask()
        server.whole_page()
        server.orders.arm(case.seam, case.errors[0])
        server.stop()
        assert server.orders.disarm() == 1
    assert server.process is not None
    assert server.process.returncode == 0
    assert len(server.lines()) == (case.outcome != "quiet"), server.lines()


FAULTY_LOGGER = """
import errno
from gunicorn.glogging import Logger

class FaultyLogger(Logger):
    def refuse(self, *said):
        if "gunicorn_prom_hooks" in str(said):
            raise OSError(errno.ENOSPC, "No space left on device")

    def error(self, msg, *args, **kwargs):
        self.refuse(msg, args)
        super().error(msg, *args, **kwargs)

    def warning(self, msg, *args, **kwargs):
        self.refuse(msg, args)
        super().warning(msg, *args, **kwargs)

    def info(self, msg, *args, **kwargs):
        self.refuse(msg, args)
        super().info(msg, *args, **kwargs)

from prometheus_client import Counter
from prometheus_client import REGISTRY
if "early" not in str(list(REGISTRY._names_to_collectors)):
    Counter("early", "Made before gunicorn has started.")  # a warning at the start
logger_class = FaultyLogger
bind = "127.0.0.1:PORT"
control_socket_disable = True
from gunicorn_prom_hooks import install
"""


def another_worker(server: Server, pid: int) -> int:
    """Return the pid of the worker that answers once it is another one."""
    eventually(lambda: int(server.get("/").text) != pid, "another worker")
    return int(server.get("/").text)


def test_faulty_logger(serve: Serve) -> None:
    """A logger that raises for each line of the product: the server starts, reads bad settings, replaces workers."""
    server = serve(config=FAULTY_LOGGER + "install(globals(), port=METRICS_PORT, address='0.0.0.0')\n")
    pid = int(server.get("/").text)
    for bad in ("max_endpoints=0", "duration_buckets=(1, 2)", "certfile='/missing'", "address='no.such.host.invalid'"):
        server.configure(FAULTY_LOGGER + f"install(globals(), port=METRICS_PORT, {bad})\n")
        server.signal(signal.SIGHUP)
        pid = another_worker(server, pid)
    server.configure(FAULTY_LOGGER + "install(globals(), port=METRICS_PORT)\n")
    server.signal(signal.SIGHUP)
    samples = server.wait_for_workers(1)
    psutil.Process(int(server.get("/").text)).kill()
    assert eventually(lambda: server.get("/").status_code == 200, "the application answers")
    assert samples.one("gunicorn_exporter_errors_total", where="log") >= 1
    assert "gunicorn_prom_hooks:" not in server.log


def test_each_seam_has_a_case() -> None:
    """Each call that may fail has a case, each case a call; each one that is not reported has its reason."""
    assert [case.seam for case in CASES if not case.reason and case.outcome != "reported"] == []
    assert {outcome for case in CASES for outcome in case.outcome.split("/")} <= set(ALLOWED)
    assert sorted({case.seam for case in CASES} ^ set(CALLS)) == []
