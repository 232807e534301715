"""A report page in a real, headless Chromium."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

WAIT = 60.0  # seconds, on a busy machine
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
WIDE, PHONE = (1400, 900), (400, 860)


def start() -> Any:
    """A driver of Chromium; the test is skipped where there is none."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="no selenium: make install-dev")
    browser = next(filter(None, map(shutil.which, _BROWSERS)), None)
    driver = shutil.which("chromedriver")
    if browser is None or driver is None:
        pytest.skip("no chromium with chromedriver on this machine: install both")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for argument in (
        "headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "hide-scrollbars",
        "no-first-run", "disable-sync", "disable-background-networking", "disable-component-update",
    ):  # fmt: skip
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options, webdriver.ChromeService(driver))


class Explorer:
    """One tab, and what a person does in it."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, page: Path, fragment: str = "", size: tuple[int, int] = WIDE) -> None:
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size == PHONE},
        )
        self.driver.get("about:blank")
        self.log()
        self.driver.get(f"file://{quote(str(page))}{fragment}")
        if fragment.startswith("#trajectories"):
            self.until("performance.getEntriesByName('step-ray-index-whole').length > 0")
            if size == WIDE:
                self.settled()

    def scheme(self, name: str) -> None:
        """Prefers dark or light."""
        features = [{"name": "prefers-color-scheme", "value": name}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def js(self, expression: str, *arguments: Any) -> Any:
        return self.driver.execute_script(f"return {expression}", *arguments)

    def until(self, expression: str) -> Any:
        """Waits for an expression to be true; returns its value."""
        end = time.monotonic() + WAIT
        while not (value := self.js(expression)):
            assert time.monotonic() < end, f"not within {WAIT} s: {expression}"
        return value

    def settled(self) -> None:
        """Waits until the trajectory that is chosen in the list is the one that is shown."""
        self.until(
            "(() => { const id = stepRay.list.current === null ? undefined"
            " : stepRay.columns.id[stepRay.list.current];"
            " return document.querySelector('.detail').dataset.shown === id"
            " || (id === undefined && !document.querySelector('.detail article')) })()"
        )

    def key(self, keys: str) -> None:
        self.driver.switch_to.active_element.send_keys(keys)
        self.settled()

    def pick(self, name: str, label: str) -> None:
        """Chooses the option that begins with ``label`` in a filter."""
        script = """
            const [name, label] = arguments;
            const select = document.querySelector(`select[name=${name}]`);
            const option = [...select.options].find((one) => one.text.startsWith(label));
            if (!option) return false;
            select.value = option.value;
            select.dispatchEvent(new Event("change"));
            return true;"""
        assert self.driver.execute_script(script, name, label), f"no {label!r} in {name}"
        self.settled()

    def texts(self, selector: str) -> list[str]:
        """What elements say, as it is in the page."""
        found = self.js(
            "[...document.querySelectorAll(arguments[0])].map((node) => node.textContent)", selector
        )
        return list(found)

    def shown_ids(self) -> list[str]:
        return list(self.js("stepRay.list.rows.map((row) => stepRay.columns.id[row])"))

    def log(self) -> list[str]:
        """What the browser complained of since the last call."""
        return [entry["message"] for entry in self.driver.get_log("browser")]
