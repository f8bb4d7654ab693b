"""The application's own metrics on the page, of all of its processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.app_metrics_server import APP, MARK_DEAD, directory, own_page, when
from tests.helpers.places import APPLICATIONS
from tests.helpers.servers import GUNICORN, eventually
from tests.integration.conftest import CONFIG, Serve


@pytest.mark.parametrize("more", ["", "preload_app = True\n", "worker_class = 'gthread'\nthreads = 4\n"])
def test_metrics_of_every_type_and_gauge_mode_are_on_the_page(serve: Serve, more: str) -> None:
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


def test_counters_go_on_in_the_successor_and_live_gauges_end_with_the_worker(serve: Serve) -> None:
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


def test_check_config_creates_no_directory(tmp_path: Path) -> None:
    """gunicorn --check-config makes no directory, and leaves prometheus_client as it is."""
    (tmp_path / "tmp").mkdir()
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "gunicorn.conf.py").write_text("from gunicorn_prom_hooks import install\ninstall(globals())\n")
    environ = {**os.environ, "TMPDIR": str(tmp_path / "tmp"), "PYTHONPATH": str(tmp_path)}
    subprocess.run([GUNICORN, "--check-config", "app:app"], cwd=tmp_path, env=environ, check=True, timeout=60)
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize("own", [False, True])
def test_counts_of_forked_and_started_processes_are_on_the_page(serve: Serve, tmp_path: Path, own: bool) -> None:
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


def test_files_of_140_exited_programs_are_merged_without_loss(serve: Serve, tmp_path: Path) -> None:
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
def test_files_are_bounded_by_live_processes_without_any_scrape(serve: Serve, tmp_path: Path, port: str) -> None:
    """The number of files follows the processes alive at once, not the number of generations."""
    path = tmp_path / "metrics"
    more = f"workers = 2\nmax_requests = 1\ninstall(globals(), port={port}, multiproc_dir={str(path)!r})\n"
    server = serve(more, app=APP)
    for _ in range(30):
        assert server.get("/fork").ok
    assert eventually(lambda: own_page(server, 'shop_orders_total{kind="forked"}') == 150, "all is counted")
    identities = {file.stem.rpartition("_")[2] for file in path.glob("*.db")}
    assert len(identities) <= 8, identities


def test_counts_under_a_custom_process_identifier_are_kept(serve: Serve, tmp_path: Path) -> None:
    """A process_identifier of the user's, and a process in another pid namespace: what they write stays and counts."""
    own = APPLICATIONS / "own_identifier.py"
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


def test_app_metrics_off_leaves_environment_and_page_without_app_metrics(serve: Serve) -> None:
    """With app_metrics off the environment is as it was, and nothing of the application is on the page."""
    server = serve("install(globals(), port=METRICS_PORT, app_metrics=False)\n", app=APP)
    server.get("/order")
    samples = server.settled(2)
    assert samples.all("shop_orders_total") == []
    assert samples.all("gunicorn_exporter_collector_success", collector="app_metrics") == []
    assert server.get("/directory").text == "", "there are no files"
    assert server.get("/environ").text == "none"


def test_unusable_directory_is_logged_once_and_requests_are_served(serve: Serve, tmp_path: Path) -> None:
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


def test_corrupt_file_is_counted_and_logged_once_and_others_are_read(serve: Serve) -> None:
    """A file that is none costs only itself: it is counted, and logged once."""
    server = serve(app=APP)
    server.get("/order")
    (directory(server) / "counter_77.db").write_bytes(b"\xff" * 100)
    for _ in range(4):
        samples = when(server, "shop_orders_total", 1)
    assert samples.one("gunicorn_exporter_errors_total", where="app_metrics_file") >= 3
    assert server.log.count("'counter_77.db' is left out") == 1


def test_app_metric_with_a_name_of_the_package_is_left_out_and_logged_once(serve: Serve) -> None:
    """An application metric with a name of this package is left out, and logged once."""
    app = APP + "\nCounter('gunicorn_requests', 'Mine.').inc(1000)\nGauge('gunicorn_workers', 'Mine.').set(1000)\n"
    server = serve(app=app)
    server.get("/order")
    samples = when(server, "shop_orders_total", 1)
    assert samples.sum("gunicorn_requests_total") < 1000
    server.scrape()
    assert server.log.count("the application's metric gunicorn_requests is left out: the name is taken") == 1
    assert server.log.count("the application's metric gunicorn_workers is left out: the name is taken") == 1


def test_metric_made_in_the_config_file_is_logged_once(serve: Serve) -> None:
    """Metrics made while the config is read: one line that says what to move where, and the server serves."""
    early = "from prometheus_client import Counter\nearly = Counter('shop_early', 'Too early.')\n"
    server = serve(config=early + CONFIG, app=APP)
    server.get("/order")
    when(server, "shop_orders_total", 1)
    assert server.log.count("count in each process for itself: shop_early; make them in the application") == 1


def test_prometheus_client_imported_before_install_is_not_logged(serve: Serve) -> None:
    """A config that merely imports prometheus_client before the install line is no trap."""
    server = serve(config="import prometheus_client\n" + CONFIG, app=APP)
    server.get("/order")
    when(server, "shop_orders_total", 1)
    assert "too early" not in server.log
    assert "for itself" not in server.log


@pytest.mark.parametrize("preload", ["", "preload_app = True\n"])
def test_reload_with_another_directory_keeps_the_first_directory(serve: Serve, tmp_path: Path, preload: str) -> None:
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
def test_directory_out_of_reach_of_workers_costs_only_the_metrics(serve: Serve, tmp_path: Path) -> None:
    """A directory that the workers cannot get to costs the metrics and nothing else."""
    tmp_path.chmod(0o700)
    server = serve("user = 'nobody'\npreload_app = True\n", app=APP, environ={"TMPDIR": str(tmp_path)})
    assert server.get("/order").ok
    samples = server.settled(2)
    assert samples.sum("gunicorn_exporter_errors_total", where="app_metrics") >= 1


def test_damaged_file_of_a_slot_is_replaced_by_the_next_worker(serve: Serve) -> None:
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


def test_gauge_of_a_killed_worker_is_not_continued_by_its_successor(serve: Serve) -> None:
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
    when(server, "shop_livesum", 0)
