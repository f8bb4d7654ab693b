"""A metrics port that is open to others: TLS, credentials, health checks, and what must never show."""

from __future__ import annotations

import base64
import contextlib
import os
import re
import signal
import socket
import ssl
import subprocess
import time
from pathlib import Path

import pytest
import requests

from tests.helpers.certificates import Certificates
from tests.helpers.places import APPLICATIONS, TOP
from tests.helpers.servers import GUNICORN, Samples, Server, eventually, running, unused_port
from tests.integration.conftest import CONFIG, Serve

PATCHED = "import gevent.monkey\ngevent.monkey.patch_all()\n" + CONFIG
SECRET = "s3cr3t-t0ken-of-this-test"
PASSWORD = "pa55w0rd-of-this-test"


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    """Fresh ones."""
    return Certificates(tmp_path / "certificates")


def installed(**settings: object) -> str:
    """A config line with these settings."""
    given = "".join(
        f", {name}={str(value) if isinstance(value, Path) else value!r}" for name, value in settings.items()
    )
    given = re.sub(r"=(/[^,]*)", r"='\1'", given)
    return f"install(globals(), port=METRICS_PORT{given})\n"


def https(server: Server, ca: Path, path: str = "/metrics", **keywords: object) -> requests.Response:
    """A request to the exporter over TLS."""
    url = f"https://127.0.0.1:{server.metrics_port}{path}"
    return requests.get(url, verify=str(ca), timeout=20, **keywords)  # type: ignore[arg-type]


def raw(port: int, data: bytes) -> bytes:
    """What comes back on these bytes, to the end."""
    with socket.create_connection(("127.0.0.1", port), 10) as sock:
        received = b""
        with contextlib.suppress(ConnectionError):
            sock.sendall(data)
            while chunk := sock.recv(65536):
                received += chunk
        return received


def serial(server: Server, ca: Path) -> str:
    """The serial number of the certificate that the exporter shows."""
    context = ssl.create_default_context(cafile=str(ca))
    with (
        socket.create_connection(("127.0.0.1", server.metrics_port), 10) as sock,
        context.wrap_socket(sock, server_hostname="localhost") as tls,
    ):
        certificate = tls.getpeercert()
        assert certificate
        return str(certificate["serialNumber"])


@pytest.mark.parametrize("config", [CONFIG, PATCHED], ids=["plain", "patched"])
def test_tls(serve: Serve, certificates: Certificates, config: str) -> None:
    """With a certificate the page comes over TLS, and nothing at all in plain text."""
    server = serve(
        "worker_class = 'gevent'\n" + installed(certfile=certificates.cert, keyfile=certificates.key), config=config
    )
    page = eventually(lambda: https(server, certificates.ca), "the page")
    assert "gunicorn_requests_total" in page.text
    assert b"gunicorn" not in raw(server.metrics_port, b"GET /metrics HTTP/1.1\r\n\r\n")
    assert https(server, certificates.ca, "/healthz").text == "ok\n"
    assert https(server, certificates.ca, "/", headers={"Host": "metrics.example.org"}).status_code == 200
    assert f"metrics at https://127.0.0.1:{server.metrics_port}/metrics" in server.log
    assert "Traceback" not in server.log
    assert [error for error in server.log.splitlines() if "gunicorn_prom_hooks" in error and "[ERROR]" in error] == []


def test_the_key_may_be_in_the_same_file_and_old_tls_is_refused(serve: Serve, certificates: Certificates) -> None:
    """One file is enough; TLS 1.2 and 1.3 are spoken, and nothing older."""
    server = serve(installed(certfile=certificates.both))
    eventually(lambda: https(server, certificates.ca), "the page")

    def speaks(version: ssl.TLSVersion) -> bool:
        context = ssl.create_default_context(cafile=str(certificates.ca))
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        # Deprecated, and just for that.
        with (
            pytest.warns(DeprecationWarning, match="TLS")
            if version < ssl.TLSVersion.TLSv1_2
            else contextlib.nullcontext()
        ):
            context.minimum_version = context.maximum_version = version
        try:
            with socket.create_connection(("127.0.0.1", server.metrics_port), 10) as sock:
                context.wrap_socket(sock, server_hostname="localhost").close()
        except (ssl.SSLError, ConnectionError):
            return False
        return True

    assert [speaks(v) for v in (ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)] == [
        False,
        True,
        True,
    ]


