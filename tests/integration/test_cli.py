"""``check`` and ``init`` as a shell runs them, with real configs and real servers."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
import sysconfig
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import psutil
import pytest
import requests
import trustme

from tests.helpers.certificates import Certificates
from tests.helpers.command_line import Done, run
from tests.helpers.places import TOP
from tests.helpers.servers import eventually, unused_port
from tests.integration.conftest import CONFIG, Serve

INSTALL = "from gunicorn_prom_hooks import install\n"
HOOKS = "".join(
    f"def {name}(*args): pass\n".replace("*args", arguments)
    for name, arguments in {
        "nworkers_changed": "server, new, old",
        "on_starting": "server",
        "when_ready": "server",
        "pre_fork": "server, worker",
    }.items()
)


@pytest.fixture
def ports() -> tuple[int, int]:
    """Two unused ports: of the application and of the metrics."""
    return unused_port(), unused_port()


def check_config(folder: Path, config: str, *arguments: str, ports: tuple[int, int] = (0, 0)) -> Done:
    """Return what ``check`` says of a config. PORT and METRICS_PORT in it become the numbers.

    Args:
        folder: for the file.
        config: its text.
        arguments: before the file, or after it if they begin with ``--``.
        ports: of the application and of the metrics.
    """
    text = config.replace("METRICS_PORT", str(ports[1])).replace("PORT", str(ports[0]))
    folder.mkdir(exist_ok=True)
    (folder / "gunicorn.conf.py").write_text(text)
    before = [argument for argument in arguments if argument == "--running"]
    return run("check", *before, "gunicorn.conf.py", *arguments[len(before) :], folder=folder)


def test_correct_config_has_no_problem(tmp_path: Path, ports: tuple[int, int]) -> None:
    """A correct config is exit code 0. Afterwards the ports are free, and no process is left."""
    done = check_config(tmp_path, CONFIG, ports=ports)
    assert (done.code, done.err) == (0, "")
    assert done.lines == [f"the metrics will be at http://127.0.0.1:{ports[1]}/metrics", "ok: no problem found"]
    for port in ports:
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", port))


@pytest.mark.parametrize(
    ("config", "line"),
    [
        ("bind = '127.0.0.1:PORT'\n", "the config does not call install(). Add install(globals()) at its end."),
        (f"{INSTALL}install(globals(), port=70000)", "gunicorn_prom_hooks: setting port: 70000 is not allowed"),
        ("workers = 'many'\n", "gunicorn cannot use gunicorn.conf.py: Invalid value for workers: many."),
        (
            "\nimport no_such_module\n",
            "gunicorn.conf.py, line 2: ModuleNotFoundError: No module named 'no_such_module'.",
        ),
        ("def x(:\n", "gunicorn cannot use gunicorn.conf.py, line 1: SyntaxError: "),
        ("import sys\nsys.exit(0)\n", "gunicorn.conf.py exits with code 0."),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n", "gunicorn.conf.py ends its process by signal 9."),
        (f"{CONFIG}{HOOKS}", "hooks of the config replace those of this package: nworkers_changed, on_starting,"),
        (f"{CONFIG}install(globals(), port=PORT)", "the metrics would be at 127.0.0.1:"),
        (
            f"{CONFIG}install(globals(), port=METRICS_PORT, address='203.0.113.7')",
            "the address of the metrics, 203.0.113.7:",
        ),
        (f"{CONFIG}install(globals(), address='no.such.invalid')", "address 'no.such.invalid' has no IP address:"),
        (
            f"{CONFIG}install(globals(), port=METRICS_PORT, certfile='missing.pem')",
            "/missing.pem' cannot be read: No such file or directory; the metrics port would stay closed.",
        ),
        (
            f"{CONFIG}install(globals(), port=METRICS_PORT, certfile='gunicorn.conf.py')",
            "/gunicorn.conf.py' cannot be used: ",
        ),
        (
            f"{CONFIG}install(globals(), port=METRICS_PORT, multiproc_dir='gunicorn.conf.py')",
            "/gunicorn.conf.py' is not a directory. The application's own metrics would be missing:",
        ),
    ],
)
def test_wrong_config_is_one_problem(tmp_path: Path, ports: tuple[int, int], config: str, line: str) -> None:
    """Each mistake is one line with what to do, and exit code 1."""
    done = check_config(tmp_path, config, ports=ports)
    assert (done.code, done.err) == (1, "")
    [problem] = [found for found in done.lines if not found.startswith(("the metrics will be", "note: "))]
    assert problem.startswith("problem: ")
    assert line in problem


def test_several_mistakes_are_a_problem_each(tmp_path: Path, ports: tuple[int, int]) -> None:
    """All mistakes of a config are found in one run."""
    names = "worker_tmp_dir = 'missing'", "pidfile = 'missing/pid'", "errorlog = 'missing/log'"
    more = "bind = ['unix:missing/socket', '203.0.113.7:PORT']", "worker_class = 'app.Missing'"
    done = check_config(tmp_path, CONFIG + "\n".join((*names, *more)), ports=ports)
    assert done.code == 1
    problems = [line for line in done.lines if line.startswith("problem: ")]
    for line, words in zip(
        problems,
        (
            "the address of the application, 203.0.113.7:",
            "worker_tmp_dir 'missing' is not a directory. No worker could start:",
            "the folder of pidfile ",
            "the folder of errorlog ",
            "the folder of a Unix socket in bind ",
            "worker_class 'app.Missing' cannot be loaded: ",
        ),
        strict=True,
    ):
        assert words in line


@pytest.mark.parametrize(
    ("config", "line"),
    [
        (f"{CONFIG}def pre_fork(server, worker): pass", "hooks below install() replace those of this package until"),
        (f"{CONFIG}install(globals(), port=METRICS_PORT, address='0.0.0.0')", "any client that can reach 0.0.0.0:"),
        (f"{CONFIG}worker_class = 'gunicorn.workers.base.Worker'", "are not counted"),
        ("import gunicorn_prom_hooks\nbind = '127.0.0.1:PORT'\nraw_env = []\n", "hooks are called by name"),
    ],
)
def test_doubtful_config_is_a_note(tmp_path: Path, ports: tuple[int, int], config: str, line: str) -> None:
    """What may be intended is a note, and exit code 0."""
    done = check_config(tmp_path, config, "--running", ports=ports)
    assert (done.code, done.err) == (0, "")
    [note] = [found for found in done.lines if found.startswith("note: ")]
    assert line in note


def test_config_that_does_not_return_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A config that hangs is a problem after the deadline; the process and its children are ended."""
    from gunicorn_prom_hooks.cli.check import config as module
    from gunicorn_prom_hooks.cli.main import main

    monkeypatch.setattr(module, "DEADLINE", 1.5)
    pids = tmp_path / "pids"
    (tmp_path / "hanging.py").write_text(
        "import os, pathlib, subprocess, time\n"
        "child = subprocess.Popen(['sleep', '60'])\n"
        f"pathlib.Path({str(pids)!r}).write_text(f'{{os.getpid()}} {{child.pid}}')\n"
        "time.sleep(60)\n"
    )
    start = time.monotonic()
    assert main(["check", str(tmp_path / "hanging.py")]) == 1
    assert time.monotonic() - start < 10
    assert "has not returned within 1.5 s" in capsys.readouterr().out
    for pid in map(int, pids.read_text().split()):
        eventually(lambda pid=pid: not psutil.pid_exists(pid), f"{pid} is ended")  # type: ignore[misc]


