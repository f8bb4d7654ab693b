"""The command line: each command, and what it returns to the shell."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from . import access
from .arguments import EXIT_CODES, PROGRAM, Parser, seconds
from .client import BadUrl, Client, Target
from .findings import PROBLEMS, USAGE, Finding, exit_code, lines_of

_SCHEMES: Final = ("http://", "https://")
_TOP_EXIT_CODES: Final = "Exit code: 0 shown, 1 no answer and no terminal, 2 wrong usage."
_TEXT: Final = """\
commands:
  init FOLDER    write sample files for gunicorn, Prometheus and systemd
  check CONFIG   say what is wrong with a config file, before gunicorn runs
  check URL      say what is wrong with a running server
  top URL        show the tables of the status page in the terminal"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return the exit code.

    Args:
        arguments: without the program's name; None: those of this process.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = Parser("", ["COMMAND ..."], _TEXT, f"COMMAND --help has the options of a command.\n{EXIT_CODES}")
    parser.add_argument("command", choices=list(_COMMANDS), metavar="COMMAND", help=argparse.SUPPRESS)
    command = str(parser.parse_args(given[:1]).command)
    try:
        return _COMMANDS[command](given[1:])
    except (access.BadOption, BadUrl) as error:
        sys.stderr.write(f"{PROGRAM} {command}: error: {error}\n")
        return USAGE
    except BrokenPipeError:
        # The reader has ended, as `head` does. At its end Python would write to it once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PROBLEMS
    except KeyboardInterrupt:
        return 130


def write(lines: Sequence[str]) -> None:
    """Write lines to standard output."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


def _check(arguments: list[str]) -> int:
    usages = ["[options] CONFIG [-- ARGUMENT ...]", "[options] URL"]
    text = (
        "Say what is wrong with a config file, or with the running server at a URL.\nARGUMENTs are those of gunicorn."
    )
    parser = Parser("check", usages, text, EXIT_CODES)
    parser.add_argument("target", help=argparse.SUPPRESS)
    parser.add_argument("--running", action="store_true", help="the server of CONFIG runs and has its ports")
    parser.add_argument("--interval", type=seconds, default=15.0, metavar="SECONDS", help="between scrapes (15)")
    access.add_options(parser)
    end = arguments.index("--") if "--" in arguments else len(arguments)
    options = parser.parse_args(arguments[:end])
    if options.target.startswith(_SCHEMES):
        if arguments[end:]:
            parser.error("arguments of gunicorn belong to a config file, not to a URL")
        facts, findings = _check_server(options)
    else:
        if not Path(options.target.removeprefix("file:")).is_file() and not options.target.startswith("python:"):
            parser.error(f"{options.target!r} is neither a file nor a URL that begins with http:// or https://")
        from .check.config import check_config

        facts, findings = check_config(options.target, arguments[end + 1 :], is_running=options.running)
    write(lines_of(facts, findings))
    return exit_code(findings)


def _check_server(options: argparse.Namespace) -> tuple[list[str], list[Finding]]:
    # Late: each command imports what it needs.
    from .check.url import check_url

    target = Target.of_url(options.target)
    client = Client(target, access.access_of(options), max(30.0, 2 * options.interval))
    return check_url(client, options.interval)


def _init(arguments: list[str]) -> int:
    from . import init
    from .samples import Application

    text = "Write sample files into a folder: a config of gunicorn, one of Prometheus,\na systemd unit and others."
    end = "Files that exist are kept, and then nothing is written.\nExit code: 0 written, 1 not written, 2 wrong usage."
    parser = Parser("init", ["[options] [FOLDER]"], text, end)
    given = Application()
    parser.add_argument("folder", nargs="?", default=".", help=argparse.SUPPRESS)
    parser.add_argument("--app", type=init.app, default=given.app, help=f"location of the application ({given.app})")
    parser.add_argument("--name", type=init.name, default=given.name, help=f"name of the service ({given.name})")
    parser.add_argument("--port", type=init.port, default=given.port, help=f"port of the metrics ({given.port})")
    parser.add_argument("--force", action="store_true", help="replace files that exist")
    options = parser.parse_args(arguments)
    application = Application(options.app, options.name, options.port)
    lines, code = init.write_samples(Path(options.folder), application, force=options.force)
    write(lines)
    return code


def _top(arguments: list[str]) -> int:
    from .terminal.top import SECONDS, run_top

    text = (
        "Show workers, endpoints and worker exits of a running server.\nIf the output is no terminal: one page of text."
    )
    end = f"Keys: q quit, p pause, j k and arrows scroll, w e x choose the table.\n{_TOP_EXIT_CODES}"
    parser = Parser("top", ["[options] URL"], text, end)
    parser.add_argument("target", help=argparse.SUPPRESS)
    parser.add_argument("--interval", type=seconds, default=1.0, metavar="SECONDS", help="between updates (1)")
    access.add_options(parser)
    options = parser.parse_args(arguments)
    client = Client(Target.of_url(options.target), access.access_of(options), SECONDS)
    lines, code = run_top(client, options.interval)
    write(lines)
    return code


_COMMANDS: Final[Mapping[str, Callable[[list[str]], int]]] = {"init": _init, "check": _check, "top": _top}
