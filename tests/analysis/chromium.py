"""A real browser for the report's page: Playwright with the Chromium that there is."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
QUIET = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
WIDTHS = {390: 844, 768: 1024, 1280: 900}
"""Heights of windows by their width: a phone, a tablet, a desk."""


def browsers() -> Iterator[Browser]:
    """Playwright's own Chromium, or the one that the machine has."""
    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
        found = [own] if Path(own).exists() else [w for n in NAMES if (w := shutil.which(n))]
        if not found:
            pytest.skip("there is no Chromium; 'playwright install chromium' gets one")
        browser = playwright.chromium.launch(executable_path=found[0], args=QUIET)
        yield browser
        browser.close()


class Seen:
    """What a page asked for and complained about."""

    def __init__(self, page: Page) -> None:
        self.told: list[str] = []
        self.asked: list[str] = []
        page.on("console", lambda message: self.told.append(message.text))
        page.on("pageerror", lambda error: self.told.append(str(error)))
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("requestfailed", lambda request: self.told.append(f"failed: {request.url}"))

    def check(self, file: Path) -> None:
        """Nothing was asked for but the file, and nothing went wrong."""
        assert self.told == []
        assert [url for url in self.asked if not url.startswith("data:")] == [file.as_uri()]


def opened(browser: Browser, file: Path, width: int, scheme: Any) -> tuple[Page, Seen]:
    """Open a page in a window of one of the :data:`WIDTHS`; wait until its curves are drawn."""
    page = browser.new_page(
        viewport={"width": width, "height": WIDTHS[width]}, color_scheme=scheme, offline=True
    )
    seen = Seen(page)
    page.goto(file.as_uri())
    page.wait_for_selector("#curves[data-ready]")
    return page, seen
