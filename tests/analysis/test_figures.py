"""Every figure of the registry, in every style: legible, whole, the same bytes each time."""

import itertools
import json
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure as Canvas
from matplotlib.text import Text

from analysis import FIGURES, PAPERS, draw, load, save
from analysis.runs import Runs
from tests.analysis.kinds import NAMES, write_kinds


@pytest.fixture(scope="module")
def folders(
    tmp_path_factory: pytest.TempPathFactory,
    write: Callable[..., Path],
    study: Path,
) -> dict[str, Runs]:
    """Runs for every figure: a plain study, and one with everything that runs may record."""
    root = tmp_path_factory.mktemp("all")

    write_kinds(root, write)
    return {"study": load(study), **{n: load(root / n) for n in NAMES}}


@pytest.fixture(autouse=True)
def close() -> Iterator[None]:
    yield
    plt.close("all")


def test_every_figure_applies_somewhere(folders: dict[str, Runs]) -> None:
    applied = {n for n, f in FIGURES.items() if any(f.applies(r) for r in folders.values())}
    assert applied == set(FIGURES)


def test_uploads_are_drawn_where_any_are_encoded(folders: dict[str, Runs]) -> None:
    figure, runs = FIGURES["accuracy_uploads"], folders["encoded"]
    assert not figure.applies(folders["study"]) and not figure.applies(folders["classes"])
    (ax,) = draw("accuracy_uploads", runs).axes
    assert ax.get_xscale() == "log"
    ends = {str(line.get_label()): line.get_xdata()[-1] for line in ax.lines}
    sent = runs.rounds.groupby("label", observed=True)["bytes_up"].sum()
    assert ends["FedAvg"] / ends["FedAvg, top-k"] == sent["FedAvg"] / sent["FedAvg, top-k"] == 100
    assert all((line.get_xdata() > 0).all() for line in ax.lines)


def tick_labels(axis: Axis) -> list[Text]:
    """Return the labels of the ticks that lie on the axis, in order."""
    low, high = sorted(axis.get_view_interval())
    ticks = [t for t in axis.get_major_ticks() if low <= t.get_loc() <= high]
    ticks.sort(key=lambda t: t.get_loc())
    return [t.label1 for t in ticks if t.label1.get_visible() and t.label1.get_text()]


def check(figure: Canvas) -> None:
    """Assert that no text is cut or too small, and that nothing touches what it must not."""
    figure.draw_without_rendering()
    all_ticks = {
        label
        for ax in figure.axes
        for axis in (ax.xaxis, ax.yaxis)
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks())
        for label in (tick.label1, tick.label2)
    }
    texts = [
        t
        for t in figure.findobj(Text)
        if t.get_visible() and t.get_text().strip() and t not in all_ticks
    ]
    for ax in figure.axes:
        for axis, low, high in ((ax.xaxis, "x0", "x1"), (ax.yaxis, "y0", "y1")):
            labels = tick_labels(axis)
            texts += labels
            boxes = sorted((t.get_window_extent() for t in labels), key=lambda b: getattr(b, low))
            for a, b in itertools.pairwise(boxes):
                assert getattr(a, high) <= getattr(b, low) + 1, (axis.get_label_text(), a, b)
        if legend := ax.get_legend():
            assert legend.get_window_extent().y0 >= ax.get_window_extent().y1 - 1
    for text in texts:
        box = text.get_window_extent()
        assert text.get_fontsize() >= 7, text
        assert box.x0 >= -1 and box.x1 <= figure.bbox.x1 + 1, (text, box)
        assert box.y0 >= -1 and box.y1 <= figure.bbox.y1 + 1, (text, box)
    for legend in figure.legends:
        top = max(ax.get_tightbbox().y1 for ax in figure.axes)
        assert legend.get_window_extent().y0 >= top - 1
    panel = min(ax.get_window_extent().width for ax in figure.axes if not is_bar(ax))
    assert panel / figure.dpi > 0.8, "less than 0.8 in is left for the data"


def is_bar(ax: Axes) -> bool:
    return ax.get_label() == "<colorbar>"


HARDEST = ("neurips", "slide")
"""The narrowest style and the one with the largest type: the normal suite has these."""


