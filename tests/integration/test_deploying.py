"""The samples for deployments: the systemd template, and two servers on one machine."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests

from tests.helpers.places import APPLICATIONS, TOP
from tests.helpers.servers import Samples, eventually, running, unused_port
from tests.integration.conftest import Serve

UNIT = TOP / "sample_configs" / "systemd" / "gunicorn@.service"
ENVIRONMENT = TOP / "sample_configs" / "systemd" / "shop.env"
GUNICORN = Path(sys.executable).with_name("gunicorn")


@pytest.mark.needs("systemd-analyze")
def test_systemd_template_passes_systemd_analyze_verify(tmp_path: Path) -> None:
    """The unit has no unknown setting and no missing program, with paths that exist on this machine."""
    text = UNIT.read_text()
    unit = tmp_path / "gunicorn@.service"
    unit.write_text(text.replace("/srv/%i/.venv/bin/gunicorn", str(GUNICORN)))
    done = subprocess.run(
        ["systemd-analyze", "verify", f"{tmp_path}/gunicorn@shop.service"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    unit.write_text(unit.read_text().replace("KillMode=mixed", "KillMood=mixed"))
    broken = subprocess.run(
        ["systemd-analyze", "verify", f"{tmp_path}/gunicorn@shop.service"], capture_output=True, text=True, check=False
    )
    assert "KillMood" in broken.stdout + broken.stderr


def test_instances_of_the_systemd_template_have_their_own_ports_and_names(tmp_path: Path) -> None:
    """Two instances, started by the unit's command with their environment files, serve their own metrics."""
    [command] = re.findall(r"^ExecStart=(.*)$", UNIT.read_text(), re.MULTILINE)
    config = tmp_path / "gunicorn.conf.py"
    config.write_text("from gunicorn_prom_hooks import install\ncontrol_socket_disable = True\ninstall(globals())\n")
    with ExitStack() as stack:
        ports = {}
        for name in ("shop", "blog"):
            folder = tmp_path / name
            folder.mkdir()
            (folder / "wsgi.py").write_text((APPLICATIONS / "default.py").read_text())
            environ = dict(line.split("=", 1) for line in ENVIRONMENT.read_text().splitlines() if "=" in line)
            assert environ.keys() == {"APP", "BIND", "PROMETHEUS_METRICS_PORT"}
            ports[name] = unused_port()
            environ |= {"APP": "wsgi:app", "BIND": f"127.0.0.1:{unused_port()}"}
            environ["PROMETHEUS_METRICS_PORT"] = str(ports[name])
            started = command.replace("%i", name).replace(f"/srv/{name}/.venv/bin/gunicorn", str(GUNICORN))
            started = started.replace("/etc/gunicorn/gunicorn.conf.py", str(config))
            for variable, value in environ.items():
                started = started.replace(f"${{{variable}}}", value)
            stack.enter_context(
                running(
                    ["env", *(f"{k}={v}" for k, v in environ.items()), *shlex.split(started)], folder, folder / "log"
                )
            )
        for name, port in ports.items():
            samples = eventually(lambda port=port: page(port), f"the page of {name}")  # type: ignore[misc]
            [(labels, _)] = samples.all("gunicorn_build_info")
            assert labels["app"] == name


def page(port: int) -> Samples | None:
    """Return the metrics at this port; None if nothing answers."""
    try:
        return Samples(requests.get(f"http://127.0.0.1:{port}/metrics", timeout=5).text)
    except requests.ConnectionError:
        return None


def test_port_that_another_application_takes_over_names_the_application(serve: Serve) -> None:
    """When the first of two servers with one metrics port stops, the second answers there, under its own name."""
    first = serve("proc_name = 'shop'\n")
    assert first.scrape().all("gunicorn_build_info")[0][0]["app"] == "shop"
    second = serve("proc_name = 'blog'\n", metrics_port=first.metrics_port)
    eventually(lambda: "Address already in use" in second.log, "the line about the port")
    first.stop()
    eventually(
        lambda: (found := page(first.metrics_port)) and found.all("gunicorn_build_info")[0][0]["app"] == "blog",
        "the page of the second server",
    )


def test_application_without_a_proc_name_is_named_by_its_uri(serve: Serve) -> None:
    """By default the label is the name under which gunicorn loads the application."""
    assert serve().scrape().all("gunicorn_build_info")[0][0]["app"] == "app:app"