def test_output_of_a_config_is_not_taken_for_the_report(tmp_path: Path, ports: tuple[int, int]) -> None:
    """What a config prints is left out."""
    done = check_config(tmp_path, f"print('problem: none')\n{CONFIG}", ports=ports)
    assert (done.code, done.err) == (0, "")
    assert "problem: none" not in done.out


def test_expired_certificate_is_a_problem(tmp_path: Path, ports: tuple[int, int]) -> None:
    """A certificate that can be read and has expired is found before Prometheus refuses it."""
    now = datetime.now(timezone.utc)
    issued = trustme.CA().issue_cert("shop.example", not_before=now - timedelta(2), not_after=now - timedelta(1))
    issued.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "metrics.pem"))
    done = check_config(tmp_path, f"{CONFIG}install(globals(), port=METRICS_PORT, certfile='metrics.pem')", ports=ports)
    assert done.code == 1
    assert "/metrics.pem': certificate has expired. Renew it: Prometheus would refuse it." in done.out


def test_arguments_are_those_of_gunicorn(tmp_path: Path, ports: tuple[int, int]) -> None:
    """Arguments after -- change the configuration, and wrong ones are a problem."""
    arguments = ("--", "--bind", f"127.0.0.1:{ports[1]}", "shop.wsgi:application")
    done = check_config(tmp_path, CONFIG, *arguments, ports=ports)
    assert done.code == 1
    assert "which is a port of `bind`" in done.out
    done = check_config(tmp_path, CONFIG, "--", "--bindd", ports=ports)
    assert done.code == 1
    assert "gunicorn: error: unrecognized arguments: --bindd" in done.out