@pytest.mark.parametrize(
    ("name", "style"),
    [
        pytest.param(n, s, marks=() if s in HARDEST else pytest.mark.soak)
        for n in FIGURES
        for s in PAPERS
    ],
)
def test_legible(folders: dict[str, Runs], name: str, style: str) -> None:
    runs = next(r for r in folders.values() if FIGURES[name].applies(r))
    check(draw(name, runs, style))


def test_axes_are_named(folders: dict[str, Runs]) -> None:
    for name, figure in FIGURES.items():
        runs = next(r for r in folders.values() if figure.applies(r))
        for ax in draw(name, runs).axes[:1]:
            assert ax.get_xlabel(), name
            assert ax.get_ylabel() or len(ax.get_yticklabels()), name
        plt.close("all")


def test_labels_have_one_look_in_all_figures(folders: dict[str, Runs]) -> None:
    runs = folders["study"]
    seen: dict[str, set] = {}
    for name in ("accuracy", "loss", "accuracy_bytes", "client_cdf"):
        for ax in draw(name, runs).axes:
            for line in ax.lines:
                look = (line.get_color(), line.get_linestyle(), line.get_marker())
                seen.setdefault(line.get_label(), set()).add(look)
    assert set(seen) == {"FedAvg", "FedProx(mu=0.1)", "FedAdam", "local-only", "centralised"}
    assert all(len(looks) == 1 for looks in seen.values())
    assert len({next(iter(looks)) for looks in seen.values()}) == 5


def test_labels_have_one_colour_in_all_figures(folders: dict[str, Runs]) -> None:
    runs = folders["study"]
    colours: dict[str, set[str]] = {str(label): set() for label in runs.table["label"]}
    drawn: set[str] = set()
    for name, figure in FIGURES.items():
        if not figure.applies(runs):
            continue
        for ax in draw(name, runs).axes:
            artists = [(line.get_label(), line) for line in ax.lines]
            artists += [(c.get_label(), c.lines[0]) for c in ax.containers if hasattr(c, "lines")]
            for label, line in artists:
                if label in colours:
                    colours[label].add(line.get_color())
                    drawn.add(name)
        plt.close("all")
    assert len(drawn) >= 8
    assert all(len(found) == 1 for found in colours.values()), colours


def test_a_figure_of_settings_has_a_panel_each(folders: dict[str, Runs]) -> None:
    runs = folders["study"]
    figure = draw("accuracy", runs)
    assert [ax.get_title() for ax in figure.axes] == list(runs.settings)
    for ax in figure.axes:  # the centralised baseline is in each of them
        assert "centralised" in [line.get_label() for line in ax.lines]


EMBEDDED = list(zip(FIGURES, itertools.cycle(PAPERS)))


@pytest.mark.parametrize(("name", "style"), EMBEDDED)
def test_pdf_fonts_are_embedded_truetype_and_lines_are_vectors(
    folders: dict[str, Runs], tmp_path: Path, name: str, style: str
) -> None:
    runs = next(r for r in folders.values() if FIGURES[name].applies(r))
    figure = draw(name, runs, style)
    width = figure.get_figwidth()
    (path,) = save(figure, tmp_path / "a", ["pdf"], style)
    data = path.read_bytes()
    fonts = re.findall(rb"/FontName\s*/(\S+)", data)
    assert fonts and data.count(b"/FontFile2") == len(fonts)
    assert b"/Type3" not in data and b"/FontFile3" not in data
    family = b"DejaVu" if style in ("default", "slide", "slide-dark") else b"STIX"
    assert all(family in font for font in fonts)
    # A heat map is an image by its nature, and so is the bar that explains its colours.
    assert (
        name in ("labels", "hyperparameters", "defences", "confusion")
        or b"/Subtype /Image" not in data
    )
    assert float(re.search(rb"/MediaBox \[ 0 0 (\S+)", data)[1]) / 72 == pytest.approx(width)
    streams = b"".join(
        zlib.decompress(s)
        for s in re.findall(rb"/FlateDecode[^>]*>>\s*stream\r?\n(.*?)\r?\nendstream", data, re.S)
        if s[:1] == b"x"
    )
    assert streams.count(b" l\n") > 10  # line segments


def test_widths_are_the_venues(single: Path) -> None:
    runs = load(single)
    for style, paper in PAPERS.items():
        assert draw("accuracy", runs, style).get_figwidth() == paper.column
        assert paper.rc()["pdf.fonttype"] == 42
        assert min(paper.rc()[k] for k in ("legend.fontsize", "xtick.labelsize")) >= 7


