"""Takes the screenshot for the README: the demo application under some load, after a worker exit or two."""

from __future__ import annotations

import base64
import os
import signal
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import requests

from tests.helpers.browsers import Browser
from tests.helpers.places import TOP
from tests.helpers.servers import Server, eventually
from tests.helpers.worker_exits import busy_worker, hanging

CONFIG = """
from gunicorn_prom_hooks import install
bind = "127.0.0.1:PORT"
workers = 3
threads = 4
timeout = 4
proc_name = "shop"
graceful_timeout = 2
install(globals(), port=METRICS_PORT)
"""
SECONDS = 40.0
"""How long it runs."""
PATHS = (*("/", "/items/7", "/items/8", "/items/9") * 6, *("/slow", "/stream", "/nowhere") * 2, "/fail", "/unavailable")


def load(server: Server, done: threading.Event, offset: int) -> None:
    """Request one path after the other until ``done`` is set."""
    with requests.Session() as session:
        number = offset
        while not done.wait(0.01):
            number += 7  # a prime, so that each thread goes through all of them, in an order of its own
            with suppress(requests.RequestException):
                session.get(f"http://127.0.0.1:{server.port}{PATHS[number % len(PATHS)]}", timeout=10)


def crash(server: Server) -> None:
    """Kill a worker in the middle of a request."""
    with hanging(server, "/slow"):
        _, pid = busy_worker(server)
        os.kill(pid, signal.SIGSEGV)
        server.settled(1, "gunicorn_killed_requests_total")


def shoot(browser: Browser, file: Path, width: int) -> None:
    """Write an image of the whole page at this width."""
    browser.command("Emulation.setScrollbarsHidden", hidden=True)
    browser.window(width, 800, mobile=width < 500)
    height = int(browser.run("return document.documentElement.scrollHeight"))
    browser.window(width, height, mobile=width < 500)
    data = browser.command("Page.captureScreenshot", format="png", captureBeyondViewport=False)["data"]
    file.write_bytes(base64.b64decode(data))


def main(folder: Path) -> None:
    """Write status.png in light mode, status_phone.png of a phone, and status_dark.png in dark mode."""
    app = TOP / "sample_configs" / "demo_app.py"
    done = threading.Event()
    with (
        tempfile.TemporaryDirectory() as temporary,
        Server(Path(temporary, "server"), app=app, config=CONFIG) as server,
    ):
        threads = [threading.Thread(target=load, args=(server, done, n)) for n in range(7)]
        crash(server)
        for thread in threads:
            thread.start()
        browser = Browser(Path(temporary, "profile"))
        try:
            time.sleep(SECONDS / 2)
            os.kill(server.workers()[0].pid, signal.SIGKILL)
            browser.driver.get(f"http://127.0.0.1:{server.metrics_port}/")
            time.sleep(SECONDS / 2)
            eventually(lambda: "over the last" in browser.text(".period"), "rates over the recent past")
            for name, scheme, width in (("", "light", 1280), ("_phone", "light", 375), ("_dark", "dark", 1280)):
                browser.media(prefers_color_scheme=scheme)
                shoot(browser, folder / f"status{name}.png", width)
        finally:
            done.set()
            browser.close()
            for thread in threads:
                thread.join()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