def test_mutual_tls(serve: Serve, certificates: Certificates, tmp_path: Path) -> None:
    """With client_cafile only who has a certificate from there gets anything, health checks included."""
    server = serve(installed(certfile=certificates.cert, keyfile=certificates.key, client_cafile=certificates.ca))
    page = eventually(lambda: https(server, certificates.ca, cert=str(certificates.client)), "the page")
    assert page.status_code == 200
    stranger = Certificates(tmp_path / "stranger").client
    for path in ("/metrics", "/healthz"):
        for certificate in (None, str(stranger)):
            with pytest.raises(requests.exceptions.ConnectionError):
                https(server, certificates.ca, path, cert=certificate)


def test_hup_reads_certificates_anew(serve: Serve, certificates: Certificates) -> None:
    """After a HUP a renewed certificate is shown; a broken one leaves the one from before, with one line in the log."""
    server = serve(installed(certfile=certificates.cert, keyfile=certificates.key))
    first = eventually(lambda: serial(server, certificates.ca), "a certificate")
    certificates.renew()
    assert serial(server, certificates.ca) == first
    server.signal(signal.SIGHUP)
    second = eventually(lambda: (now := serial(server, certificates.ca)) != first and now, "another certificate")
    certificates.cert.write_text("no certificate\n")
    server.signal(signal.SIGHUP)
    eventually(lambda: "the certificate from before stays" in server.log, "a line in the log")
    assert serial(server, certificates.ca) == second
    certificates.renew()
    server.signal(signal.SIGHUP)
    eventually(lambda: serial(server, certificates.ca) not in (first, second), "the mended certificate")
    assert server.log.count("the certificate from before stays") == 1


@pytest.mark.parametrize("broken", ["missing", "garbage", "another key", "encrypted"])
def test_a_broken_certificate_is_never_plain_text(serve: Serve, certificates: Certificates, broken: str) -> None:
    """A certificate of no use costs the metrics and not the server; nothing is served in plain text; a HUP mends it."""
    if broken == "missing":
        certificates.key.unlink()
    elif broken == "garbage":
        certificates.cert.write_text("-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n")
    elif broken == "another key":
        cert = certificates.cert.read_bytes()
        certificates.renew()
        certificates.cert.write_bytes(cert)
    else:
        command = [
            "openssl",
            "rsa",
            "-aes128",
            "-passout",
            "pass:x",
            "-in",
            str(certificates.key),
            "-out",
            str(certificates.key) + ".new",
        ]
        command[1] = "pkey"
        subprocess.run(command, check=True, capture_output=True)
        Path(str(certificates.key) + ".new").replace(certificates.key)
    server = serve(installed(certfile=certificates.cert, keyfile=certificates.key))
    [line] = [line for line in server.log.splitlines() if "no metrics: " in line]
    assert "file '" in line
    assert ("the private key is encrypted" in line) == (broken == "encrypted")
    assert "Traceback" not in server.log
    with pytest.raises(ConnectionRefusedError):
        raw(server.metrics_port, b"GET /metrics HTTP/1.1\r\n\r\n")
    certificates.renew()
    server.signal(signal.SIGHUP)
    eventually(lambda: https(server, certificates.ca), "the page")


def test_hup_from_plain_to_a_broken_certificate(serve: Serve, certificates: Certificates) -> None:
    """Where the settings ask for TLS, or for clients' certificates, what was less than that is not kept instead."""
    server = serve()
    eventually(server.scrape, "the page")
    missing = certificates.cert.with_name("missing.pem")
    server.configure(CONFIG + installed(certfile=missing))
    server.signal(signal.SIGHUP)
    eventually(lambda: "no metrics: certfile" in server.log, "a line in the log")

    def is_closed() -> bool:
        with contextlib.suppress(ConnectionRefusedError):
            raw(server.metrics_port, b"GET /healthz HTTP/1.1\r\n\r\n")
            return False
        return True

    eventually(is_closed, "the port is closed")
    server.configure(CONFIG + installed(certfile=certificates.both))
    server.signal(signal.SIGHUP)
    eventually(lambda: https(server, certificates.ca), "the page")
    server.configure(CONFIG + installed(certfile=certificates.both, client_cafile=missing))
    server.signal(signal.SIGHUP)
    eventually(lambda: "no metrics: client_cafile" in server.log, "another line in the log")
    eventually(is_closed, "the port is closed")
    assert server.get("/").status_code == 200


@pytest.mark.parametrize("given", ["keyword", "environment"])
def test_credentials(serve: Serve, given: str) -> None:
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


def test_secrets_never_show(tmp_path: Path) -> None:
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
    assert (
        run("--check-config")[1] == "gunicorn_prom_hooks: setting client_cafile is only of use together with certfile\n"
    )


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
def test_a_port_that_is_open_to_all_is_told_once(serve: Serve, settings: dict[str, str], warned: bool) -> None:
    """Without TLS or credentials, an address that others can reach is one warning at the start."""
    server = serve(installed(**settings))
    eventually(lambda: "metrics at http" in server.log, "the exporter has started")
    eventually(lambda: "Booting worker" in server.log, "a worker boots")
    assert server.log.count("can read the metrics") == int(warned)


