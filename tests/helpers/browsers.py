"""A real browser for tests, which connects to the server under test only."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

FLAGS = (
    *("headless=new", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking"),
    *("disable-component-update", "disable-sync", "disable-dev-shm-usage", "disable-extensions", "lang=en"),
)


class Browser:
    """Chromium with one window.

    Args:
        folder: its profile, an empty or new folder.
    """

    def __init__(self, folder: Path) -> None:
        options = ChromeOptions()
        for flag in (*FLAGS, f"user-data-dir={folder}"):
            options.add_argument(f"--{flag}")
        options.binary_location = shutil.which("chromium") or ""
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = Chrome(options=options, service=Service(executable_path=shutil.which("chromedriver") or ""))
        self.driver.set_page_load_timeout(30)
        self.driver.set_script_timeout(30)

    def close(self) -> None:
        """Close the browser."""
        self.driver.quit()

    def command(self, name: str, **parameters: object) -> Any:
        """Execute a command of the DevTools protocol."""
        return self.driver.execute_cdp_cmd(name, parameters)

    def run(self, script: str, *arguments: object) -> Any:
        """Return the result of a function body in JavaScript."""
        return self.driver.execute_script(script, *arguments)

    def text(self, selector: str) -> str:
        """Return the text of the first element that the selector finds. It is empty if none is found."""
        return str(self.run("return document.querySelector(arguments[0])?.textContent ?? ''", selector))

    def window(self, width: int, height: int, *, mobile: bool = False, scale: float = 1) -> None:
        """Give the page this size."""
        self.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=mobile
        )

    def media(self, **features: str) -> None:
        """Set media features, such as prefers_color_scheme. Features that are not named have their defaults."""
        found = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.command("Emulation.setEmulatedMedia", features=found)

    @contextlib.contextmanager
    def without_javascript(self) -> Iterator[None]:
        """Disable JavaScript for pages that are loaded in this block."""
        self.command("Emulation.setScriptExecutionDisabled", value=True)
        try:
            yield
        finally:
            self.command("Emulation.setScriptExecutionDisabled", value=False)

    def complaints(self) -> list[str]:
        """Return the messages of the console since the last call, of any level."""
        return [str(entry["message"]) for entry in self.driver.get_log("browser")]  # type: ignore[no-untyped-call]

    def requested(self) -> list[str]:
        """Return the addresses that were requested since the last call."""
        entries = self.driver.get_log("performance")  # type: ignore[no-untyped-call]
        messages = [json.loads(entry["message"])["message"] for entry in entries]
        return [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
