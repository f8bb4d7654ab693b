"""The directory of the application's metrics: private, shared, unwritable, removed, full, left behind."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.app_metrics_server import APP, MARK_DEAD, directory, own_page, when
from tests.helpers.servers import GUNICORN, Server, eventually, unused_port
from tests.integration.conftest import Serve


def test_private_directory_has_mode_700_and_a_random_name_and_is_removed(serve: Serve) -> None:
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


def test_directory_of_a_killed_master_is_removed_by_the_next_server(serve: Serve, tmp_path: Path) -> None:
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
def test_directory_belongs_to_the_user_that_workers_run_as(serve: Serve, own: bool) -> None:
    """If workers run as another user, the directory belongs to that user."""
    with contextlib.ExitStack() as stack:
        environ = {}
        if own:  # not below tmp_path, where only we may go
            environ["PROMETHEUS_MULTIPROC_DIR"] = f"{stack.enter_context(tempfile.TemporaryDirectory())}/metrics"
            Path(environ["PROMETHEUS_MULTIPROC_DIR"]).parent.chmod(0o755)
        # Preloaded, since that user may not be able to read the application, or Python.
        server = serve("user = 'nobody'\npreload_app = True\nworkers = 2\n", app=APP, environ=environ)
        another_user(server)
        server.stop()  # it would make the directory again while that is removed


def another_user(server: Server) -> None:
    """The workers' user owns the directory, and what they count is on the page."""
    server.get("/order")
    when(server, "shop_orders_total", 1)
    assert directory(server).stat().st_uid != os.geteuid()


def test_user_directory_is_created_and_loses_only_files_of_exited_processes(serve: Serve, tmp_path: Path) -> None:
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


@pytest.mark.parametrize("how", ["environment", "raw_env", "setting"])
def test_second_server_in_a_shared_directory_goes_on_without_app_metrics(
    serve: Serve, tmp_path: Path, how: str
) -> None:
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


def test_directory_set_below_install_is_used_by_page_and_own_endpoint(serve: Serve, tmp_path: Path) -> None:
    """The config file may set the variable anywhere: the application's own endpoint and our page have all there is."""
    path = tmp_path / "late"
    more = f"import os\nos.environ['PROMETHEUS_MULTIPROC_DIR'] = {str(path)!r}\n"
    server = serve(more, app=APP)
    server.get("/order")
    when(server, "shop_orders_total", 1)
    assert own_page(server, "shop_orders_total") == 1


@pytest.mark.parametrize("preload", ["", "preload_app = True\n"])
def test_directory_set_by_the_application_is_logged_and_not_on_the_page(
    serve: Serve, tmp_path: Path, preload: str
) -> None:
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
def test_removed_directory_loses_no_counts(serve: Serve, tmp_path: Path, own: bool) -> None:
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
def test_directory_replaced_by_another_user_is_not_used(serve: Serve, tmp_path: Path) -> None:
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
def test_full_disk_ends_no_worker_and_counts_an_error(serve: Serve, small_disk: Path, preload: str) -> None:
    """Where there is no room for the files, metrics stay in memory, and no process is killed."""
    server = serve("workers = 1\n" + preload, app=APP, environ={"PROMETHEUS_MULTIPROC_DIR": str(small_disk)})
    for number in range(3):
        assert server.get("/order").ok, number
    samples = server.settled(4)
    assert sum(value for _, value in samples.all("gunicorn_worker_exits_total")) == 0
    assert samples.sum("gunicorn_exporter_errors_total", where="app_metrics") >= 1


def test_failed_start_leaves_no_directory(tmp_path: Path) -> None:
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
