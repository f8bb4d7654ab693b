"""The status page of a live gunicorn, in a real browser."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from tests.helpers.browsers import Browser
from tests.helpers.places import APPLICATIONS
from tests.helpers.servers import Server, eventually
from tests.helpers.worker_exits import hanging
from tests.integration.conftest import APP

pytestmark = [pytest.mark.needs("chromium", "chromedriver")]

CONFIG = """
from gunicorn_prom_hooks import install
bind = "127.0.0.1:PORT"
control_socket_disable = True
workers = 2
threads = 4
timeout = 600
graceful_timeout = 2
install(globals(), port=METRICS_PORT)
"""
WAITS = APPLICATIONS / "default_waiting.py"
NASTY = "/wait/<script>alert(1)</script><b>&lt;\"'%E2%80%AE"
"""Anything but ASCII, gunicorn refuses."""
CONTRAST = """
const parse = (color) => color.match(/[\\d.]+/g).map(Number);
const light = (color) => color.slice(0, 3).map((v) => v / 255)
  .map((v) => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
const back = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const color = parse(getComputedStyle(at).backgroundColor);
    if (color.length < 4 || color[3] === 1) return color;
  }
  return [255, 255, 255];
};
const bad = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
let seen = 0;
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement;
  if (!walker.currentNode.data.trim() || element.closest("noscript")) continue;
  const [a, b] = [light(parse(getComputedStyle(element).color)), light(back(element))];
  const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
  seen += 1;
  if (ratio < 4.5) bad.push([walker.currentNode.data, element.className, ratio]);
}
return {seen, bad};
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A gunicorn that all tests of this module look at, two workers with four threads each."""
    with Server(tmp_path_factory.mktemp("server"), app=WAITS, config=CONFIG) as server:
        for path in ("/", "/boom", "/503", "/missing"):
            server.get(path)
        server.settled(4)
        server.wait_for_workers(2)
        yield server


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One Chromium for all of them."""
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture
def browser(chromium: Browser, server: Server) -> Iterator[Browser]:
    """The browser at the page, in a window of the usual size and with the usual settings."""
    chromium.window(1280, 800)
    chromium.media(prefers_color_scheme="light")
    chromium.complaints()
    chromium.requested()
    chromium.driver.get(url(server))
    yield chromium
    assert chromium.complaints() == []
    addresses = {urlsplit(address).netloc for address in chromium.requested() if address.startswith("http")}
    assert addresses <= {f"127.0.0.1:{server.metrics_port}"}


def url(server: Server) -> str:
    """Of the page."""
    return f"http://127.0.0.1:{server.metrics_port}/"


@contextlib.contextmanager
def load(server: Server) -> Iterator[None]:
    """Requests one after the other for as long as the block runs."""
    done = threading.Event()

    def go() -> None:
        with requests.Session() as session:
            while not done.wait(0.02):
                with contextlib.suppress(requests.RequestException):
                    session.get(f"http://127.0.0.1:{server.port}/", timeout=10)

    thread = threading.Thread(target=go)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def tile(browser: Browser, name: str) -> str:
    """The value of a figure at the top."""
    return browser.text(f'[data-key="{name}"] .value')


def requests_shown(browser: Browser) -> int:
    """The number of all requests that the page has."""
    return int(tile(browser, "Requests").replace(",", ""))


