"""The report's page in a real browser: offline, on a desk and on a phone, light and dark."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from analysis import report

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
DESK, PHONE = (1280, 900), (390, 844)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Playwright's own Chromium, or the one that the machine has."""
    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
        found = [own] if Path(own).exists() else [w for n in NAMES if (w := shutil.which(n))]
        if not found:
            pytest.skip("there is no Chromium; 'playwright install chromium' gets one")
        browser = playwright.chromium.launch(executable_path=found[0], args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def file(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report(study, tmp_path_factory.mktemp("page"), formats=())[0]


class Seen:
    """What a page asked for and complained about."""

    def __init__(self, page: Page) -> None:
        self.told: list[str] = []
        self.asked: list[str] = []
        page.on("console", lambda message: self.told.append(message.text))
        page.on("pageerror", lambda error: self.told.append(str(error)))
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("requestfailed", lambda request: self.told.append(f"failed: {request.url}"))


def opened(browser: Browser, file: Path, size: tuple[int, int], scheme: Any) -> tuple[Page, Seen]:
    width, height = size
    page = browser.new_page(
        viewport={"width": width, "height": height}, color_scheme=scheme, offline=True
    )
    seen = Seen(page)
    page.goto(file.as_uri())
    return page, seen


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_opens_offline(
    browser: Browser, file: Path, size: tuple[int, int], scheme: str
) -> None:
    page, seen = opened(browser, file, size, scheme)
    images = page.evaluate(
        "Promise.all([...document.images].map(i => i.decode().then(() => "
        "[i.naturalWidth, i.getBoundingClientRect().width, i.alt.length])))"
    )
    assert len(images) >= 14
    for natural, shown, alt in images:
        assert natural > 0 and 0 < shown <= size[0] and alt > 15
    for details in page.query_selector_all("summary"):
        details.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    assert seen.told == []
    assert [url for url in seen.asked if not url.startswith("data:")] == [file.as_uri()]
    page.close()


ROWS = "table => [...table.tBodies[0].rows].map(r => [...r.cells].map(c => c.dataset.sort))"


def key(text: str) -> tuple[int, float, str]:
    try:
        return (0, float(text.replace("Infinity", "inf")), "")
    except ValueError:
        return (1, 0.0, text)


def test_every_table_sorts_by_every_column(browser: Browser, file: Path) -> None:
    page, seen = opened(browser, file, DESK, "light")
    tables = page.query_selector_all("table.sortable")
    assert len(tables) == 8
    for table in tables:
        before = sorted(table.evaluate(ROWS))
        for column, button in enumerate(table.query_selector_all("th button")):
            for direction, press in (("ascending", button.click), ("descending", button.press)):
                press(*(["Enter"] if direction == "descending" else []))
                rows = table.evaluate(ROWS)
                assert sorted(rows) == before  # nothing lost, nothing made up
                keys = [key(row[column]) for row in rows]
                numbers = [k for k in keys if k[0] == 0 and k[1] == k[1]]
                assert numbers == sorted(numbers, reverse=direction == "descending")
                if numbers:  # what is no number comes last, whichever way
                    assert keys[: len(numbers)] == numbers
                assert button.evaluate("b => b.parentNode.ariaSort") == direction
        assert table.evaluate("t => t.querySelectorAll('[aria-sort]').length") == 1
    assert seen.told == []
    page.close()


CONTRAST = """
() => {
  const light = (text) => {
    const [r, g, b] = text.match(/[\\d.]+/g).map(Number).map((v) => v / 255)
      .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const back = light(getComputedStyle(document.body).backgroundColor);
  return [...document.querySelectorAll("p, td, th, h1, h2, caption, figcaption, .soft, a")]
    .map((e) => light(getComputedStyle(e).color))
    .map((ink) => (Math.max(ink, back) + 0.05) / (Math.min(ink, back) + 0.05));
}
"""


def test_text_is_legible_in_light_and_dark(browser: Browser, file: Path) -> None:
    backs = []
    for scheme in ("light", "dark"):
        page, _ = opened(browser, file, PHONE, scheme)
        assert min(page.evaluate(CONTRAST)) >= 4.5  # WCAG 2, level AA
        backs.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        sizes = page.evaluate(
            "[...document.querySelectorAll('p, td, caption, figcaption, code')]"
            ".map(e => parseFloat(getComputedStyle(e).fontSize))"
        )
        assert min(sizes) >= 11
        page.close()
    assert backs[0] != backs[1]
