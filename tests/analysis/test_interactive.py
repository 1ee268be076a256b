"""The curves of the report's page: their data, and in a browser what answers to the reader."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from playwright.sync_api import Browser, Page

from analysis import load
from analysis.dark import CONTRAST, PAPER, contrast
from analysis.interactive import interactive, kept_rounds, spread_out, to_json
from analysis.page import Contents, page
from analysis.summarise import curve
from tests.analysis.chromium import WIDTHS, Seen, browsers, opened


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    yield from browsers()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, write: Any) -> Path:
    """Two strategies and a baseline with three seeds in two settings; one run diverged."""
    root = tmp_path_factory.mktemp("runs")
    for seed in range(3):
        for alpha in (0.1, 1.0):
            for label in ("FedAvg", "FedAdam"):
                lost = (label, seed, alpha) == ("FedAdam", 2, 1.0)
                more = {"status": "diverged", "rounds": 6} if lost else {"rounds": 12}
                experiment = {"rounds": 12} if lost else None
                write(root / f"{label}-{alpha}-{seed}", label, seed=seed, alpha=alpha,
                      per_client=False, experiment=experiment, **more)  # fmt: skip
        write(root / f"pooled-{seed}", "centralised", seed=seed, alpha=0.1, rounds=12,
              mode="centralised")  # fmt: skip
    return root


@pytest.fixture(scope="module")
def runs(folder: Path) -> Any:
    return load(folder).counted.by(None)


@pytest.fixture(scope="module")
def file(runs: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(page(Contents("Curves", runs, (), (), curves=interactive(runs))))
    return path


def test_data_are_those_of_the_runs(runs: Any) -> None:
    data = json.loads(to_json(interactive(runs)))
    assert next(m["key"] for m in data["metrics"]) == "server_accuracy"
    assert [a["key"] for a in data["axes"]] == [
        "round", "elapsed", "bytes_total", "examples_total",
    ]  # fmt: skip
    assert [s["name"] for s in data["settings"]] == list(runs.settings)
    assert len(data["runs"]) == len(runs) and data["shown"] == data["recorded"] == 13
    for one in data["runs"]:
        rows = runs.rounds[runs.rounds["run"] == one["name"]]
        label = data["labels"][one["label"]]["name"]
        assert (label, one["seed"]) == (rows["label"].iloc[0], rows["seed"].iloc[0])
        assert data["kept"][one["rounds"]] == rows["round"].tolist()
        for column in ("server_accuracy", "server_loss", "examples_total"):
            np.testing.assert_allclose(one[column], rows[column], rtol=1e-4)
        assert ("bytes_total" in one) == (label != "centralised")
        assert one["end"] == (6 if rows["status"].iloc[0] == "diverged" else None)
    assert all(contrast(label["dark"], PAPER) >= CONTRAST for label in data["labels"])


def test_long_studies_are_thinned_to_what_a_page_holds() -> None:
    frame = pd.DataFrame({"round": np.arange(501), "run": "a"})
    frame["measured"] = np.where(frame["round"] % 5 == 0, 0.5, np.nan)
    frame["other"] = np.where(frame["round"] % 7 == 3, 0.5, np.nan)
    short = frame[frame["round"] <= 333].assign(run="b")
    kept = kept_rounds(pd.concat([frame, short]), ["measured", "other"], 2500)
    measured = {r for r in kept if r % 5 == 0}
    other = {r for r in kept if r % 7 == 3}
    assert {0, 5, 500, 333} <= kept and 30 <= len(measured) <= 52 and 30 <= len(other) <= 52
    assert kept - measured - other == {333}  # a run's last round, in which nothing was measured
    assert kept_rounds(frame, ["measured"], 10) == set(range(501))
    values = np.arange(1000)
    chosen = spread_out(values, 90)
    assert len(chosen) <= 90 and {0, 999} <= set(chosen)
    assert np.diff(chosen).max() < 25 and (chosen < 100).sum() > (chosen >= 900).sum() * 2


def test_results_of_others_are_lines(browser: Browser, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "names.toml").write_text(
        '[[reported]]\nlabel = "Theirs"\nsource = "A paper"\nvalue = 0.5\nsetting = "alpha = 0.1"\n'
    )
    runs = load(folder, names=tmp_path / "names.toml").counted.by(None)
    file = tmp_path / "report.html"
    file.write_text(page(Contents("Reported", runs, (), (), curves=interactive(runs))))
    opened_page, seen = opened(browser, file, 1280, "light")
    line = lines(opened_page)["Theirs, as reported"]
    assert line["y"] == [50, 50] and line["x"] == [0, 12]
    assert "50.00 % A paper" in hovered(opened_page)[1]
    opened_page.select_option("[data-part=setting]", "1")
    assert "Theirs, as reported" not in lines(opened_page)
    seen.check(file)
    opened_page.close()


def test_nothing_measured_is_nothing_to_explore(tmp_path: Path, make_run: Any) -> None:
    run = make_run(tmp_path / "run", rounds=1, per_client=False, status="running")
    (run / "rounds.jsonl").write_text('{"round": 0, "server_accuracy": null}\n')
    runs = load(run)
    assert interactive(runs) is None
    assert 'id="curves"' not in page(Contents("Nothing", runs, (), ()))


DRAWN = """() => document.querySelector("[data-part=plot]").data.map(t => ({
    name: t.name, x: Array.from(t.x), y: Array.from(t.y)}))"""


def lines(page: Page) -> dict[str, dict[str, list[float]]]:
    return {trace["name"]: trace for trace in page.evaluate(DRAWN)}


def chip(page: Page, part: str, text: str) -> Any:
    return page.locator(f'[data-part="{part}"] button').filter(has_text=text)


@pytest.mark.soak
def test_means_and_bands_are_those_of_the_figures(browser: Browser, file: Path, runs: Any) -> None:
    page, seen = opened(browser, file, 1280, "light")
    for i, setting in enumerate(runs.settings):
        page.select_option("[data-part=setting]", str(i))
        for column, factor, axis, divisor in (
            ("server_accuracy", 100, "round", 1),
            ("server_loss", 1, "bytes_total", 1e6),
            ("server_accuracy", 100, "elapsed", 1),
        ):
            metrics, axes = interactive(runs)["metrics"], interactive(runs)["axes"]
            names = [m["key"] for m in metrics], [a["key"] for a in axes]
            page.select_option("[data-part=metric]", str(names[0].index(column)))
            page.select_option("[data-part=axis]", str(names[1].index(axis)))
            rows = runs.at(setting).rounds
            if axis == "bytes_total":
                rows = rows[rows["mode"] == "federated"]
                divisor = axes[names[1].index(axis)]["divisor"]
            drawn = lines(page)
            expected = curve(rows, column, axis)
            assert {n for n in drawn if ":" not in n} == set(expected["label"].astype(str))
            for label, part in expected.groupby("label", observed=True):
                np.testing.assert_allclose(drawn[label]["x"], part[axis] / divisor, rtol=1e-3)
                np.testing.assert_allclose(drawn[label]["y"], part["mean"] * factor, rtol=1e-3)
                low = part["low"].clip(lower=0)
                np.testing.assert_allclose(
                    drawn[f"{label}: low"]["y"], low * factor, rtol=3e-3, atol=1e-2
                )
    assert len(lines(page)["FedAdam"]["x"]) == 7  # of a seed that diverged after round 6
    seen.check(file)
    page.close()


def test_strategies_and_seeds_can_be_chosen(browser: Browser, file: Path, runs: Any) -> None:
    page, seen = opened(browser, file, 1280, "light")
    rows = runs.at(next(iter(runs.settings))).rounds
    chip(page, "labels", "FedAvg").click()
    assert "FedAvg" not in lines(page) and "FedAdam" in lines(page)
    assert chip(page, "labels", "FedAvg").get_attribute("aria-pressed") == "false"
    chip(page, "labels", "FedAvg").focus()
    page.keyboard.press("Enter")
    assert "FedAvg" in lines(page)
    chip(page, "seeds", "2").click()
    expected = curve(rows[rows["seed"] < 2])
    part = expected[expected["label"] == "FedAvg"]
    np.testing.assert_allclose(lines(page)["FedAvg"]["y"], 100 * part["mean"], rtol=1e-3)
    chip(page, "labels", "FedAdam").dblclick()
    assert {n for n in lines(page) if ":" not in n} == {"FedAdam"}
    page.click("[data-toggle=each]")
    page.click("[data-toggle=band]")
    assert set(lines(page)) == {"FedAdam", "FedAdam, seed 0", "FedAdam, seed 1"}
    chip(page, "labels", "FedAdam").click()
    assert "Nothing to draw" in page.inner_text("[data-part=status]")
    seen.check(file)
    page.close()


RANGES = """() => { const {xaxis, yaxis} = document.querySelector("[data-part=plot]")._fullLayout;
    return [xaxis.type, yaxis.type, ...xaxis.range, ...yaxis.range]; }"""


def hovered(page: Page) -> tuple[dict[str, float], str]:
    """Point to the middle of the curves; return where they are, and what is said there."""
    page.locator(".nsewdrag").scroll_into_view_if_needed()
    box = page.locator(".nsewdrag").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_selector(".hoverlayer text")
    return dict(box), " ".join(page.locator(".hoverlayer text").all_text_contents())


def test_hovering_tells_values_and_dragging_zooms(browser: Browser, file: Path) -> None:
    page, seen = opened(browser, file, 1280, "dark")
    before = page.evaluate(RANGES)
    box, said = hovered(page)
    for label, (low, value, high) in values(page).items():
        assert f"{label} : {value:.2f} % [{low:.2f}, {high:.2f}]" in said
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.75, box["y"] + box["height"] * 0.75, steps=4)
    page.mouse.up()
    page.wait_for_function("b => (document.querySelector('[data-part=plot]')"
                           "._fullLayout.xaxis.range[0] > b)", arg=before[2] + 1)  # fmt: skip
    zoomed = page.evaluate(RANGES)
    assert zoomed[3] - zoomed[2] < 0.5 * (before[3] - before[2])
    chip(page, "labels", "FedAvg").click()  # what is looked at stays
    assert page.evaluate(RANGES) == pytest.approx(zoomed)
    page.click("[data-toggle=logX]")
    page.click("[data-toggle=logY]")
    assert page.evaluate(RANGES)[:2] == ["log", "log"]
    seen.check(file)
    page.close()


def values(page: Page) -> dict[str, tuple[float, float, float]]:
    """What the curves are at the middle round."""
    drawn = lines(page)
    return {
        name: tuple(drawn[f"{name}{end}"]["y"][6] for end in (": low", "", ": high"))
        for name in drawn
        if ":" not in name
    }


TEXT = """() => [...document.querySelectorAll("#curves *")].filter(e =>
    e.getClientRects().length && [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()))
    .map(e => [parseFloat(getComputedStyle(e).fontSize), e.textContent.slice(0, 30)])"""


@pytest.mark.soak
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_curves_fit_the_window(browser: Browser, file: Path, width: int, scheme: str) -> None:
    page, seen = opened(browser, file, width, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert min(page.evaluate(TEXT))[0] >= 11
    plot = page.locator("[data-part=plot]").bounding_box()
    drawn = page.locator(".main-svg").first.bounding_box()
    assert plot is not None and drawn is not None
    assert drawn["width"] == pytest.approx(plot["width"], abs=1) and drawn["height"] >= 300
    hues = page.evaluate('document.querySelector("[data-part=plot]").data.map(t => t.line.color)')
    assert ("#000000" in hues) == (scheme == "light")
    for label, (_, value, _) in values(page).items():
        assert f"{label} : {value:.2f} %" in hovered(page)[1]
    chip(page, "labels", "FedAvg").click()
    assert "FedAvg" not in lines(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    seen.check(file)
    page.close()


def test_curves_turn_dark_with_the_reader(browser: Browser, file: Path) -> None:
    page, seen = opened(browser, file, 1280, "light")
    page.emulate_media(color_scheme="dark")
    page.wait_for_function('() => !document.querySelector("[data-part=plot]").data'
                           '.some(t => t.line.color === "#000000")')  # fmt: skip
    seen.check(file)
    page.close()


def test_without_a_way_to_unpack_the_page_says_so(browser: Browser, file: Path) -> None:
    page = browser.new_page(offline=True)
    seen = Seen(page)
    page.add_init_script("delete window.DecompressionStream")
    page.goto(file.as_uri())
    assert "too old" in page.inner_text("[data-part=status]")
    assert not page.is_visible("[data-part=controls]")
    seen.check(file)
    page.close()


def test_names_are_only_text(browser: Browser, tmp_path: Path, make_run: Any) -> None:
    name = "A<b>&lt;%{x}</extra><img src=x onerror=alert(1)>"
    make_run(tmp_path / "run", name, rounds=3, per_client=False)
    file = tmp_path / "report.html"
    runs = load(tmp_path / "run")
    file.write_text(page(Contents("Names", runs, (), (), curves=interactive(runs))))
    opened_page, seen = opened(browser, file, 1280, "light")
    assert chip(opened_page, "labels", name).count() == 1
    assert name in hovered(opened_page)[1]
    assert opened_page.locator("#curves img").count() == 0
    seen.check(file)
    opened_page.close()
