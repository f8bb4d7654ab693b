"""Notes of processes, which the master takes."""

from __future__ import annotations

from gunicorn_prom_hooks.app_metrics.notices import Notices
from tests.helpers.forks import in_fork


class Told(Exception):
    """The application's own, whose text must not be asked for."""

    def __str__(self) -> str:
        raise AssertionError


def fail(notices: Notices, text: str) -> None:
    """Note a failure that happens while the application handles an exception of its own."""
    try:
        raise Told
    except Told:
        try:
            raise OSError(text)
        except OSError:
            notices.failed()


def test_failures_of_all_processes_are_counted_and_one_text_is_kept() -> None:
    """Each is counted once; the text is that of one of them, and there is none before."""
    notices = Notices()
    assert notices.is_empty
    fail(notices, "first")
    for _ in range(3):
        in_fork(lambda: fail(notices, "later"))
    assert not notices.is_empty
    assert (notices.count(), notices.count()) == (4, 0)
    pid, text, named = notices.take()
    assert named == frozenset()
    assert pid > 0
    assert "OSError: " in text
    assert "Told" not in text
    assert notices.is_empty
    assert notices.take() == (0, "", frozenset())
    fail(notices, "ü" * 10_000)
    assert notices.take().text.endswith("ü\n")


def test_named_directory_is_noted() -> None:
    """It is noted beside failures, by any process."""
    notices = Notices()
    notices.names("/tmp/ü")
    fail(notices, "no room")
    in_fork(lambda: notices.names("/tmp/a"))
    found = notices.take()
    assert (sorted(found.named), notices.count()) == (["/tmp/a", "/tmp/ü"], 1)
    assert notices.take().named == frozenset()