def readiness(server: Server) -> int:
    """Status of /readyz."""
    return requests.get(f"http://127.0.0.1:{server.metrics_port}/readyz", timeout=10).status_code


def test_health_checks(serve: Serve) -> None:
    """Ready is who has a worker that has booted and was heard of lately; up is the process. Neither renders a page."""
    app = APPLICATIONS / "closed.py"
    server = serve("workers = 1\ntimeout = 4\ngraceful_timeout = 1\n", app=app)
    health = f"http://127.0.0.1:{server.metrics_port}/healthz"
    eventually(lambda: readiness(server) == 200, "ready")
    (server.folder / "closed").touch()
    server.workers()[0].kill()
    eventually(lambda: readiness(server) == 503, "not ready while the next worker boots")
    assert requests.get(health, timeout=10).status_code == 200
    (server.folder / "closed").unlink()
    eventually(lambda: readiness(server) == 200, "ready again")
    before = server.scrape()
    for _ in range(20):
        assert requests.get(health, timeout=10).text == "ok\n"
        assert readiness(server) == 200
    assert server.scrape().sum("gunicorn_exporter_errors_total") == before.sum("gunicorn_exporter_errors_total") == 0
    with socket.create_connection(("127.0.0.1", server.port)) as sock:
        sock.sendall(b"GET /hang HTTP/1.1\r\nHost: x\r\n\r\n")
        eventually(lambda: readiness(server) == 503, "not ready when nothing was heard of the worker for its timeout")


def test_ready_without_a_timeout(serve: Serve) -> None:
    """With timeout 0 gunicorn never doubts a worker, and any that runs is good enough."""
    server = serve("timeout = 0\n")
    eventually(lambda: readiness(server) == 200, "ready")
    server.signal(signal.SIGTERM)


SITE = """
import sys, types
from gunicorn_prom_hooks.model.response import Resource

class Site:
    paths = ("/",)

    def resource(self, path, look):
        if path != "/":
            return None
        return Resource(f"{len(look().workers)} workers".encode() * 100, "text/html", {"X-Site": "yes"})

module = types.ModuleType("gunicorn_prom_hooks.status")
module.Site = Site
sys.modules[module.__name__] = module
"""


def test_the_status_page_is_wired(serve: Serve) -> None:
    """What the status page has is served by the exporter, behind the same credentials; switched off it is not there."""
    server = serve("workers = 2\n" + SITE)
    url = f"http://127.0.0.1:{server.metrics_port}"
    server.wait_for_workers(2)
    page = requests.get(url, timeout=10)
    assert (page.text, page.headers["X-Site"]) == ("2 workers" * 100, "yes")
    assert page.headers["Content-Encoding"] == "gzip"
    assert requests.head(url, timeout=10).content == b""
    assert requests.get(url, headers={"Host": "evil.example"}, timeout=10).status_code == 403
    missing = requests.get(url + "/nothing", timeout=10)
    assert (missing.status_code, "status page is at /." in missing.text) == (404, True)
    server.configure(CONFIG + installed(token=SECRET) + SITE)
    server.signal(signal.SIGHUP)
    eventually(lambda: requests.get(url, timeout=10).status_code == 401, "credentials are asked for")
    server.configure(CONFIG + installed(status_page=False) + SITE)
    server.signal(signal.SIGHUP)
    eventually(lambda: requests.get(url, timeout=10).status_code == 404, "no status page")
    assert server.page().status_code == 200


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
def test_a_real_prometheus(serve: Serve, certificates: Certificates, tmp_path: Path) -> None:
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


def test_a_page_parses_over_tls(serve: Serve, certificates: Certificates) -> None:
    """A page of many records comes whole."""
    server = serve(
        "install(globals(), port=METRICS_PORT, max_endpoints=1000)\n" + installed(certfile=certificates.both)
    )
    for number in range(40):
        server.get(f"/{'x' * 20}{chr(97 + number % 26)}{chr(97 + number // 26)}")
    identity = {"Accept-Encoding": "identity"}

    def page() -> Samples | None:
        samples = Samples(https(server, certificates.ca, headers=identity).text)
        return samples if samples.sum("gunicorn_requests_total") == 41 else None

    assert len(eventually(page, "all requests").text) > 100_000


@pytest.mark.needs("prometheus")
def test_the_snippets_in_security_md(serve: Serve, certificates: Certificates, tmp_path: Path) -> None:
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