def focus(browser: Browser) -> str:
    """Moves the focus on with the keyboard; what has it then."""
    for kind in ("rawKeyDown", "keyUp"):
        browser.command("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)
    return str(
        browser.run(
            "const e = document.activeElement; return e.getAttribute('aria-labelledby') || e.id || e.textContent"
        )
    )


def until(browser: Browser, found: Callable[[str], bool], selector: str = "main") -> str:
    """The text of an element, which is not empty, once it is as wanted."""
    return eventually(lambda: (found(text := browser.text(selector)) and text) or None, f"{selector} is as wanted")


def test_page_shows_workers_endpoints_and_listener(browser: Browser, server: Server) -> None:
    """The page has the server's figures, its workers, endpoints and listener."""
    text = browser.text("main")
    pids = {str(process.pid) for process in server.workers()}
    shown = browser.run(
        "return [...document.querySelectorAll('#workers ~ div tbody td:nth-child(3)')].map(e => e.textContent)"
    )
    assert set(shown) == pids
    assert tile(browser, "Workers running") == "2 of 2"
    assert tile(browser, "In progress").endswith(" of 8")
    for words in ("gthread", str(server.pid), f"http://127.0.0.1:{server.port}", "/boom", "<unmatched>", "p99"):
        assert words in text, words


def test_refresh_keeps_scroll_position_focus_and_selection(browser: Browser, server: Server) -> None:
    """Under load the figures move with no navigation, and scroll position, focus and selection stay where they are."""
    browser.window(500, 400)
    browser.run(
        "window.mark = 1; document.querySelector('#endpoints ~ div .scroll').focus({preventScroll: true});"
        "document.querySelector('#endpoints ~ div .scroll').scrollLeft = 60; window.scrollTo(0, 300);"
        "getSelection().selectAllChildren(document.querySelector('#endpoints'));"
        "window.row = document.querySelector('#endpoints ~ div tbody tr')"
    )
    position = "return [scrollX, scrollY, document.activeElement.scrollLeft]"
    before, where, selected = requests_shown(browser), browser.run(position), browser.run("return '' + getSelection()")
    assert where == [0, 300, 60]
    assert selected.startswith("Endpoints")
    with load(server):
        for _ in range(2):
            now = requests_shown(browser)
            eventually(lambda now=now: requests_shown(browser) > now, "requests are counted on the page")  # type: ignore[misc]
    assert requests_shown(browser) > before
    assert browser.run(position) == where
    assert browser.run("return '' + getSelection()") == selected
    assert browser.run("return document.activeElement.matches('#endpoints ~ div .scroll')")
    assert browser.run("return window.mark === 1 && window.row.isConnected")
    assert browser.run("return performance.getEntriesByType('navigation').length") == 1
    assert browser.run("return document.getAnimations().length") == 0


def test_refresh_keeps_a_selection_in_changing_text(browser: Browser) -> None:
    """A selection that begins and ends in texts that change is still there after the change."""
    browser.run(
        "const [a, b] = [document.querySelector('#as-of'), document.querySelector('.period')];"
        "getSelection().setBaseAndExtent(a.firstChild, 11, b.lastChild, 10)"
    )
    before = browser.text("#as-of")
    until(browser, lambda text: text != before, "#as-of")
    until(browser, lambda text: text != before, "#as-of")
    selected = browser.run("return '' + getSelection()")
    assert selected.startswith(browser.text("#as-of")[11:16])
    assert selected.endswith("UTC. Rates, C")


@pytest.fixture
def waiting(server: Server) -> Iterator[int]:
    """Return the pid of the worker that processes a request to a path with markup in it."""
    go = server.folder / "go"
    go.unlink(missing_ok=True)
    try:
        with hanging(server, NASTY):
            yield eventually(lambda: worker_at(server, NASTY), "a worker is at the request")
    finally:
        go.touch()


def worker_at(server: Server, path: str) -> int | None:
    """The pid of the worker that is at a request to this path."""
    found = requests.get(f"{url(server)}status.json", timeout=20).json()
    for row in found["workers"]["rows"]:
        if path in [request["path"] for request in row["requests_in_progress"]["rows"]]:
            return int(row["pid"])
    return None


def test_path_with_markup_is_shown_as_text_while_its_request_runs(
    browser: Browser, server: Server, waiting: int
) -> None:
    """A path with a script, markup and quotes is on the page while its request runs, as text; then it is gone."""
    shown = until(browser, lambda text: "/wait/" in text, "#workers ~ div .requests .path")
    assert shown == NASTY
    assert browser.run("return document.querySelectorAll('script').length") == 1
    assert browser.run("return document.querySelectorAll('main b').length") == 0
    before = browser.text("#as-of")
    until(browser, lambda text: text != before, "#as-of")
    assert browser.run("return document.querySelectorAll('script').length") == 1
    (server.folder / "go").touch()
    until(browser, lambda text: "/wait/" not in text, "#workers ~ div")


def test_killed_worker_and_its_request_are_shown_without_a_reload(
    browser: Browser, server: Server, waiting: int
) -> None:
    """A worker that is killed in the middle of a request is on the page, with the request, without a reload."""
    assert str(waiting) not in browser.text("#exits ~ *")
    os.kill(waiting, signal.SIGKILL)
    text = until(browser, lambda text: str(waiting) in text, "#exits ~ div tbody tr")
    assert "SIGKILL" in text
    assert NASTY in text
    assert browser.run("return performance.getEntriesByType('navigation').length") == 1
    until(browser, lambda text: text == "2 of 2", '[data-key="Workers running"] .value')
    shown = "return [...document.querySelectorAll('#workers ~ div tbody tr')].map(e => e.dataset.key)"
    eventually(lambda: len(browser.run(shown)) == len(set(browser.run(shown))) == 2, "there are two rows again")


def passed(seconds: float) -> None:
    """Lets the page have the time to do what it must not do."""
    start = time.monotonic()
    eventually(lambda: time.monotonic() - start > seconds, "time goes by")


def fetches(browser: Browser) -> int:
    """How often the page has been asked for by its script."""
    entries = "performance.getEntriesByType('resource').filter(e => e.initiatorType === 'fetch')"
    return int(browser.run(f"return {entries}.length"))


def test_pause_button_stops_and_resumes_refreshing(browser: Browser) -> None:
    """The button stops the refreshing and starts it again, and the page says which it is."""
    assert browser.text("#state") == "Live"
    browser.run("document.getElementById('pause').click()")
    assert (browser.text("#state"), browser.text("#pause")) == ("Paused", "Resume")
    passed(0.5)
    before, asked = browser.text("#as-of"), fetches(browser)
    passed(3.0)
    assert (browser.text("#as-of"), fetches(browser)) == (before, asked)
    browser.run("document.getElementById('pause').click()")
    until(browser, lambda text: text != before, "#as-of")
    until(browser, lambda text: text == "Live", "#state")
    assert browser.text("#pause") == "Pause"


def test_hidden_page_stops_refreshing_until_it_is_visible(browser: Browser) -> None:
    """It stops when its tab is hidden, and is fresh at once when it shows again."""
    hide = "Object.defineProperty(document, 'hidden', {value: %s, configurable: true});"
    event = "document.dispatchEvent(new Event('visibilitychange'))"
    browser.run(hide % "true" + event)
    passed(0.5)
    before, asked = browser.text("#as-of"), fetches(browser)
    passed(3.0)
    assert (browser.text("#as-of"), fetches(browser)) == (before, asked)
    browser.run(hide % "false" + event)
    until(browser, lambda text: text != before, "#as-of")


def test_page_is_stale_while_the_server_is_down_and_live_after(chromium: Browser, tmp_path: Path) -> None:
    """The page says since when it is stale, and is live again when the server is."""
    with Server(tmp_path / "server", app=APP, config=CONFIG) as server:
        chromium.driver.get(url(server))
        until(chromium, lambda text: text == "Live", "#state")
        server.stop()
        stale = until(chromium, lambda text: text.startswith("Stale"), "#state")
        assert stale == f"Stale since {chromium.text('#as-of')}"
        pid = str(server.pid)
        assert pid in chromium.text("#server ~ dl")
        server.configure(f'{CONFIG}proc_name = "shop"\n')
        server.start()
        until(chromium, lambda text: text == "Live", "#state")
        until(chromium, lambda text: text.startswith("shop"), "h1")
        assert chromium.driver.title == chromium.text("h1")
        assert pid not in chromium.text("#server ~ dl")
    chromium.driver.get("about:blank")
    assert all("ERR_" in message for message in chromium.complaints())


def test_page_without_javascript_is_complete_and_has_a_reload_link(browser: Browser, server: Server) -> None:
    """The page is complete, offers a link to reload it and no button that does nothing."""
    with browser.without_javascript():
        browser.driver.get(url(server))
        page = browser.driver.page_source
        for words in ("/boom", "gthread", ">Reload<", "Worker exits"):
            assert words in page, words
        assert browser.driver.find_element("css selector", ".reload").is_displayed()
        assert not browser.driver.find_element("css selector", "#pause").is_displayed()
        before = browser.driver.find_element("css selector", "#as-of").text

        def reloaded() -> bool:
            browser.driver.find_element("css selector", ".reload").click()
            return browser.driver.find_element("css selector", "#as-of").text != before

        eventually(reloaded, "the link reloads it")


@pytest.mark.parametrize("width", [320, 375, 768, 1280])
def test_page_320_to_1280_pixels_wide_has_no_horizontal_scrolling(browser: Browser, width: int) -> None:
    """Tables scroll inside of themselves, on a phone too, with the row's name in sight."""
    browser.window(width, 800, mobile=width < 500)
    assert browser.run("return document.documentElement.scrollWidth") <= width
    wide = "[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth)"
    if width < 500:
        assert browser.run(f"return {wide}.length") > 0
        assert browser.run(
            f"const e = {wide}[0]; e.scrollLeft = 50; const left = (e) => e.getBoundingClientRect().left;"
            "return Math.abs(left(e.querySelector('tbody th')) - left(e)) < 2"
        )


IN_SIGHT = """
const [table, name] = arguments;
const heads = [...document.querySelectorAll(`#${table} ~ div thead th`)];
const column = heads.findIndex((head) => head.textContent.startsWith(name));
const cells = [heads[column], ...document.querySelectorAll(`#${table} ~ div tbody tr > :nth-child(${column + 1})`)];
const shown = cells.flatMap((cell) => [cell, ...cell.querySelectorAll("*")]).map((e) => e.getBoundingClientRect());
return {
  rows: cells.length - 1,
  end: document.querySelector(`#${table} ~ div .scroll`).getBoundingClientRect().right,
  scrolled: document.querySelector(`#${table} ~ div .scroll`).scrollLeft,
  left: Math.min(...shown.map((box) => box.left)),
  right: Math.max(...shown.map((box) => box.right)),
};
"""
"""Where the cells of a column are, with all that is in them, and where the part of the table ends that is shown."""


def test_phone_shows_requests_of_workers_and_reasons_of_exits_without_scrolling_sideways(
    browser: Browser, server: Server, waiting: int
) -> None:
    """On a phone, requests in progress, and reason and detail of exits, are in the viewport beside the row's name."""
    path = "/wait/" + "word/" * 12 + "x" * 60
    with hanging(server, path):
        eventually(lambda: worker_at(server, path), "a worker is at the long path")
        browser.window(360, 740, mobile=True)
        until(browser, lambda text: path in text, "#workers ~ div tbody")
        assert browser.run("return innerWidth === 360 && document.documentElement.scrollWidth === 360")
        found = browser.run(IN_SIGHT, "workers", "Requests in progress")
        assert (found["rows"], found["scrolled"]) == (2, 0)
        assert 120 <= found["left"] < found["right"] <= found["end"] <= 360
        os.kill(waiting, signal.SIGKILL)
        assert "SIGKILL" in until(browser, lambda text: str(waiting) in text, "#exits ~ div tbody tr")
    for name in ("Reason", "Detail"):
        found = browser.run(IN_SIGHT, "exits", name)
        assert found["rows"] >= 1
        assert found["scrolled"] == 0
        assert 120 <= found["left"] < found["right"] <= found["end"] <= 360, name


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_contrast_meets_wcag_aa_in_light_and_dark(browser: Browser, scheme: str) -> None:
    """Every text has the contrast that WCAG AA asks for, in light and in dark, and these are two looks."""
    browser.media(prefers_color_scheme=scheme)
    found = browser.run(CONTRAST)
    assert found["bad"] == []
    assert found["seen"] > 50
    back = browser.run("return getComputedStyle(document.body).backgroundColor")
    assert (back == "rgb(244, 246, 247)") is (scheme == "light")


def test_page_has_landmarks_headings_captions_and_names(browser: Browser) -> None:
    """A language, a title, landmarks, one first heading, named regions, tables with captions and scopes."""
    name = "app:app - gunicorn status"
    assert browser.run("return [document.documentElement.lang, document.title]") == ["en", name]
    assert browser.text("h1") == name
    assert (
        browser.run("return ['h1', 'main', 'header', 'footer'].map(e => document.querySelectorAll(e).length)")
        == [1] * 4
    )
    assert browser.run("return [...document.querySelectorAll('h2')].map(e => e.firstChild.data)") == [
        *("Overview", "Workers", "Endpoints", "Worker exits", "Listeners", "Server")
    ]
    for what in ("th:not([scope])", "table:not(:has(caption))", ".scroll:not([tabindex='0'][role='region'])"):
        assert browser.run(f'return document.querySelectorAll("{what}").length') == 0, what
    unnamed = (
        "return [...document.querySelectorAll('section, [role=region]')]"
        ".filter(e => !document.getElementById(e.getAttribute('aria-labelledby'))?.textContent).length"
    )
    assert browser.run(unnamed) == 0
    ids = browser.run("return [...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))
    assert browser.run("return document.querySelectorAll('[role=status], [aria-live]').length") == 1


def test_tab_key_moves_focus_from_the_skip_link_to_every_table(browser: Browser) -> None:
    """Tab goes from the link that skips the head, by way of the button, to every table; the focus can be seen."""
    browser.run("document.getElementById('state').focus()")
    assert focus(browser) == "Skip to the content"
    assert browser.run("return document.activeElement.getBoundingClientRect().top") >= 0
    order = [focus(browser) for _ in range(6)]
    assert order[:3] == ["pause", "workers-caption", "endpoints-caption"]
    assert "listeners-caption" in order
    assert order[-1] in ("Metrics", "This page as JSON")
    assert browser.run("return getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_live_region_does_not_change_at_a_refresh(browser: Browser) -> None:
    """While nothing happens but refreshes, a screen reader has nothing to say."""
    browser.run(
        "window.said = []; new MutationObserver(found => window.said.push(...found))"
        ".observe(document.getElementById('state'), {childList: true, characterData: true, subtree: true})"
    )
    before = browser.text("#as-of")
    until(browser, lambda text: text != before, "#as-of")
    assert browser.run("return window.said.length") == 0
