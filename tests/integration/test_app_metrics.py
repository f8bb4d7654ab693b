"""The application's own metrics, on our page."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.servers import GUNICORN, Samples, Server, eventually, unused_port
from tests.integration.conftest import CONFIG, Serve

APP = """
import os, subprocess, sys
from prometheus_client import (
    CollectorRegistry, Counter, Gauge, Histogram, Info, Summary, generate_latest, multiprocess)

orders = Counter("shop_orders", "Orders.", ["kind"])
latency = Histogram("shop_latency_seconds", "Latency.", buckets=(0.1, 1.0))
size = Summary("shop_size_bytes", "Size.")
gauges = {mode: Gauge("shop_" + mode, "A gauge.", multiprocess_mode=mode) for mode in (
    "all", "liveall", "sum", "livesum", "min", "livemin", "max", "livemax", "mostrecent", "livemostrecent")}

def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path.startswith("/order"):
        orders.labels("\\u00fc\\n\\"" if path == "/order/odd" else "plain").inc()
        latency.observe(0.5)
        size.observe(7)
    if path.startswith("/set/"):
        for gauge in gauges.values():
            gauge.set(float(path[5:]))
    if path == "/fork":
        pid = os.fork()
        if not pid:
            orders.labels("forked").inc(5)
            gauges["livesum"].set(1000)
            os._exit(0)
        os.waitpid(pid, 0)
    if path == "/helper":
        code = "from prometheus_client import Counter; Counter('shop_helped', 'Helped.').inc(3)"
        subprocess.run([sys.executable, "-c", code], check=True)
    if path == "/environ":
        body = os.environ.get("PROMETHEUS_MULTIPROC_DIR", "none").encode()
    elif path == "/directory":  # where this process has its files open
        files = [os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
        body = os.path.dirname(next((file for file in files if ".db" in file), "")).encode()
    elif path == "/own":
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)
        body = generate_latest(registry)
    else:
        body = str(os.getpid()).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""


def directory(server: Server) -> Path:
    """Where the application's metrics are, as a worker has its files open."""
    return Path(server.get("/directory").text)


def when(server: Server, name: str, value: float, **labels: str) -> Samples:
    """The first page on which this metric has this value."""

    def probe() -> Samples:
        samples = server.scrape()
        assert samples.sum(name, **labels) == value, samples.all(name)
        return samples

    return eventually(probe, f"{name} {value}")


@pytest.mark.parametrize("more", ["", "preload_app = True\n", "worker_class = 'gthread'\nthreads = 4\n"])
def test_on_the_page(serve: Serve, more: str) -> None:
    """Every type and every mode of a gauge is on the page, summed over workers, with any label."""
    server = serve("workers = 2\n" + more, app=APP)
    server.wait_for_workers(2)
    for _ in range(20):
        server.get("/order")
    server.get("/order/odd")
    eventually(lambda: len({server.get("/set/4").text for _ in range(10)}) == 2, "both workers have set it")
    samples = when(server, "shop_orders_total", 20, kind="plain")
    assert samples.one("shop_orders_total", kind='ü\n"') == 1
    assert samples.one("shop_latency_seconds_bucket", le="1.0") == 21
    assert samples.one("shop_latency_seconds_count") == 21
    assert samples.one("shop_size_bytes_sum") == 147
    assert {labels["pid"] for labels, _ in samples.all("shop_all")} >= {"s0", "s1"}
    for mode in ("sum", "livesum"):
        assert samples.one(f"shop_{mode}") == 8
    for mode in ("min", "max", "livemax", "mostrecent", "livemostrecent"):
        assert samples.one(f"shop_{mode}") == 4, mode
    assert samples.one("gunicorn_exporter_collector_success", collector="app_metrics") == 1
    assert samples.sum("gunicorn_exporter_errors_total") == 0


def test_generations(serve: Serve) -> None:
    """Counters go on from one worker to its successor in the same few files; live gauges go with their worker."""
    server = serve("workers = 1\n", app=APP)
    server.get("/set/5")
    for generation in range(1, 6):
        server.get("/order")
        samples = when(server, "shop_orders_total", generation)
        assert samples.sum("shop_livesum") == (5 if generation == 1 else 0)
        assert samples.sum("shop_sum") == 5
        [worker] = server.workers()
        worker.kill()
        eventually(lambda: worker not in server.workers(), "it is gone")  # noqa: B023 - it is called now
        server.wait_for_workers(1)
    assert len(list(directory(server).glob("counter_*.db"))) <= 2


def test_check_config(tmp_path: Path) -> None:
    """gunicorn --check-config makes no directory, and leaves prometheus_client as it is."""
    (tmp_path / "tmp").mkdir()
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "gunicorn.conf.py").write_text("from gunicorn_prom_hooks import install\ninstall(globals())\n")
    environ = {**os.environ, "TMPDIR": str(tmp_path / "tmp"), "PYTHONPATH": str(tmp_path)}
    subprocess.run([GUNICORN, "--check-config", "app:app"], cwd=tmp_path, env=environ, check=True, timeout=60)
    assert list((tmp_path / "tmp").iterdir()) == []


