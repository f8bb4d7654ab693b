"""The options for credentials and TLS, as Prometheus has them."""

from __future__ import annotations

import argparse
import ssl
from pathlib import Path

from ..settings import InvalidSetting, client_credentials
from ..settings.checks import CHECKS
from .client import Access


class BadOption(ValueError):
    """An option that cannot be used. The text says why."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options to a command."""
    for option, metavar, text in (
        ("--token-file", "FILE", "bearer token, instead of PROMETHEUS_METRICS_TOKEN"),
        ("--basic-auth", "USER:PASSWORD", "instead of PROMETHEUS_METRICS_BASIC_AUTH"),
        ("--ca-file", "FILE", "authority of the server's certificate"),
        ("--cert-file", "FILE", "certificate of this client"),
        ("--key-file", "FILE", "its private key, if that is in another file"),
        ("--server-name", "NAME", "name in the server's certificate"),
    ):
        parser.add_argument(option, metavar=metavar, default="", help=text)
    parser.add_argument("--insecure-skip-verify", action="store_true", help="accept any certificate")


def access_of(options: argparse.Namespace) -> Access:
    """Return what the options and the environment say.

    Raises:
        BadOption: a file cannot be read, or options contradict each other.
    """
    if options.token_file and options.basic_auth:
        raise BadOption("give one of --token-file and --basic-auth")
    token, basic_auth = client_credentials()
    if options.token_file:
        token, basic_auth = _checked("token", "--token-file", _read(options.token_file)), ""
    elif options.basic_auth:
        token, basic_auth = "", _checked("basic_auth", "--basic-auth", options.basic_auth)
    else:
        token = token and _checked("token", "environment variable PROMETHEUS_METRICS_TOKEN", token)
        variable = "environment variable PROMETHEUS_METRICS_BASIC_AUTH"
        basic_auth = basic_auth and _checked("basic_auth", variable, basic_auth)
    return Access(token, basic_auth, _context(options), options.server_name)


def _checked(setting: str, what: str, value: str) -> str:
    try:
        return str(CHECKS[setting][1](what, value))
    except InvalidSetting as error:
        raise BadOption(str(error).removeprefix("gunicorn_prom_hooks: ")) from error


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except (OSError, ValueError) as error:
        raise BadOption(f"{path!r} cannot be read: {_reason(error)}") from error


def _context(options: argparse.Namespace) -> ssl.SSLContext | None:
    if options.key_file and not options.cert_file:
        raise BadOption("--key-file needs --cert-file")
    if not (options.ca_file or options.cert_file or options.insecure_skip_verify):
        return None
    try:
        context = ssl.create_default_context(cafile=options.ca_file or None)
    except (OSError, ValueError) as error:
        raise BadOption(f"--ca-file {options.ca_file!r} cannot be used: {_reason(error)}") from error
    if options.insecure_skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if options.cert_file:
        try:
            context.load_cert_chain(options.cert_file, options.key_file or None, password=_no_password)
        except (OSError, ValueError) as error:
            raise BadOption(f"--cert-file {options.cert_file!r} cannot be used: {_reason(error)}") from error
    return context


def _no_password() -> str:
    # Without it OpenSSL would ask for a password at the terminal.
    raise ValueError("the private key is encrypted")


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "not a PEM file").replace("_", " ").lower()
    return (error.strerror if isinstance(error, OSError) else "") or str(error)
