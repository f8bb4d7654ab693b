"""TLS at the metrics port: certificates, clients' certificates, reloads."""

from __future__ import annotations

import contextlib
import signal
import socket
import ssl
import subprocess
from pathlib import Path

import pytest
import requests

from tests.helpers.certificates import Certificates
from tests.helpers.exporter_access import https, installed, raw
from tests.helpers.servers import Samples, Server, eventually
from tests.integration.conftest import CONFIG, Serve

PATCHED = "import gevent.monkey\ngevent.monkey.patch_all()\n" + CONFIG


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
def test_page_is_served_over_tls_and_not_in_plain_text(serve: Serve, certificates: Certificates, config: str) -> None:
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


def test_certificate_file_with_key_serves_tls_1_2_and_1_3_but_not_1_1(serve: Serve, certificates: Certificates) -> None:
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


def test_client_without_a_trusted_certificate_gets_no_response(
    serve: Serve, certificates: Certificates, tmp_path: Path
) -> None:
    """With client_cafile only clients with such a certificate get a response, health checks included."""
    server = serve(installed(certfile=certificates.cert, keyfile=certificates.key, client_cafile=certificates.ca))
    page = eventually(lambda: https(server, certificates.ca, cert=str(certificates.client)), "the page")
    assert page.status_code == 200
    stranger = Certificates(tmp_path / "stranger").client
    for path in ("/metrics", "/healthz"):
        for certificate in (None, str(stranger)):
            with pytest.raises(requests.exceptions.ConnectionError):
                https(server, certificates.ca, path, cert=certificate)


def test_hup_loads_a_renewed_certificate_and_keeps_it_if_the_next_is_broken(
    serve: Serve, certificates: Certificates
) -> None:
    """After a HUP a renewed certificate is shown; a broken one leaves the one from before, with one line in the log."""
    server = serve(installed(certfile=certificates.cert, keyfile=certificates.key) + "graceful_timeout = 2\n")
    first = eventually(lambda: serial(server, certificates.ca), "a certificate")
    certificates.renew()
    assert serial(server, certificates.ca) == first
    server.signal(signal.SIGHUP)
    second = eventually(lambda: (now := serial(server, certificates.ca)) != first and now, "another certificate")
    certificates.cert.write_text("no certificate\n")
    server.signal(signal.SIGHUP)
    eventually(lambda: "the previous certificate stays in use" in server.log, "a line in the log")
    assert serial(server, certificates.ca) == second
    certificates.renew()
    server.signal(signal.SIGHUP)
    eventually(lambda: serial(server, certificates.ca) not in (first, second), "the mended certificate")
    assert server.log.count("the previous certificate stays in use") == 1


@pytest.mark.parametrize("broken", ["missing", "garbage", "another key", "encrypted"])
def test_broken_certificate_keeps_the_port_closed_until_a_hup_with_a_valid_one(
    serve: Serve, certificates: Certificates, broken: str
) -> None:
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


def test_hup_to_an_unusable_certificate_closes_the_port(serve: Serve, certificates: Certificates) -> None:
    """Where the settings ask for TLS, or for clients' certificates, what was less than that is not kept instead."""
    server = serve("graceful_timeout = 2\n")
    eventually(server.scrape, "the page")
    missing = certificates.cert.with_name("missing.pem")
    server.configure(CONFIG + "graceful_timeout = 2\n" + installed(certfile=missing))
    server.signal(signal.SIGHUP)
    eventually(lambda: "no metrics: certfile" in server.log, "a line in the log")

    def is_closed() -> bool:
        with contextlib.suppress(ConnectionRefusedError):
            raw(server.metrics_port, b"GET /healthz HTTP/1.1\r\n\r\n")
            return False
        return True

    eventually(is_closed, "the port is closed")
    server.configure(CONFIG + "graceful_timeout = 2\n" + installed(certfile=certificates.both))
    server.signal(signal.SIGHUP)
    eventually(lambda: https(server, certificates.ca), "the page")
    server.configure(CONFIG + "graceful_timeout = 2\n" + installed(certfile=certificates.both, client_cafile=missing))
    server.signal(signal.SIGHUP)
    eventually(lambda: "no metrics: client_cafile" in server.log, "another line in the log")
    eventually(is_closed, "the port is closed")
    assert server.get("/").status_code == 200


def test_page_of_over_100_kb_arrives_complete_over_tls(serve: Serve, certificates: Certificates) -> None:
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