def test_private_directory(serve: Serve) -> None:
    """The directory is private, has a name that cannot be guessed, and goes with the server."""
    first, second = serve(app=APP), serve(app=APP)
    paths = {directory(server) for server in (first, second)}
    assert len(paths) == 2
    for path in paths:
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
        assert re.fullmatch(r"gunicorn-prom-hooks-\w{8}", path.name)
    for server in (first, second):
        server.signal(signal.SIGTERM)
        assert server.process is not None
        server.process.wait(20)
    assert not any(path.exists() for path in paths)


def test_left_by_a_killed_master(serve: Serve, tmp_path: Path) -> None:
    """The directory of a master that was killed is removed by the next one of the same user."""
    environ = {"TMPDIR": str(tmp_path)}  # in /tmp, a server of another test might be the next one
    first = serve(app=APP, environ=environ)
    path = directory(first)
    workers = first.workers()
    assert first.process is not None
    first.process.kill()
    first.process.wait(20)
    for worker in workers:
        worker.wait(20)
    assert path.exists()
    serve(app=APP, environ=environ)
    assert not path.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run workers as another user")
@pytest.mark.parametrize("own", [False, True])
def test_another_user(serve: Serve, own: bool) -> None:
    """If workers run as another user, the directory belongs to that user."""
    with contextlib.ExitStack() as stack:
        environ = {}
        if own:  # not below tmp_path, where only we may go
            environ["PROMETHEUS_MULTIPROC_DIR"] = f"{stack.enter_context(tempfile.TemporaryDirectory())}/metrics"
            Path(environ["PROMETHEUS_MULTIPROC_DIR"]).parent.chmod(0o755)
        # Preloaded, since that user may not be able to read the application, or Python.
        server = serve("user = 'nobody'\npreload_app = True\nworkers = 2\n", app=APP, environ=environ)
        another_user(server)


def another_user(server: Server) -> None:
    """The workers' user owns the directory, and what they count is on the page."""
    server.get("/order")
    when(server, "shop_orders_total", 1)
    assert directory(server).stat().st_uid != os.geteuid()


def own_page(server: Server, name: str) -> float:
    """A value at the application's own endpoint, which prometheus_client makes of the directory."""
    answer = server.get("/own")
    assert answer.status_code == 200, server.log
    return sum(float(line.split()[-1]) for line in answer.text.splitlines() if line.startswith(name))


