"""The settings and their messages."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from gunicorn_prom_hooks.settings import DEFAULT_DURATION_BUCKETS, InvalidSetting, Settings, checks, load


def label(environ: Any) -> str | None:
    """Return a label value, as a user's ``endpoint``."""
    return None


def test_settings_without_input_are_the_defaults() -> None:
    """Without any setting the exporter is on loopback, port 9091."""
    assert load({}, {}) == Settings(
        port=9091,
        address="127.0.0.1",
        endpoint=None,
        max_endpoints=200,
        worker_label="age",
        queue_header="X-Request-Start",
        app_metrics=True,
        multiproc_dir=None,
        duration_buckets=DEFAULT_DURATION_BUCKETS,
        size_histograms=True,
        exclude=(),
        labels={},
        created_timestamps=False,
        status_page=True,
        certfile="",
        keyfile="",
        client_cafile="",
        token="",
        basic_auth="",
    )


@pytest.mark.parametrize(
    ("name", "variable", "in_environment", "keyword", "expected"),
    [
        ("port", "PROMETHEUS_METRICS_PORT", "9100", 9200, (9100, 9200)),
        ("address", "PROMETHEUS_BIND_ADDRESS", "::1", "0.0.0.0", ("::1", "0.0.0.0")),
        ("max_endpoints", "GUNICORN_PROM_MAX_ENDPOINTS", "7", 8, (7, 8)),
        ("worker_label", "GUNICORN_PROM_WORKER_LABEL", "slot", "age", ("slot", "age")),
        ("queue_header", "GUNICORN_PROM_QUEUE_HEADER", "X-Queue-Start", "", ("X-Queue-Start", "")),
        ("app_metrics", "GUNICORN_PROM_APP_METRICS", "off", True, (False, True)),
        ("multiproc_dir", "PROMETHEUS_MULTIPROC_DIR", "/x/../y", "metrics", ("/y", "metrics")),
        ("status_page", "GUNICORN_PROM_STATUS_PAGE", "no", True, (False, True)),
        ("duration_buckets", "GUNICORN_PROM_DURATION_BUCKETS", "0.1, 1,3", [2, 4.5], ((0.1, 1.0, 3.0), (2.0, 4.5))),
        ("size_histograms", "GUNICORN_PROM_SIZE_HISTOGRAMS", "off", True, (False, True)),
        ("exclude", "GUNICORN_PROM_EXCLUDE", "/healthz,/static/*", ["*.css"], (("/healthz", "/static/*"), ("*.css",))),
        (
            "labels",
            "GUNICORN_PROM_LABELS",
            "env=prod, zone = a",
            {"b": "c"},
            ({"env": "prod", "zone": "a"}, {"b": "c"}),
        ),
        ("created_timestamps", "GUNICORN_PROM_CREATED_TIMESTAMPS", "on", False, (True, False)),
        ("certfile", "PROMETHEUS_METRICS_CERTFILE", "/a/cert.pem", Path("/b/cert.pem"), ("/a/cert.pem", "/b/cert.pem")),
        ("token", "PROMETHEUS_METRICS_TOKEN", " from-environment\n", "given", ("from-environment", "given")),
        ("basic_auth", "PROMETHEUS_METRICS_BASIC_AUTH", "a:b", "c:d:e", ("a:b", "c:d:e")),
    ],
)
def test_keyword_overrides_environment_which_overrides_default(
    name: str, variable: str, in_environment: str, keyword: object, expected: tuple[object, object]
) -> None:
    """A keyword overrides the environment, which overrides the default, for each setting that has a variable."""
    environ = {variable: in_environment}
    assert getattr(load({}, environ), name) == expected[0]
    assert getattr(load({name: keyword}, environ), name) == expected[1]
    assert getattr(load({}, {variable: ""}), name) == getattr(Settings(), name)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("port", 0, 0),
        ("port", 65535, 65535),
        ("port", " 80 ", 80),
        ("address", "[::]", "::"),
        ("address", "localhost", "localhost"),
        ("address", "metrics.internal.example.", "metrics.internal.example."),
        ("endpoint", label, label),
        ("endpoint", None, None),
        ("max_endpoints", 1, 1),
        ("max_endpoints", 10_000, 10_000),
        ("duration_buckets", (0.5, float("inf")), (0.5,)),
        ("duration_buckets", "0.5,+Inf", (0.5,)),
        ("duration_buckets", [*range(1, 51)], tuple(map(float, range(1, 51)))),
        ("exclude", None, ()),
        ("exclude", "/only", ("/only",)),
        ("exclude", ["/a,b"], ("/a,b",)),
        ("exclude", re.compile("/a+"), (re.compile("/a+"),)),
        ("exclude", ["/b", re.compile("/a+")], ("/b", re.compile("/a+"))),
        ("labels", None, {}),
        ("labels", {"_a1": "x" * 256}, {"_a1": "x" * 256}),
        ("labels", {"app": "shop, Größe 7"}, {"app": "shop, Größe 7"}),
        ("labels", {f"l{number}": "v" for number in range(20)}, {f"l{number}": "v" for number in range(20)}),
    ],
)
def test_values_at_the_limits_are_accepted(name: str, value: object, expected: object) -> None:
    """The values at the limits are accepted, also as text."""
    assert getattr(load({name: value}, {}), name) == expected


