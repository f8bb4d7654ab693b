"""Which signal a worker is handling."""

from __future__ import annotations

import signal

from gunicorn_prom_hooks._gunicorn import handled_signal


def test_the_signal_that_is_handled() -> None:
    """Its number is found in gunicorn's handler, however far up; without one there is none."""

    def handle_quit(sig: int, frame: object) -> int:
        return worker_int()

    def worker_int() -> int:
        return handled_signal()

    assert handle_quit(signal.SIGQUIT, None) == signal.SIGQUIT
    assert worker_int() == 0