def test_ports_of_a_running_server_are_taken(serve: Serve, tmp_path: Path) -> None:
    """Both ports are reported with the process that has them, and not with --running."""
    server = serve()
    ports = server.port, server.metrics_port
    done = check_config(tmp_path, CONFIG, ports=ports)
    assert done.code == 1
    problems = [line for line in done.lines if line.startswith("problem: ")]
    assert len(problems) == 2
    for line, whose, port in zip(problems, ("application", "metrics"), ports, strict=True):
        assert line.startswith(f"problem: the port of the {whose}, 127.0.0.1:{port}, is taken by ")
        assert re.search(r"\(process \d+\)\. End that process", line)
    done = check_config(tmp_path, CONFIG, "--running", ports=ports)
    assert (done.code, done.lines[-1]) == (0, "ok: no problem found")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give workers another user")
def test_directory_that_the_workers_cannot_write_is_a_problem(tmp_path: Path, ports: tuple[int, int]) -> None:
    """The directory of the application's metrics has to be writable for the user of the workers."""
    directory = tmp_path / "metrics"
    directory.mkdir(mode=0o700)
    config = (
        f"{CONFIG}user = 54321\ngroup = 54321\ninstall(globals(), port=METRICS_PORT, multiproc_dir={str(directory)!r})"
    )
    done = check_config(tmp_path / "config", config, ports=ports)
    assert done.code == 1
    assert f"{str(directory)!r} cannot be written by user 54321." in done.out


def test_running_server_has_no_problem(serve: Serve) -> None:
    """A real server has all families in both formats, and the report describes it."""
    server = serve("workers = 2\n")
    server.wait_for_workers(2)
    done = run("check", f"http://127.0.0.1:{server.metrics_port}/metrics")
    assert (done.code, done.err) == (0, "")
    assert re.fullmatch(r"http://\S+/metrics: app:app, gunicorn \S+ with sync workers, 2 of 2 running", done.lines[0])
    series = server.scrape().text.count("\n") - server.scrape().text.count("\n#") - 1
    found = int(done.lines[1].partition(" ")[0].replace(",", ""))
    assert abs(found - series) < 10
    assert done.lines[3:] == ["ok: no problem found"]