REFUSED = [
    ("port", 65536, "1 to 65535, or 0"),
    ("port", -1, "1 to 65535, or 0"),
    ("port", "http", "1 to 65535, or 0"),
    ("port", "9091x", "1 to 65535, or 0"),
    ("port", "\uff11\uff12", "1 to 65535, or 0"),
    ("port", 9091.0, "1 to 65535, or 0"),
    ("port", True, "1 to 65535, or 0"),
    ("port", None, "1 to 65535, or 0"),
    ("address", "300.1.1.1", "an IP address or a host name"),
    ("address", "", "an IP address or a host name"),
    ("address", "two words", "an IP address or a host name"),
    ("address", "-x.example", "an IP address or a host name"),
    ("address", "line\nbreak", "an IP address or a host name"),
    ("address", 127, "an IP address or a host name"),
    ("endpoint", "not callable", "a callable that takes the WSGI environ or the ASGI scope, or None"),
    ("max_endpoints", 0, "1 to 10000"),
    ("max_endpoints", 10_001, "1 to 10000"),
    ("max_endpoints", False, "1 to 10000"),
    ("worker_label", "pid", "'age' or 'slot'"),
    ("worker_label", None, "'age' or 'slot'"),
    ("worker_label", ["age"], "'age' or 'slot'"),
    *(
        ("duration_buckets", value, "1 to 50 ascending numbers of seconds above 0")
        for value in ([], "", None, 0.5, [0.5, 0.5], [2, 1], [0, 1], [-1], ["a"], [[1]], [float("nan")], "1,,x")
    ),
    ("duration_buckets", [float("inf")], "1 to 50 ascending numbers of seconds above 0"),
    ("duration_buckets", [*range(1, 52)], "1 to 50 ascending numbers of seconds above 0"),
    *(
        ("exclude", value, "at most 100 paths that begin with / or *")
        for value in (7, ["healthz"], [""], [b"/x"], ["/" * 257], ["/x"] * 101, [re.compile(b"/")])
    ),
    *(
        ("labels", value, "at most 20 names and values")
        for value in (7, ["a=b"], {f"l{number}": "v" for number in range(21)})
    ),
]

REFUSED_LABELS = [
    *(
        (name, "the name of a label that no metric has")
        for name in ("a-b", "__a", "le", "worker_id", "job", "größe", 1, "")
    ),
    *((text, "the text of a label value") for text in ("", 1, "b\n", "x" * 257, None)),
]


@pytest.mark.parametrize(("wrong", "allowed"), REFUSED_LABELS)
def test_invalid_label_is_reported_by_its_name_or_its_text(wrong: object, allowed: str) -> None:
    """The message has the name or the text that is wrong, and what is allowed."""
    labels = {wrong: "b"} if "name" in allowed else {"a": wrong}
    with pytest.raises(InvalidSetting) as caught:
        load({"labels": labels}, {})
    assert str(caught.value).startswith(f"gunicorn_prom_hooks: setting labels: {wrong!r} is not allowed")
    assert allowed in str(caught.value)


@pytest.mark.parametrize("text", ["a", "a=", "a=1,a=2", "=b"])
def test_invalid_labels_in_the_environment_are_refused(text: str) -> None:
    """A name without a text, a text without a name and a name that comes twice are refused."""
    with pytest.raises(InvalidSetting, match="environment variable GUNICORN_PROM_LABELS"):
        load({}, {"GUNICORN_PROM_LABELS": text})


class Odd:
    """A value that cannot even be shown."""

    def __len__(self) -> int:
        raise RuntimeError("odd")

    __repr__ = __fspath__ = __len__  # type: ignore[assignment]


@pytest.mark.parametrize("name", list(checks.CHECKS))
@pytest.mark.parametrize("value", [Odd(), [10**400], 10**5000], ids=["odd", "large", "longer than Python shows"])
def test_value_that_makes_the_check_fail_is_an_invalid_setting(name: str, value: object) -> None:
    """Whatever the value, it is one line at startup, and a reload keeps the previous settings."""
    with pytest.raises(InvalidSetting) as caught:
        load({name: value, "certfile": "/x"} if name != "certfile" else {name: value}, {})
    assert str(caught.value).startswith("gunicorn_prom_hooks: ")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(("name", "value", "allowed"), REFUSED)
def test_invalid_value_is_reported_in_one_line(name: str, value: object, allowed: str) -> None:
    """The message names the setting, the value and what is allowed, in one line."""
    with pytest.raises(InvalidSetting) as caught:
        load({name: value}, {})
    message = str(caught.value)
    assert message.startswith(f"gunicorn_prom_hooks: setting {name}: {value!r} ")
    assert allowed in message
    assert len(message.splitlines()) == 1


