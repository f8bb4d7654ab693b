"""``top`` in a real pseudo-terminal."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.helpers.certificates import Certificates
from tests.helpers.command_line import COMMAND, run
from tests.helpers.page_server import Reply, page_server
from tests.helpers.servers import Server, unused_port
from tests.helpers.status_json import status
from tests.helpers.terminals import Terminal
from tests.integration.conftest import APP, CONFIG, Serve

LEAVE_SCREEN = b"\x1b[?1049l"
"""What makes a terminal show again what it has shown before the program."""


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    """``top`` of a server with 50 endpoints, which is not a gunicorn."""
    with ExitStack() as stack:
        pages = stack.enter_context(page_server({"status.json": Reply(json.dumps(status(endpoints=50)))}))
        yield stack.enter_context(Terminal([*COMMAND, "top", pages.url]))


def test_top_shows_the_tables_of_a_server(serve: Serve) -> None:
    """Overview, workers, endpoints and exits of a real server are on the screen, and q ends the program."""
    server = serve("workers = 2\n")
    for _ in range(3):
        server.get("/items/7")
    pids = [str(worker.pid) for worker in server.workers()]
    with Terminal([*COMMAND, "top", f"http://127.0.0.1:{server.metrics_port}", "--interval", "0.1"]) as terminal:
        lines = terminal.wait_for("2 of 2 running", "[w workers 2]", *pids)
        assert lines[0].startswith("app:app: gunicorn ")
        terminal.press("e")
        terminal.wait_for("[e endpoints", "/items/:id  GET")
        server.workers()[0].send_signal(signal.SIGKILL)
        terminal.press("x")
        terminal.wait_for("[x exits 1]", "SIGKILL")
        terminal.press("q")
        assert terminal.wait_for_end() == 0
        assert LEAVE_SCREEN in terminal.raw


def test_resized_terminal_is_filled_again(terminal: Terminal) -> None:
    """After a change of the size, the screen fits: fewer columns and lines, then more."""
    lines = terminal.wait_for("Heartbeat")
    assert "Worker" not in lines[7]
    assert lines[23].startswith("q quit")
    terminal.resize(40, 10)
    lines = terminal.wait_for("q quit")
    terminal.wait_for("[w workers 2]", "gunicorn 27.0.1,")
    lines = terminal.wait_for("q quit")
    assert len(lines) == 10
    assert lines[9].startswith("q quit")
    assert [line for line in lines if "Heartbeat" in line] == []
    terminal.resize(120, 40)
    lines = terminal.wait_for("worker_2_1799999700", "Heartbeat")
    assert lines[39].startswith("q quit")
    terminal.resize(1, 1)
    terminal.resize(80, 24)
    assert terminal.wait_for("Heartbeat", "q quit")[23].startswith("q quit")


def test_arrow_keys_scroll(terminal: Terminal) -> None:
    """Arrows, page and end keys, as a terminal sends them, move the table."""
    terminal.press("e")
    terminal.wait_for("[e endpoints 57]", "1 to 15 of 51 lines")
    terminal.press("\x1bOB\x1bOBj")
    terminal.wait_for("4 to 18 of 51")
    terminal.press("\x1bOAk")
    terminal.wait_for("2 to 16 of 51")
    terminal.press("\x1b[6~")
    terminal.wait_for("17 to 31 of 51")
    terminal.press("\x1bOF")
    terminal.wait_for("37 to 51 of 51", "and 7 more endpoints")
    terminal.press("\x1bOH")
    terminal.wait_for("1 to 15 of 51", "/items/1 ")


def test_pause_keeps_the_numbers(serve: Serve) -> None:
    """While paused the numbers stay; after the second p they are current."""
    server = serve()
    with Terminal([*COMMAND, "top", f"http://127.0.0.1:{server.metrics_port}", "--interval", "0.1"]) as terminal:
        terminal.wait_for("Requests    1,")
        terminal.press("p")
        terminal.wait_for("PAUSED")
        server.get("/")
        server.settled(2)
        time.sleep(0.5)
        terminal.press("e")
        terminal.wait_for("[e endpoints", "Requests    1,")
        terminal.press("p")
        terminal.wait_for("Requests    2,")


def test_server_that_goes_away_and_comes_back(tmp_path: Path) -> None:
    """An error line is shown while the server is away, with the last numbers; then the numbers are current again."""
    port = unused_port()
    first = Server(tmp_path, app=APP, config=CONFIG, metrics_port=port)
    with Terminal([*COMMAND, "top", f"http://127.0.0.1:{port}", "--interval", "0.1"]) as terminal:
        terminal.wait_for("no answer for", f"nothing listens at 127.0.0.1:{port}; trying again")
        with first:
            lines = terminal.wait_for("1 of 1 running")
            assert "trying again" not in "\n".join(lines)
        terminal.wait_for("no new answer for", "trying again", "app:app: gunicorn")
        with Server(tmp_path, app=APP, config=f"{CONFIG}\nworkers = 2\n", metrics_port=port):
            lines = terminal.wait_for("2 of 2 running")
            assert "trying again" not in "\n".join(lines)


@pytest.mark.parametrize(("end", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 0)])
def test_signal_ends_with_the_terminal_restored(terminal: Terminal, end: signal.Signals, code: int) -> None:
    """After a signal the terminal shows what it has shown before."""
    terminal.wait_for("q quit", "2 of 2 running")
    terminal.signal(end)
    assert terminal.wait_for_end() == code
    assert LEAVE_SCREEN in terminal.raw
    assert "Traceback" not in "\n".join(terminal.lines)


def test_control_c_ends(terminal: Terminal) -> None:
    """The key reaches the program as a signal."""
    terminal.wait_for("q quit", "2 of 2 running")
    terminal.press("\x03")
    assert terminal.wait_for_end() == 0


def test_keys_work_while_the_server_hangs() -> None:
    """A server that does not answer does not keep the user from leaving."""
    with (
        page_server({"status.json": Reply("{}", seconds=5.0)}) as pages,
        Terminal([*COMMAND, "top", pages.url]) as terminal,
    ):
        terminal.wait_for("waiting for the first answer")
        terminal.press("q")
        assert terminal.wait_for_end() == 0


def test_text_of_the_server_cannot_control_the_terminal() -> None:
    """Control characters in names are escaped before they are written."""
    data = json.dumps(status()).replace("/items/1", r"/\u001b]0;title\u0007\u009b2J")
    with page_server({"status.json": Reply(data)}) as pages, Terminal([*COMMAND, "top", pages.url]) as terminal:
        terminal.press("e")
        terminal.resize(120, 24)
        terminal.wait_for(r"/\x1b]0;title\x07\x9b2J")
        assert b"\x1b]0;title" not in terminal.raw
        assert "\x9b".encode() not in terminal.raw


@pytest.mark.parametrize("environ", [{"TERM": "dumb"}, {"TERM": "no-such-terminal"}])
def test_terminal_without_a_screen_gets_plain_text(environ: dict[str, str]) -> None:
    """Where the cursor cannot be moved, one page of text is printed."""
    replies = {"status.json": Reply(json.dumps(status()))}
    with page_server(replies) as pages, Terminal([*COMMAND, "top", pages.url], environ) as terminal:
        assert terminal.wait_for_end() == 0
        assert b"\x1b" not in terminal.raw
        assert b"worker_2_1799999700" in terminal.raw


@pytest.mark.parametrize("name", ["POSIX", "no_SUCH.locale"])
def test_terminal_of_another_encoding_is_readable(name: str) -> None:
    """In an encoding without a character of a name, the other text is in its place."""
    data = json.dumps(status(), ensure_ascii=False).replace("/items/1", "/日本")
    environ = {"LC_ALL": name, "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    with (
        page_server({"status.json": Reply(data)}) as pages,
        Terminal([*COMMAND, "top", pages.url], environ) as terminal,
    ):
        terminal.press("e")
        terminal.wait_for("[e endpoints", "/??")


def test_output_that_is_no_terminal_is_one_page_of_text(serve: Serve) -> None:
    """Into a pipe, top writes one page with every table and ends."""
    done = run("top", f"http://127.0.0.1:{serve().metrics_port}/metrics")
    assert (done.code, done.err) == (0, "")
    assert re.match(r"app:app: gunicorn \S+, sync workers, up ", done.lines[0])
    assert {"workers: 1", "endpoints: 1", "exits: 0"} <= set(done.lines)


def test_no_answer_without_a_terminal_is_an_error() -> None:
    """Into a pipe, a server that does not answer is one line and exit code 1."""
    done = run("top", f"http://127.0.0.1:{unused_port()}")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("problem: nothing listens at 127.0.0.1:")
    with page_server() as pages:
        assert "status.json answers 404" in run("top", pages.url).err


def test_top_sends_credentials_over_tls(serve: Serve, certificates: Certificates, tmp_path: Path) -> None:
    """With the token and the authority, top reads the status page of a protected server."""
    port = unused_port()
    names = f"certfile={str(certificates.both)!r}, token='secret'"
    config = CONFIG.replace("port=METRICS_PORT", f"port={port}, {names}")
    serve(config=config)
    (tmp_path / "token").write_text("secret\n")
    options = ("--token-file", tmp_path / "token", "--ca-file", certificates.ca)
    done = run("top", f"https://127.0.0.1:{port}", *options)
    assert (done.code, done.err) == (0, "")
    assert "answers 401" in run("top", f"https://127.0.0.1:{port}", *options[2:]).err