def test_the_same_runs_give_the_same_bytes(single: Path, tmp_path: Path) -> None:
    runs = load(single)
    formats = ["png", "pdf", "svg"]
    first = save(draw("accuracy", runs), tmp_path / "a", formats)
    second = save(draw("accuracy", runs), tmp_path / "b", formats)
    for a, b in zip(first, second, strict=True):
        assert a.read_bytes() == b.read_bytes(), a.suffix


def test_unknown_and_inapplicable_figures_are_named(folders: dict[str, Runs]) -> None:
    with pytest.raises(ValueError, match=r"^figure: must be one of .*, got 'pie'$"):
        draw("pie", folders["study"])
    with pytest.raises(ValueError, match=r"^figure: the runs do not hold what 'drift' shows"):
        draw("drift", folders["study"])
    with pytest.raises(ValueError, match=r"^style: must be one of .*, got 'poster'$"):
        draw("accuracy", folders["study"], "poster")


def test_grey_printing_tells_strategies_apart() -> None:
    from analysis.appearance import KNOWN, looks

    table = looks(KNOWN)
    shapes = {(str(v.dash), v.marker) for v in table.values()}
    assert len(shapes) == len(KNOWN)  # dash and marker alone do, without any colour


def test_colours_differ_for_colour_blind_eyes() -> None:
    from matplotlib.colors import to_rgb

    from analysis.appearance import COLOURS

    # Machado et al. (2009), severity 1: deuteranopia and protanopia in linear RGB.
    blind = {
        "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                   [-0.011820, 0.042940, 0.968881]],
        "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                   [-0.003882, -0.048116, 1.051998]],
    }  # fmt: skip
    rgb = np.array([to_rgb(c) for c in COLOURS])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    for matrix in (np.eye(3), *map(np.array, blind.values())):
        seen = np.clip(linear @ matrix.T, 0, 1) ** (1 / 2.4)
        gaps = np.linalg.norm(seen[:, None] - seen[None], axis=-1)
        assert gaps[np.triu_indices(len(COLOURS), 1)].min() > 0.12


def test_long_and_many_names_stay_inside(tmp_path, make_run) -> None:
    for i in range(12):
        label = f"Strategy{i}(server_learning_rate=0.01, beta_1=0.9)"
        folder = make_run(tmp_path / str(i), label, rounds=3)
        config = json.loads((folder / "config.json").read_text())
        config["experiment"]["strategy"] = {"name": f"s{i}"}
        (folder / "config.json").write_text(json.dumps(config))
    runs = load(tmp_path)
    for name in ("accuracy", "comparison", "client_violin", "rounds_to_target"):
        for style in ("default", "slide"):
            check(draw(name, runs, style))
            plt.close("all")


@pytest.mark.parametrize("name", ["comparison", "rounds_to_target", "client_violin", "traffic"])
def test_a_setting_has_no_rows_for_strategies_that_it_lacks(
    tmp_path: Path, make_run: Any, name: str
) -> None:
    for alpha, labels in ((0.1, ("FedAvg", "FedAdam", "FedProx(mu=0.1)")), (1.0, ("FedAdam",))):
        for label in labels:
            make_run(tmp_path / f"{label}-{alpha}", label, alpha=alpha, rounds=2)
    figure = draw(name, load(tmp_path), "slide", target=0.2)
    figure.draw_without_rendering()
    many, one = figure.axes[:2]
    assert [[t.get_text() for t in ax.get_yticklabels()] for ax in (many, one)] == [
        ["FedAvg", "FedProx(μ=0.1)", "FedAdam"], ["FedAdam"]
    ]  # fmt: skip
    places = [ax.transData.transform((0, ax.get_yticks()[0]))[1] for ax in (many, one)]
    assert places[0] == pytest.approx(places[1])  # rows are as high, from the top on
    assert one.bbox.height == pytest.approx(many.bbox.height)


def test_runs_that_lack_the_horizontal_measure_have_no_panel(folders: dict[str, Runs]) -> None:
    """Stragglers of runs that did not record what they did: nobody knows their examples."""
    runs = folders["slow"]
    lacking = runs.rounds.groupby("run")["examples_total"].max().isna()
    assert lacking.any() and not lacking.all()
    canvas = draw("accuracy_examples", runs)
    assert len(canvas.axes) == 1
