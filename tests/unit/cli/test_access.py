"""The options for credentials and TLS."""

from __future__ import annotations

import argparse
import ssl
from pathlib import Path

import pytest

from gunicorn_prom_hooks.cli.access import BadOption, access_of, add_options
from gunicorn_prom_hooks.cli.client import Access
from tests.helpers.certificates import Certificates


def access(*arguments: object) -> Access:
    """Return what these options say."""
    parser = argparse.ArgumentParser()
    add_options(parser)
    return access_of(parser.parse_args(list(map(str, arguments))))


def test_token_comes_from_the_file_before_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The option takes precedence over the environment. White space around the token in the file does not count."""
    monkeypatch.setenv("PROMETHEUS_METRICS_TOKEN", "of-environment")
    monkeypatch.setenv("PROMETHEUS_METRICS_BASIC_AUTH", "user:of-environment")
    assert access().token == "of-environment"
    assert access().basic_auth == "user:of-environment"
    (tmp_path / "token").write_text("of-file\n")
    assert access("--token-file", tmp_path / "token") == Access(token="of-file")
    assert access("--basic-auth", "user:of-option") == Access(basic_auth="user:of-option")


def test_no_option_gives_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without options and variables there are no credentials."""
    monkeypatch.delenv("PROMETHEUS_METRICS_TOKEN", raising=False)
    monkeypatch.delenv("PROMETHEUS_METRICS_BASIC_AUTH", raising=False)
    assert access() == Access()


def test_unusable_options_are_refused(tmp_path: Path) -> None:
    """A file that is missing or empty, a bad password and a contradiction are each refused with a text."""
    (tmp_path / "empty").write_text("\n")
    for arguments, words in (
        (("--token-file", tmp_path / "missing"), "missing' cannot be read: No such file or directory"),
        (("--token-file", tmp_path / "empty"), "--token-file: the value, not shown here, is not allowed"),
        (("--basic-auth", "nopassword"), "--basic-auth: the value, not shown here, is not allowed"),
        (("--basic-auth", "a:b", "--token-file", "x"), "give one of --token-file and --basic-auth"),
        (("--ca-file", tmp_path / "empty"), "--ca-file .* cannot be used"),
        (("--cert-file", tmp_path / "empty"), "--cert-file .* cannot be used"),
        (("--key-file", tmp_path / "empty"), "--key-file needs --cert-file"),
    ):
        with pytest.raises(BadOption, match=words):
            access(*arguments)


def test_certificates_are_loaded(tmp_path: Path) -> None:
    """Authority and client certificate are loaded; verification is on unless it is switched off."""
    certificates = Certificates(tmp_path)
    context = access("--ca-file", certificates.ca, "--cert-file", certificates.client).context
    assert context is not None
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname
    context = access("--insecure-skip-verify").context
    assert context is not None
    assert context.verify_mode == ssl.CERT_NONE
    assert not context.check_hostname
    assert access("--server-name", "shop").server_name == "shop"
