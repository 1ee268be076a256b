"""The report's page in a real browser: offline, on a desk and on a phone, light and dark."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from analysis import report
from tests.analysis.chromium import WIDTHS, browsers, opened

pytestmark = pytest.mark.soak

TABLES = 8


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    yield from browsers()


@pytest.fixture(scope="module")
def file(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report(study, tmp_path_factory.mktemp("page"), formats=())[0]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_opens_offline(browser: Browser, file: Path, width: int, scheme: str) -> None:
    page, seen = opened(browser, file, width, scheme)
    images = page.evaluate(
        "Promise.all([...document.images].filter(i => i.offsetWidth).map(i => i.decode()"
        ".then(() => [i.naturalWidth, i.getBoundingClientRect().width, i.alt.length])))"
    )
    assert len(images) >= 14
    for natural, shown, alt in images:
        assert natural > 0 and 0 < shown <= width and alt > 15
    # Text of 7 pt, the smallest in a figure, is of 11 pixels and more: panels below each other
    # where there is no room for them.
    if width < 880:
        page.wait_for_selector("[data-panels=below]")
    assert min(page.evaluate(PIXELS)) * 7 >= 11
    for details in page.query_selector_all("summary"):
        details.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    seen.check(file)
    page.close()


PIXELS = """() => [...document.images].map((image) => {
    const style = getComputedStyle(image), points = /viewBox='0 0 ([\\d.]+)/.exec(image.src)[1];
    const pads = parseFloat(style.paddingLeft) + parseFloat(style.paddingRight);
    return (image.getBoundingClientRect().width - pads) / points; })"""
"""Pixels for each point of a figure."""


ROWS = "table => [...table.tBodies[0].rows].map(r => [...r.cells].map(c => c.dataset.sort))"


def key(text: str) -> tuple[int, float, str]:
    try:
        return (0, float(text.replace("Infinity", "inf")), "")
    except ValueError:
        return (1, 0.0, text)


def test_every_table_sorts_by_every_column(browser: Browser, file: Path) -> None:
    page, seen = opened(browser, file, 1280, "light")
    tables = page.query_selector_all("table.sortable")
    assert len(tables) == TABLES
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
  const back = (e) => {
    const own = getComputedStyle(e).backgroundColor;
    return own === "rgba(0, 0, 0, 0)" ? back(e.parentElement) : light(own);
  };
  const names = "p, li, td, th, h1, h2, figcaption, pre, summary, a, b, button";
  return [...document.querySelectorAll(names)]
    .map((e) => [light(getComputedStyle(e).color), back(e)].sort((a, b) => a - b))
    .map(([low, high]) => (high + 0.05) / (low + 0.05));
}
"""


def test_text_is_legible_in_light_and_dark(browser: Browser, file: Path) -> None:
    backs = []
    for scheme in ("light", "dark"):
        page, _ = opened(browser, file, 390, scheme)
        assert min(page.evaluate(CONTRAST)) >= 4.5  # WCAG 2, level AA
        backs.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        sizes = page.evaluate(
            "[...document.querySelectorAll('main *')]"
            ".map(e => parseFloat(getComputedStyle(e).fontSize))"
        )
        assert min(sizes) >= 11
        page.close()
    assert backs[0] != backs[1]


def test_buttons_copy_what_they_say(browser: Browser, file: Path) -> None:
    page, seen = opened(browser, file, 1280, "light")
    page.evaluate("document.body.append(document.createElement('textarea'))")
    box = page.locator("textarea")
    tables, figures = file.parent / "tables", (file.parent / "figures.tex").read_text()
    for place, expected in (
        (
            "#table-final_server_accuracy",
            (tables / "final_server_accuracy.tabular.tex").read_text(),
        ),
        ("figure#accuracy", figures[figures.index("\\begin{figure") :].split("\n\n")[0]),
        ("h3:has-text('This report')", "sunflower report "),
    ):
        button = page.locator(f"{place} button.copy").first
        button.click()
        assert button.inner_text() == "Copied"
        box.fill("")
        box.focus()
        page.keyboard.press("Control+V")
        assert expected.strip().splitlines()[0] in box.input_value()
        assert box.input_value().strip().startswith(expected.strip()[:40])
    seen.check(file)
    page.close()
