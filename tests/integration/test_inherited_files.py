"""Workers that are forked while the master is being scraped."""

from __future__ import annotations

import contextlib
import signal
import threading
from pathlib import Path

import requests

from tests.helpers.places import APPLICATIONS
from tests.helpers.servers import eventually
from tests.integration.conftest import CONFIG, Serve

APP = APPLICATIONS / "orders.py"
SLOW = """
import os, socket, time
from psutil import _pslinux
from prometheus_client import process_collector

def slow(function, seconds=0.02):  # what a busy machine or a slow file system does
    def slowly(*args, **kwargs):
        result = function(*args, **kwargs)
        time.sleep(seconds)
        return result
    return slowly

os.pread = slow(os.pread)
_pslinux.open_binary = slow(_pslinux.open_binary)
process_collector.open = slow(open)
socket.socket.sendto = slow(socket.socket.sendto)

def netlink():
    with open("/proc/net/netlink") as table:
        return {line.split()[9] for line in table if line.split()[1] == "4"}

def post_fork(server, worker):
    lines = []
    for number in os.listdir("/proc/self/fd"):
        try:
            link = os.readlink(f"/proc/self/fd/{number}")
        except OSError:
            continue
        if link.startswith("socket:") and link[8:-1] in netlink():
            link = "netlink"
        if link == "netlink" or ".db" in link or link.startswith(("/proc", "/sys")):
            lines.append(link)
    with open(f"forked-{worker.pid}", "w") as file:
        file.write("\\n".join(lines))
"""


def forked(folder: Path) -> dict[str, list[str]]:
    """What each worker had inherited."""
    return {path.name: path.read_text().splitlines() for path in folder.glob("forked-*")}


def test_worker_forked_during_scrapes_inherits_no_files_of_collectors(serve: Serve) -> None:
    """However long collectors take, no worker has a file or a socket of a collector."""
    more = "workers = 2\ngraceful_timeout = 2\nbind = ['127.0.0.1:PORT', 'unix:sock']\n"
    server = serve(config=SLOW + CONFIG + more, app=APP)
    server.get("/")
    stop = threading.Event()

    def scrape() -> None:
        while not stop.is_set():
            with contextlib.suppress(requests.RequestException):
                server.scrape()

    scrapers = [threading.Thread(target=scrape) for _ in range(2)]
    for scraper in scrapers:
        scraper.start()
    try:
        for number in range(1, 9):
            server.signal(signal.SIGHUP)
            eventually(lambda: len(forked(server.folder)) >= 2 + 2 * number, "two more workers")  # noqa: B023
    finally:
        stop.set()
        for scraper in scrapers:
            scraper.join()
    assert {name: found for name, found in forked(server.folder).items() if found} == {}
