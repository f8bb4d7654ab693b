"""Credentials at the metrics port, secrets that must not appear, and a Prometheus that uses both."""

from __future__ import annotations

import base64
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
import requests

from tests.helpers.certificates import Certificates
from tests.helpers.exporter_access import PASSWORD, SECRET, https, installed
from tests.helpers.places import TOP
from tests.helpers.servers import GUNICORN, eventually, running, unused_port
from tests.integration.conftest import CONFIG, Serve


@pytest.mark.parametrize("given", ["keyword", "environment"])
def test_page_requires_token_or_password_and_hup_changes_them(serve: Serve, given: str) -> None:
    """Token and password open the page, nothing else does, and a HUP changes them without a new socket."""
    if given == "keyword":
        server = serve(installed(token=SECRET, basic_auth=f"prometheus:{PASSWORD}"))
    else:
        server = serve(
            environ={"PROMETHEUS_METRICS_TOKEN": SECRET, "PROMETHEUS_METRICS_BASIC_AUTH": f"prometheus:{PASSWORD}"}
        )
    eventually(lambda: server.page().status_code == 401, "an answer")
    bearer = {"Authorization": f"Bearer {SECRET}"}
    assert "gunicorn_requests_total" in server.page(headers=bearer).text
    userinfo = base64.b64encode(f"prometheus:{PASSWORD}".encode()).decode()
    assert server.page(headers={"Authorization": f"Basic {userinfo}"}).status_code == 200
    assert server.page(headers={"Authorization": f"Bearer {SECRET[:-1]}"}).status_code == 401
    assert requests.get(f"http://127.0.0.1:{server.metrics_port}/healthz", timeout=10).text == "ok\n"
    server.configure(CONFIG + installed(token="another"))
    server.signal(signal.SIGHUP)
    another = {"Authorization": "Bearer another"}
    eventually(lambda: server.page(headers=another).status_code == 200, "the other token")
    assert server.page(headers=bearer).status_code == 401
    assert SECRET not in server.log
    assert PASSWORD not in server.log