def test_invalid_environment_variable_is_named() -> None:
    """The message about an invalid value from the environment names the variable."""
    with pytest.raises(InvalidSetting, match=r"setting port \(environment variable PROMETHEUS_METRICS_PORT\): 'x'"):
        load({}, {"PROMETHEUS_METRICS_PORT": "x"})


def test_environment_variable_overridden_by_a_keyword_is_not_checked() -> None:
    """With a keyword the variable of its setting is not read."""
    assert load({"port": 1}, {"PROMETHEUS_METRICS_PORT": "x"}).port == 1


def test_unknown_setting_is_reported_with_the_known_ones() -> None:
    """A misspelled setting is refused in one line that lists the allowed ones."""
    with pytest.raises(InvalidSetting) as caught:
        load({"prot": 9091}, {})
    assert str(caught.value) == (
        "gunicorn_prom_hooks: no setting 'prot'; allowed are "
        "address, app_metrics, basic_auth, certfile, client_cafile, created_timestamps, duration_buckets, endpoint, "
        "exclude, keyfile, labels, max_endpoints, multiproc_dir, port, queue_header, size_histograms, status_page, "
        "token, worker_label"
    )


def test_invalid_setting_exits_without_a_traceback() -> None:
    """InvalidSetting is a SystemExit whose code is its text: the interpreter prints it and exits with 1."""
    error = InvalidSetting("text")
    assert isinstance(error, SystemExit)
    assert error.code == "text"


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("app_metrics", "maybe", "true or false"),
        ("app_metrics", 1, "true or false"),
        ("multiproc_dir", 7, "the path of a directory"),
        ("multiproc_dir", "a\0b", "the path of a directory"),
        ("multiproc_dir", b"/x", "the path of a directory"),
        ("queue_header", "X Y", "the name of a header"),
        ("queue_header", 7, "the name of a header"),
        ("status_page", "perhaps", "true or false"),
        ("certfile", 7, "the path of a PEM file"),
        ("keyfile", "a\0b", "the path of a PEM file"),
        ("client_cafile", b"/x", "the path of a PEM file"),
    ],
)
def test_invalid_value_is_reported_with_what_is_allowed(name: str, value: object, allowed: str) -> None:
    """An invalid value is refused in one line that says what is allowed."""
    with pytest.raises(InvalidSetting) as caught:
        load({name: value}, {})
    assert f"setting {name}: {value!r} is not allowed; it must be {allowed}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_deprecated_directory_variable_is_read_if_the_new_one_is_not_set() -> None:
    """prometheus_client's deprecated variable is read if the new one is not set."""
    assert load({}, {"prometheus_multiproc_dir": "/x"}).multiproc_dir == "/x"
    assert load({}, {"prometheus_multiproc_dir": "/x", "PROMETHEUS_MULTIPROC_DIR": "/y"}).multiproc_dir == "/y"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("token", ""),
        ("token", "two words-SECRET"),
        ("token", "SECR\u00c9T"),
        ("token", "SECRET" * 1000),
        ("token", b"SECRET"),
        ("token", 7),
        ("basic_auth", ""),
        ("basic_auth", "SECRET"),
        ("basic_auth", ":SECRET"),
        ("basic_auth", "SECRET:"),
        ("basic_auth", "user:SEC\nRET"),
        ("basic_auth", ("user", "SECRET")),
    ],
)
def test_invalid_secret_is_not_shown(name: str, value: object) -> None:
    """An invalid or empty secret is refused, and the message does not have it."""
    with pytest.raises(InvalidSetting) as caught:
        load({name: value}, {})
    message = str(caught.value)
    assert message.startswith(
        f"gunicorn_prom_hooks: setting {name}: the value, not shown here, is not allowed; it must be"
    )
    assert "SEC" not in message
    assert len(message.splitlines()) == 1
    assert caught.value.__context__ is None


def test_secrets_are_not_in_the_repr() -> None:
    """The repr of the settings has no secret."""
    settings = load({"token": "SECRET", "basic_auth": "user:SECRET"}, {})
    assert (settings.token, settings.basic_auth) == ("SECRET", "user:SECRET")
    assert "SECRET" not in repr(settings)
    assert "SECRET" not in str(settings)


@pytest.mark.parametrize("name", ["keyfile", "client_cafile"])
def test_keyfile_or_client_cafile_without_certfile_is_refused(name: str) -> None:
    """A key or a client authority without a certificate is refused: the port would be plain text."""
    variable = {"keyfile": "PROMETHEUS_METRICS_KEYFILE", "client_cafile": "PROMETHEUS_METRICS_CLIENT_CAFILE"}[name]
    for given, environ in (({name: "x.pem"}, {}), ({}, {variable: "x.pem"})):
        with pytest.raises(InvalidSetting, match=f"setting {name} requires certfile"):
            load(given, environ)
    settings = load({name: "/x.pem"}, {"PROMETHEUS_METRICS_CERTFILE": "/cert.pem"})
    assert (getattr(settings, name), settings.certfile) == ("/x.pem", "/cert.pem")