@pytest.mark.parametrize("worker_class", ["gevent", "asgi"])
def test_expected_families_are_on_the_page_of_every_worker_class(serve: Serve, worker_class: str) -> None:
    """No family is reported as missing, whatever the worker class and the settings are."""
    if worker_class == "asgi":
        pytest.importorskip("gunicorn.workers.gasgi")
    app = TOP / "tests" / "helpers" / "applications" / ("asgi_ok.py" if worker_class == "asgi" else "default.py")
    more = "install(globals(), port=METRICS_PORT, app_metrics=False, size_histograms=False, worker_label='slot')\n"
    server = serve(f"worker_class = {worker_class!r}\n{more}", app=app)
    url = f"http://127.0.0.1:{server.metrics_port}"
    eventually(lambda: requests.get(f"{url}/readyz", timeout=5).status_code == 200, "a worker can take requests")
    done = run("check", url)
    assert (done.code, done.lines[-1]) == (0, "ok: no problem found")


def test_failures_of_a_server_are_problems(serve: Serve) -> None:
    """A callable that raises, and an endpoint beyond the limit, are each one problem."""
    endpoint = "def endpoint(environ):\n    if environ['PATH_INFO'] == '/bad': raise ValueError\n"
    server = serve(f"{endpoint}install(globals(), port=METRICS_PORT, endpoint=endpoint, max_endpoints=1)\n")
    for path in ("/a", "/b", "/bad"):
        server.get(path)
    server.settled(4)
    done = run("check", f"http://127.0.0.1:{server.metrics_port}")
    assert done.code == 1
    problems = [line for line in done.lines if line.startswith("problem: ")]
    assert len(problems) == 2
    assert "where='endpoint' is 1" in problems[0]
    assert "the label endpoint has too many values" in problems[1]


def test_server_without_a_worker_is_a_problem(serve: Serve) -> None:
    """A server whose workers do not boot is not ready."""
    server = serve("graceful_timeout = 1\n")
    server.write_application("import time\ntime.sleep(60)\n")
    server.workers()[0].kill()
    eventually(lambda: server.scrape().sum("gunicorn_workers", state="running") == 0, "no worker runs")
    done = run("check", f"http://127.0.0.1:{server.metrics_port}")
    assert done.code == 1
    assert "problem: no worker can take requests: /readyz answers 503." in done.out


def test_protected_server_is_checked_with_credentials(serve: Serve, certificates: Certificates, tmp_path: Path) -> None:
    """Token, password, authority and client certificate are sent; without each of them the problem is named."""
    names = f"certfile={str(certificates.both)!r}, client_cafile={str(certificates.ca)!r}"
    port = unused_port()
    serve(config=CONFIG.replace("METRICS_PORT", f"{port}, token='secret', basic_auth='ann:pass', {names}"))
    url = f"https://127.0.0.1:{port}"
    (tmp_path / "token").write_text("secret")
    token = ("--token-file", tmp_path / "token")
    tls = ("--ca-file", certificates.ca, "--cert-file", certificates.client)
    assert run("check", url, *token, *tls).code == 0
    assert run("check", url, "--basic-auth", "ann:pass", *tls).code == 0
    assert run("check", url, *tls, environ={"PROMETHEUS_METRICS_TOKEN": "secret"}).code == 0
    assert "answers 401" in run("check", url, *tls).out
    assert "give one of" in run("check", url, *token, "--basic-auth", "a:b").err
    assert "is not accepted" in run("check", url, *token, *tls[2:]).out
    assert run("check", url, *token, *tls[2:], "--insecure-skip-verify").code == 0
    assert "use --cert-file" in run("check", url, *token, *tls[:2]).out


def test_written_samples_serve_the_application(serve: Serve, tmp_path: Path) -> None:
    """A server runs with the written config alone: application, name and port are in it."""
    port = unused_port()
    assert run("init", tmp_path / "deploy", "--app", "app:app", "--name", "front", "--port", port).code == 0
    written = tmp_path / "deploy" / "gunicorn.conf.py"
    assert run("check", written, environ={"BIND": f"127.0.0.1:{unused_port()}"}).code == 0
    # The text as it is: PORT is replaced in the config of a test.
    config = f"exec(open({str(written)!r}).read())\nbind = '127.0.0.1:PORT'\ncontrol_socket_disable = True\n"
    server = serve(config=config, metrics_port=port)
    [(labels, _)] = server.scrape().all("gunicorn_build_info")
    assert labels["app"] == "front"