@pytest.mark.parametrize("own", [False, True])
def test_forked_and_other_processes(serve: Serve, tmp_path: Path, own: bool) -> None:
    """What processes count that a worker forks is counted when they are gone; the next one goes on with their files.

    So is what started programs count, where the user has named a directory: only there do they learn of it, and the
    application's own endpoint sees all of it as well.
    """
    server = serve("workers = 2\n", app=APP, environ={"PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "a")} if own else {})
    for number in range(1, 6):
        server.get("/fork")
        server.get("/helper")
        samples = when(server, "shop_orders_total", 5 * number, kind="forked")
        when(server, "shop_helped_total", 3 * number if own else 0)
        if own:
            assert own_page(server, 'shop_orders_total{kind="forked"}') == 5 * number
            assert own_page(server, "shop_helped_total") == 3 * number
        assert samples.sum("shop_livesum") in (0, 1000)
    eventually(lambda: server.scrape().sum("shop_livesum") == 0, "live gauges are gone")
    names = {file.name for file in directory(server).glob("counter_[sp]*.db")}
    suffix = f"-{server.pid}" if own else ""
    assert names <= {f"counter_{identity}{suffix}.db" for identity in ("s0", "s1", "s2", "p0")}
    assert when(server, "shop_orders_total", 25, kind="forked")


PROGRAMS = """
from prometheus_client import values
for number in range(70):
    value_class = values.MultiProcessValue(lambda: str(2**22 + number))
    value_class("counter", "shop_jobs", "shop_jobs_total", (), (), "Jobs.").inc(2)
"""


def test_many_programs(serve: Serve, tmp_path: Path) -> None:
    """Files of programs that are gone are put together when there are many of them, and nothing is lost."""
    server = serve("workers = 1\n", app=APP, environ={"PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "a")})
    path = directory(server)
    environ = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(path)}
    subprocess.run([sys.executable, "-c", PROGRAMS], env=environ, check=True)
    when(server, "shop_jobs_total", 140)
    when(server, "shop_jobs_total", 140)
    assert own_page(server, "shop_jobs_total") == 140
    assert (path / f"counter_gone-{server.pid}.db").exists()


@pytest.mark.parametrize("port", ["METRICS_PORT", "0"])
def test_nobody_scrapes(serve: Serve, tmp_path: Path, port: str) -> None:
    """The number of files follows the processes alive at once, not the number of generations."""
    path = tmp_path / "metrics"
    more = f"workers = 2\nmax_requests = 1\ninstall(globals(), port={port}, multiproc_dir={str(path)!r})\n"
    server = serve(more, app=APP)
    for _ in range(30):
        assert server.get("/fork").ok
    assert eventually(lambda: own_page(server, 'shop_orders_total{kind="forked"}') == 150, "all is counted")
    identities = {file.stem.rpartition("_")[2] for file in path.glob("*.db")}
    assert len(identities) <= 8, identities


def test_own_endpoint_while_workers_come_and_go(serve: Serve, tmp_path: Path) -> None:
    """The application's own endpoint misses no file and never goes back, with scrapes in between."""
    environ = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "a")}
    server = serve("workers = 3\nmax_requests = 3\n", app=APP, environ=environ)
    last = 0.0
    for number in range(60):
        assert server.get("/order").ok
        assert server.get("/set/2").ok
        if number % 3 == 0:
            server.scrape()
        # prometheus_client cannot read a file at the very moment at which it is made, with us or without.
        now = eventually(lambda: own_page(server, 'shop_orders_total{kind="plain"}'), "it answers")
        assert now >= last
        last = now
    assert last == 60
    assert own_page(server, "shop_sum") >= 2 * 60 / 3
    assert "FileNotFoundError" not in server.log


def test_a_number_that_is_no_pid(serve: Serve, tmp_path: Path) -> None:
    """A process_identifier of the user's, and a process in another pid namespace: what they write stays and counts."""
    own = (
        "import os\nfrom prometheus_client import values, Counter\n"
        "values.ValueClass = values.MultiProcessValue(lambda: os.environ['NUMBER'])\n"
        "orders = Counter('shop_orders', 'Orders.')\n"
        "def app(environ, start_response):\n"
        "    orders.inc()\n"
        "    start_response('200 OK', [('Content-Length', '0')])\n"
        "    return []\n"
    )
    config = "import os\nworkers = 1\ndef post_fork(server, worker): os.environ['NUMBER'] = str(4000000 + worker.age)\n"
    server = serve(config=config + CONFIG, app=own, environ={"PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "metrics")})
    before = server.scrape().sum("shop_orders_total")
    for number in range(1, 4):
        server.get("/")
        when(server, "shop_orders_total", before + 2 * number - 1)
        server.get("/")
        when(server, "shop_orders_total", before + 2 * number)
        [worker] = server.workers()
        worker.kill()
        eventually(lambda: worker not in server.workers(), "it is gone")  # noqa: B023 - it is called now
        server.wait_for_workers(1)


def test_switched_off(serve: Serve) -> None:
    """With app_metrics off the environment is as it was, and nothing of the application is on the page."""
    server = serve("install(globals(), port=METRICS_PORT, app_metrics=False)\n", app=APP)
    server.get("/order")
    samples = server.settled(2)
    assert samples.all("shop_orders_total") == []
    assert samples.all("gunicorn_exporter_collector_success", collector="app_metrics") == []
    assert server.get("/directory").text == "", "there are no files"
    assert server.get("/environ").text == "none"


def test_a_directory_of_the_user(serve: Serve, tmp_path: Path) -> None:
    """The user's directory is used, made if need be, emptied of files without a writer, and left in place."""
    path = tmp_path / "a" / "b"
    path.mkdir(parents=True)
    (path / "counter_99999999.db").write_bytes(bytes(1 << 16))
    (path / "counter_7.db").write_bytes(b"mine")
    (path / "notes.txt").write_text("mine")
    server = serve(app=APP, environ={"PROMETHEUS_MULTIPROC_DIR": str(path)})
    server.get("/order")
    when(server, "shop_orders_total", 1)
    assert directory(server) == path
    assert {file.name for file in path.glob("counter*")} == {f"counter_s0-{server.pid}.db", "counter_7.db"}
    assert f"1 files of exited processes removed from {path}" in server.log
    server.signal(signal.SIGTERM)
    assert server.process is not None
    server.process.wait(20)
    assert {file.name for file in path.iterdir()} == {"notes.txt", "counter_7.db", "gunicorn-masters.lock"}


MARK_DEAD = """
from prometheus_client import multiprocess
def child_exit(server, worker):
    multiprocess.mark_process_dead(worker.pid)
"""


@pytest.mark.parametrize("how", ["environment", "raw_env", "setting"])
def test_two_servers_in_one_directory(serve: Serve, tmp_path: Path, how: str) -> None:
    """The second server says so and goes on as without us: its hooks, its own endpoint, its files in the directory."""
    path = str(tmp_path / "shared")
    more = {
        "environment": "",
        "raw_env": f"raw_env = ['PROMETHEUS_MULTIPROC_DIR={path}']\n",
        "setting": f"install(globals(), port=METRICS_PORT, multiproc_dir={path!r})\n",
    }[how]
    environ = {"PROMETHEUS_MULTIPROC_DIR": path} if how == "environment" else {}
    first, second = (serve(MARK_DEAD + "workers = 1\n" + more, app=APP, environ=environ) for _ in range(2))
    for server in (first, second):
        server.get("/order")
        server.get("/set/2")
    assert f"another gunicorn (pid {first.pid}) uses it; the server goes on without them" in second.log
    assert second.settled(3).all("shop_orders_total") == []
    when(first, "shop_orders_total", 2)
    assert own_page(second, "shop_orders_total") == 2
    assert own_page(second, "shop_livesum") == 4
    for number in (1, 2):
        second.signal(signal.SIGHUP)
        eventually(lambda: second.scrape().one("gunicorn_reloads_total") == number, "it has reloaded")  # noqa: B023
        second.wait_for_workers(1)
        assert second.get("/order").ok
    assert own_page(second, "shop_livesum") == 2
    assert own_page(second, "shop_orders_total") == 4
    assert "Unhandled exception" not in second.log


def test_a_directory_named_below_install(serve: Serve, tmp_path: Path) -> None:
    """The config file may set the variable anywhere: the application's own endpoint and our page have all there is."""
    path = tmp_path / "late"
    more = f"import os\nos.environ['PROMETHEUS_MULTIPROC_DIR'] = {str(path)!r}\n"
    server = serve(more, app=APP)
    server.get("/order")
    when(server, "shop_orders_total", 1)
    assert own_page(server, "shop_orders_total") == 1


@pytest.mark.parametrize("preload", ["", "preload_app = True\n"])
def test_a_directory_named_by_the_application(serve: Serve, tmp_path: Path, preload: str) -> None:
    """Its own endpoint has what it has without us, and the log says why our page has not."""
    path = tmp_path / "named"
    path.mkdir()
    name = f"import os\nos.environ['PROMETHEUS_MULTIPROC_DIR'] = {str(path)!r}\n"
    server = serve(preload, app=name + APP)
    for count in (1, 2):
        server.get("/order")
        assert own_page(server, "shop_orders_total") == count
        [worker] = server.workers()
        worker.kill()
        eventually(lambda: worker not in server.workers(), "it is gone")  # noqa: B023 - it is called now
        server.wait_for_workers(1)
    assert server.scrape().all("shop_orders_total") == []
    assert f"the application names {path} for its metrics after gunicorn has started" in server.log


@pytest.mark.parametrize("own", [False, True])
def test_upgrade(serve: Serve, own: bool, tmp_path: Path) -> None:
    """USR2: each master has its own workers' metrics, in one directory or in two; what the old one had goes with it."""
    environ = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "shared")} if own else {}
    server = serve("workers = 1\npidfile = 'pid'\n", app=APP, environ=environ)
    server.signal(signal.SIGHUP)  # after a reload gunicorn hands on the environment as it is then
    eventually(lambda: server.scrape().one("gunicorn_reloads_total") == 1, "it has reloaded")
    server.wait_for_workers(1)
    server.get("/order")
    when(server, "shop_orders_total", 1)
    old = directory(server)
    server.signal(signal.SIGUSR2)
    new = int(eventually((server.folder / "pid.2").read_text, "the new master"))
    try:
        eventually(lambda: len({server.get("/").text for _ in range(20)}) == 2, "both answer")
        server.signal(signal.SIGTERM)
        assert server.process is not None
        server.process.wait(20)
        eventually(lambda: server.get("/order").ok, "the new one answers")
        samples = eventually(lambda: s if (s := server.scrape()).sum("shop_orders_total") else None, "its metrics")
        assert samples.sum("shop_orders_total") == 1
        assert old.exists() == own
        if own:
            assert own_page(server, "shop_orders_total") == 2
            assert list(old.glob(f"*-{new}.db"))
    finally:
        os.kill(new, signal.SIGTERM)
        eventually(lambda: not os.path.exists(f"/proc/{new}") or zombie(new), "the new master is gone")
    assert not list(tmp_path.rglob("*.db"))


def zombie(pid: int) -> bool:
    """Whether only its entry is left of this process."""
    return "(zombie)" in Path(f"/proc/{pid}/status").read_text()


def test_unwritable_directory(serve: Serve, tmp_path: Path) -> None:
    """A directory that cannot be used is one line in the log; the application works, its metrics stay its own."""
    (tmp_path / "file").write_text("")
    server = serve(MARK_DEAD, app=APP, environ={"PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "file" / "x")})
    assert server.get("/order").ok
    [worker] = server.workers()
    worker.kill()
    eventually(lambda: worker not in server.workers(), "it is gone")
    server.wait_for_workers(1)
    assert server.get("/order").ok
    assert server.log.count("no application metrics") == 1
    assert server.settled(2).all("shop_orders_total") == []


def test_bad_file(serve: Serve) -> None:
    """A file that is none costs only itself: it is counted, and logged once."""
    server = serve(app=APP)
    server.get("/order")
    (directory(server) / "counter_77.db").write_bytes(b"\xff" * 100)
    for _ in range(4):
        samples = when(server, "shop_orders_total", 1)
    assert samples.one("gunicorn_exporter_errors_total", where="app_metrics_file") >= 3
    assert server.log.count("'counter_77.db' is left out") == 1


def test_a_name_of_ours(serve: Serve) -> None:
    """An application metric with a name of this package is left out, and logged once."""
    app = APP + "\nCounter('gunicorn_requests', 'Mine.').inc(1000)\nGauge('gunicorn_workers', 'Mine.').set(1000)\n"
    server = serve(app=app)
    server.get("/order")
    samples = when(server, "shop_orders_total", 1)
    assert samples.sum("gunicorn_requests_total") < 1000
    server.scrape()
    assert server.log.count("the application's metric gunicorn_requests is left out: the name is taken") == 1
    assert server.log.count("the application's metric gunicorn_workers is left out: the name is taken") == 1


def test_the_trap(serve: Serve) -> None:
    """Metrics made while the config is read: one line that says what to move where, and the server serves."""
    early = "from prometheus_client import Counter\nearly = Counter('shop_early', 'Too early.')\n"
    server = serve(config=early + CONFIG, app=APP)
    server.get("/order")
    when(server, "shop_orders_total", 1)
    assert server.log.count("count in each process for itself: shop_early; make them in the application") == 1


def test_imported_before_install(serve: Serve) -> None:
    """A config that merely imports prometheus_client before the install line is no trap."""
    server = serve(config="import prometheus_client\n" + CONFIG, app=APP)
    server.get("/order")
    when(server, "shop_orders_total", 1)
    assert "too early" not in server.log
    assert "for itself" not in server.log


@pytest.mark.parametrize("own", [False, True])
def test_directory_removed(serve: Serve, tmp_path: Path, own: bool) -> None:
    """If the directory is removed, no count is lost from before, in between, and after."""
    environ = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "a")} if own else {}
    server = serve("workers = 1\n", app=APP, environ=environ)
    for _ in range(3):
        server.get("/order")
    server.get("/fork")
    when(server, "shop_orders_total", 8)
    shutil.rmtree(directory(server))
    server.get("/order")
    assert server.scrape().sum("shop_orders_total") >= 8
    server.get("/order")
    when(server, "shop_orders_total", 10)
    assert not own or own_page(server, "shop_orders_total") == 10
    assert stat.S_IMODE(directory(server).stat().st_mode) == 0o700
    shutil.rmtree(directory(server))
    server.workers()[0].kill()
    eventually(lambda: server.get("/order").ok and server.get("/order/odd").ok, "a worker answers")
    when(server, "shop_orders_total", 1, kind='\u00fc\n"')
    assert server.scrape().sum("shop_orders_total") >= 12
    assert server.log.count("application metrics: files were removed from") == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make what another user has made")
def test_directory_of_another_user(serve: Serve, tmp_path: Path) -> None:
    """What another user has put where the directory was is not used; the metrics go on in another directory."""
    server = serve("workers = 1\n", app=APP)
    server.get("/order")
    when(server, "shop_orders_total", 1)
    path, victim = directory(server), tmp_path / "victim"
    victim.write_text("precious")
    shutil.rmtree(path)
    path.mkdir(mode=0o777)
    try:
        for name in ("counter_s0.db", "counter_p0.db", "histogram_s0.db"):
            (path / name).symlink_to(victim)
        os.chown(path, 54321, 54321)
        for number in (1, 2):
            server.signal(signal.SIGHUP)
            eventually(lambda: server.scrape().one("gunicorn_reloads_total") == number, "it has reloaded")  # noqa: B023
            server.wait_for_workers(1)
        server.get("/order")
        server.get("/fork")
        when(server, "shop_orders_total", 7)
        assert directory(server) != path
        assert victim.read_text() == "precious"
        assert len(list(path.iterdir())) == 3
    finally:
        shutil.rmtree(path)


@pytest.mark.parametrize("preload", ["", "preload_app = True\n"])
def test_reload_changes_the_environment(serve: Serve, tmp_path: Path, preload: str) -> None:
    """A directory that comes, changes or goes with raw_env at a reload is not taken: metrics go on where they were."""
    first, second = (f"raw_env = ['PROMETHEUS_MULTIPROC_DIR={tmp_path / name}']\n" for name in ("a", "b"))
    more = CONFIG + "workers = 1\n" + preload
    server = serve(config=more + first, app=APP)
    server.get("/order")
    when(server, "shop_orders_total", 1)
    for number, config in enumerate((more + second, more, more + first), 1):
        server.configure(config)
        server.signal(signal.SIGHUP)
        eventually(lambda: server.scrape().one("gunicorn_reloads_total") == number, "it has reloaded")  # noqa: B023
        server.wait_for_workers(1)
        server.get("/order")
        when(server, "shop_orders_total", 1 + number)
    assert not (tmp_path / "b").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run workers as another user")
def test_out_of_reach(serve: Serve, tmp_path: Path) -> None:
    """A directory that the workers cannot get to costs the metrics and nothing else."""
    tmp_path.chmod(0o700)
    server = serve("user = 'nobody'\npreload_app = True\n", app=APP, environ={"TMPDIR": str(tmp_path)})
    assert server.get("/order").ok
    samples = server.settled(2)
    assert samples.sum("gunicorn_exporter_errors_total", where="app_metrics") >= 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KB, nearly full."""
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(path)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


@pytest.mark.parametrize("preload", ["", "preload_app = True\n"])
def test_full_disk(serve: Serve, small_disk: Path, preload: str) -> None:
    """Where there is no room for the files, metrics stay in memory, and no process is killed."""
    server = serve("workers = 1\n" + preload, app=APP, environ={"PROMETHEUS_MULTIPROC_DIR": str(small_disk)})
    for number in range(3):
        assert server.get("/order").ok, number
    samples = server.settled(4)
    assert sum(value for _, value in samples.all("gunicorn_worker_exits_total")) == 0
    assert samples.sum("gunicorn_exporter_errors_total", where="app_metrics") >= 1


def test_damaged_file_of_a_slot(serve: Serve) -> None:
    """The file of a slot, damaged while no worker has it, is put aside by the next one."""
    server = serve("workers = 1\n", app=APP)
    server.get("/order")
    file = directory(server) / "counter_s0.db"
    os.kill(server.pid, signal.SIGSTOP)
    [worker] = server.workers()
    worker.kill()
    eventually(lambda: worker.status() == "zombie", "it is dead")
    with file.open("r+b") as damaged:
        damaged.seek(8)
        damaged.write(b"\xff\xff\xff\x7f")
    os.kill(server.pid, signal.SIGCONT)
    eventually(lambda: server.get("/order").ok, "a worker answers")
    when(server, "shop_orders_total", 1)


def test_gauges_of_killed_workers(serve: Serve) -> None:
    """A gauge that a killed worker left up is not where its successor begins: they add up as those of two processes."""
    server = serve("workers = 1\n", app=APP)
    for generation in range(1, 4):
        server.get("/set/2")
        samples = when(server, "shop_sum", 2 * generation)
        assert (samples.one("shop_max"), samples.one("shop_livesum")) == (2, 2)
        [worker] = server.workers()
        worker.kill()
        eventually(lambda: worker not in server.workers(), "it is gone")  # noqa: B023 - it is called now
        server.wait_for_workers(1)
    assert server.scrape().sum("shop_livesum") == 0


def test_start_that_fails(tmp_path: Path) -> None:
    """A server that does not get as far as to serve leaves no directory."""
    (tmp_path / "tmp").mkdir()
    (tmp_path / "app.py").write_text("raise ValueError")
    environ = {**os.environ, "TMPDIR": str(tmp_path / "tmp"), "PYTHONPATH": str(tmp_path)}
    for port in ("0", str(unused_port())):
        environ["PROMETHEUS_METRICS_PORT"] = port
        (tmp_path / "gunicorn.conf.py").write_text(
            "from gunicorn_prom_hooks import install\ninstall(globals())\npreload_app = True\n"
        )
        done = subprocess.run([GUNICORN, "app:app"], cwd=tmp_path, env=environ, check=False, timeout=60)
        assert done.returncode
        assert list((tmp_path / "tmp").iterdir()) == []
