"""Arguments of the command line: help that fits a screen, and wrong usage."""

from __future__ import annotations

import pytest

from gunicorn_prom_hooks.cli.main import main


@pytest.mark.parametrize("command", [[], ["init"], ["check"], ["top"]])
def test_help_fits_80_columns_and_24_lines(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The help of each command fits a screen, with a line for the prompt, and has the exit codes."""
    with pytest.raises(SystemExit) as raised:
        main([*command, "--help"])
    assert raised.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 23
    assert max(map(len, lines)) < 80
    assert lines[-1].startswith("Exit code: 0 ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "COMMAND"),
        (["chek"], "invalid choice"),
        (["check"], "target"),
        (["check", "missing.conf.py"], "'missing.conf.py' is neither a file nor a URL"),
        (["check", "127.0.0.1:9091"], "neither a file nor a URL that begins with http://"),
        (["check", "--interval", "0", "http://a"], "'0' is not a number of seconds"),
        (["check", "--interval", "nan", "http://a"], "'nan' is not a number of seconds"),
        (["check", "--intervall", "1", "http://a"], "unrecognized arguments: --intervall"),
        (["check", "http://a", "--", "--bind", ":1"], "arguments of gunicorn belong to a config file"),
        (["check", "http://a:b"], "is not a URL"),
        (["check", "http://a", "--key-file", "k"], "--key-file needs --cert-file"),
        (["top", "localhost:9091"], "is not a URL such as http://127.0.0.1:9091/metrics"),
        (["top", "--interval", "a", "http://a"], "'a' is not a number of seconds"),
        (["init", "--port", "0"], "'0' is not a port from 1 to 65535"),
        (["init", "--port", "70000"], "'70000' is not a port"),
        (["init", "--name", "a/b"], "'a/b' is not a name"),
        (["init", "--app", "a b"], "'a b' is not a location such as shop.wsgi:application"),
        (["init", "--app", 'a:b"c'], "is not a location"),
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Wrong arguments are one line on standard error, and exit code 2."""
    try:
        code: object = main(arguments)
    except SystemExit as error:
        code = error.code
    assert code == 2
    captured = capsys.readouterr()
    assert words in captured.err.splitlines()[-1]
    assert captured.out == ""