def test_secrets_are_not_in_printed_config_or_error_lines(tmp_path: Path) -> None:
    """Neither --print-config nor the line about a bad value has the secret in it."""
    config = (
        "from gunicorn_prom_hooks import install\n"
        f"install(globals(), token='{SECRET}', basic_auth='prometheus:{PASSWORD}')\n"
    )
    (tmp_path / "gunicorn.conf.py").write_text(config)
    (tmp_path / "app.py").write_text("def app(environ, start_response): pass\n")

    def run(option: str, **environ: str) -> tuple[int, str]:
        done = subprocess.run(
            [GUNICORN, option, "app:app"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            env={**os.environ, **environ},
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    status, printed = run("--print-config")
    assert status == 0
    assert "gunicorn_prom_hooks.when_ready()" in printed
    assert SECRET not in printed
    assert PASSWORD not in printed
    for name, bad in (("token", f"{SECRET} with spaces"), ("basic_auth", PASSWORD)):
        (tmp_path / "gunicorn.conf.py").write_text(
            f"from gunicorn_prom_hooks import install\ninstall(globals(), {name}={bad!r})\n"
        )
        status, printed = run("--check-config")
        assert status == 1
        assert printed.startswith(f"gunicorn_prom_hooks: setting {name}: the value, not shown here, is not allowed")
        assert len(printed.splitlines()) == 1
        assert bad not in printed
    (tmp_path / "gunicorn.conf.py").write_text(
        "from gunicorn_prom_hooks import install\ninstall(globals(), client_cafile='x')\n"
    )
    assert run("--check-config")[1] == "gunicorn_prom_hooks: setting client_cafile requires certfile\n"


@pytest.mark.parametrize(
    ("settings", "warned"),
    [
        ({"address": "0.0.0.0"}, True),
        ({"address": "::"}, True),
        ({"address": "0.0.0.0", "token": SECRET}, False),
        ({"address": "0.0.0.0", "basic_auth": f"user:{PASSWORD}"}, False),
        ({"address": "127.0.0.1"}, False),
        ({"address": "127.0.0.2"}, False),
        ({"address": "::1"}, False),
        ({"address": "localhost"}, False),
    ],
)
def test_address_open_to_others_without_credentials_is_logged_once(
    serve: Serve, settings: dict[str, str], warned: bool
) -> None:
    """Without TLS or credentials, an address that others can reach is one warning at the start."""
    server = serve(installed(**settings))
    eventually(lambda: "metrics at http" in server.log, "the exporter has started")
    eventually(lambda: "Booting worker" in server.log, "a worker boots")
    assert server.log.count("can read the metrics") == int(warned)


PROMETHEUS = """
global: {scrape_interval: 1s}
scrape_configs:
  - job_name: token
    scheme: https
    tls_config: {ca_file: CA}
    authorization: {credentials_file: token}
    static_configs: [{targets: ["127.0.0.1:METRICS_PORT"]}]
  - job_name: password
    scheme: https
    tls_config: {ca_file: CA}
    basic_auth: {username: prometheus, password: PASSWORD}
    static_configs: [{targets: ["127.0.0.1:METRICS_PORT"]}]
  - job_name: stranger
    scheme: https
    tls_config: {ca_file: CA}
    static_configs: [{targets: ["127.0.0.1:METRICS_PORT"]}]
"""


@pytest.mark.needs("prometheus")
def test_prometheus_scrapes_over_tls_with_credentials_and_not_without(
    serve: Serve, certificates: Certificates, tmp_path: Path
) -> None:
    """A Prometheus server scrapes over TLS with a bearer token and with a password; one without either does not."""
    server = serve(
        installed(
            certfile=certificates.cert, keyfile=certificates.key, token=SECRET, basic_auth=f"prometheus:{PASSWORD}"
        )
    )
    config = PROMETHEUS.replace("METRICS_PORT", str(server.metrics_port)).replace("CA", str(certificates.ca))
    (tmp_path / "prometheus.yml").write_text(config.replace("PASSWORD", PASSWORD))
    (tmp_path / "token").write_text(SECRET + "\n")
    port = unused_port()
    command = ["prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=data"]
    with running([*command, f"--web.listen-address=127.0.0.1:{port}"], tmp_path, tmp_path / "prometheus.log"):

        def up() -> dict[str, str]:
            query = {"query": "up", "time": str(time.time())}
            answer = requests.get(f"http://127.0.0.1:{port}/api/v1/query", params=query, timeout=10).json()
            return {found["metric"]["job"]: found["value"][1] for found in answer["data"]["result"]}

        eventually(lambda: up() == {"token": "1", "password": "1", "stranger": "0"}, "all have scraped, or tried")


@pytest.mark.needs("prometheus")
def test_configs_of_security_md_work_together_in_prometheus(
    serve: Serve, certificates: Certificates, tmp_path: Path
) -> None:
    """The locked-down config and the scrape config that goes with it work together as they are written."""
    text = (TOP / "SECURITY.md").read_text()
    [config] = [snippet for snippet in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "certfile=" in snippet]
    [scrape] = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    for written, real in {
        "/etc/gunicorn/metrics.crt": str(certificates.cert),
        "/etc/gunicorn/metrics.key": str(certificates.key),
        "port=9091": "port=METRICS_PORT",
    }.items():
        assert written in config
        config = config.replace(written, real)
    server = serve(
        config="bind = '127.0.0.1:PORT'\ncontrol_socket_disable = True\n" + config,
        environ={"PROMETHEUS_METRICS_TOKEN": SECRET},
    )
    (tmp_path / "token").write_text(SECRET + "\n")
    for written, real in {
        "/etc/prometheus/metrics-ca.crt": str(certificates.ca),
        "/etc/prometheus/metrics-token": "token",
        "gunicorn.example.org:9091": f"localhost:{server.metrics_port}",
    }.items():
        assert written in scrape
        scrape = scrape.replace(written, real)
    (tmp_path / "prometheus.yml").write_text("global: {scrape_interval: 1s}\n" + scrape)
    port = unused_port()
    command = ["prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=data"]
    with running([*command, f"--web.listen-address=127.0.0.1:{port}"], tmp_path, tmp_path / "prometheus.log"):

        def workers() -> list[str]:
            query = {"query": "gunicorn_workers_target"}
            answer = requests.get(f"http://127.0.0.1:{port}/api/v1/query", params=query, timeout=10).json()
            return [found["value"][1] for found in answer["data"]["result"]]

        eventually(lambda: workers() == ["1"], "Prometheus has scraped")
    assert "can read the metrics" not in server.log
    assert https(server, certificates.ca).status_code == 401