def test_port_of_the_environment_precedes_the_written_one(tmp_path: Path, ports: tuple[int, int]) -> None:
    """Several applications can share the written config: the environment of each has its port."""
    assert run("init", folder=tmp_path).code == 0
    environ = {"PROMETHEUS_METRICS_PORT": str(ports[1]), "BIND": f"127.0.0.1:{ports[0]}"}
    done = run("check", "gunicorn.conf.py", folder=tmp_path, environ=environ)
    assert (done.code, done.lines[0]) == (0, f"the metrics will be at http://127.0.0.1:{ports[1]}/metrics")


def test_installed_wheel_has_the_samples(tmp_path: Path) -> None:
    """In an environment with the built wheel, away from the repository, init writes the same files."""
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", tmp_path, TOP], check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    subprocess.run([*pip, "install", "--no-deps", "--target", site, wheel], check=True, capture_output=True)
    # Isolated (-I): the folder of the repository, or an editable installation, is not on the path.
    start = (
        f"import sys; sys.path[:0] = [{str(site)!r}]; sys.path.append({sysconfig.get_path('purelib')!r}); "
        "from gunicorn_prom_hooks.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", start, "init", tmp_path / "installed" / "ops"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert run("init", tmp_path / "cloned" / "ops").code == 0
    written = {path.relative_to(tmp_path / "cloned") for path in (tmp_path / "cloned").rglob("*") if path.is_file()}
    assert Path("ops/systemd/shop.env") in written
    for path in written:
        assert (tmp_path / "installed" / path).read_bytes() == (tmp_path / "cloned" / path).read_bytes()


def commands() -> list[str]:
    """Return each command in docs/cli.md, in its order."""
    blocks = re.findall(r"```sh\n(.*?)```", (TOP / "docs" / "cli.md").read_text(), re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def test_documented_commands_succeed(serve: Serve, certificates: Certificates, tmp_path: Path) -> None:
    """Each command of docs/cli.md is exit code 0, with a server at the port that it names; only the ports differ."""
    plain = serve()
    port = unused_port()
    protected = CONFIG.replace("METRICS_PORT", f"{port}, token='secret', certfile={str(certificates.both)!r}")
    serve(config=protected)
    (tmp_path / "token").write_text("secret\n")
    (tmp_path / "ca.pem").write_bytes(certificates.ca.read_bytes())
    (tmp_path / "gunicorn.conf.py").write_text(f"{INSTALL}install(globals())\n")
    found = commands()
    assert len(found) >= 9
    for command in found:
        assert command.startswith("python -m gunicorn_prom_hooks ")
        ported = command.replace("https://127.0.0.1:9091", f"https://127.0.0.1:{port}")
        ported = ported.replace("http://127.0.0.1:9091", f"http://127.0.0.1:{plain.metrics_port}")
        ported = ported.replace("127.0.0.1:8000", f"127.0.0.1:{unused_port()}")
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", f'python() {{ {shlex.quote(sys.executable)} "$@"; }}; {ported}'],
            cwd=tmp_path,
            env={
                **os.environ,
                "PYTHONPATH": str(TOP),
                "PROMETHEUS_METRICS_PORT": str(unused_port()),
                "GUNICORN_CMD_ARGS": f"--bind 127.0.0.1:{unused_port()}",
            },
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        assert (done.returncode, done.stderr) == (0, ""), (command, done.stdout)
        assert done.stdout
    assert (tmp_path / "deploy" / "systemd" / "shop.env").exists()


def test_reader_that_ends_early_is_no_traceback(serve: Serve) -> None:
    """A pipe that is closed before the output ends leaves no traceback."""
    url = f"http://127.0.0.1:{serve().metrics_port}"
    command = f"{shlex.quote(sys.executable)} -m gunicorn_prom_hooks check {url} | true"
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(TOP)}
    )
    assert done.stderr == ""
