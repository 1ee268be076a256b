"""Captions say what is drawn of these runs, and titles what tells their settings apart."""

from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest

from analysis import load, plots, summarise
from analysis.captions import caption
from analysis.figures import draw
from analysis.plots.base import Ticks, quantity
from analysis.plots.labels import sizes


def test_a_caption_has_centralised_training_only_where_it_is_drawn(
    single: Path, tmp_path: Path, make_run: Callable[..., Path]
) -> None:
    make_run(tmp_path / "run")
    ends = "Final test accuracy of each strategy and baseline."
    assert caption("comparison", load(tmp_path)) == ends
    assert caption("comparison", load(single)) == f"{ends} The dashed line is centralised training."


def test_a_caption_has_an_arrow_only_where_a_seed_never_got_there(single: Path) -> None:
    runs = load(single)
    reached = (
        runs.rounds.groupby(["label", "seed"])["server_accuracy"].max()["FedAvg"].sort_values()
    )
    arrow = "An arrow: a seed never got there."
    all_there, two_of_three = reached.iloc[0] - 1e-6, reached.iloc[0] + 1e-6
    data = summarise.rounds_to_target(runs.rounds, two_of_three).set_index("label")
    assert np.isfinite(data.at["FedAvg", "median"]) and np.isinf(data.at["FedAvg", "high"])
    assert arrow in caption("rounds_to_target", runs, two_of_three)
    only = runs.only(runs.table.index[runs.table["label"] == "FedAvg"])
    assert arrow not in caption("rounds_to_target", only, all_there)


def test_a_caption_names_the_runs_whose_labels_are_drawn(study: Path, single: Path) -> None:
    runs = load(single)
    first = next(r for r in runs.settings[""] if runs.table.at[r, "mode"] != "centralised")
    assert caption("labels", runs).endswith(f"hold. Drawn: run {first}.")
    assert " and " in caption("labels_bars", load(study)).rpartition("Drawn: runs ")[2]


ATTACKS = [None, ("sign-flip", 0.2), ("noise", 0.2)]


@pytest.mark.parametrize(
    ("attacks", "titles"),
    [
        (ATTACKS, ["no attack", "attack = noise", "attack = sign-flip"]),
        ([None, ("noise", 0.1), ("noise", 0.2)],
         ["no attack", "attack fraction = 0.1", "attack fraction = 0.2"]),
        ([None, ("noise", 0.1)], ["no attack", "attack = noise"]),
        ([("noise", 0.1), ("noise", 0.2), ("alie", 0.2)],
         ["attack = alie, attack fraction = 0.2", "attack = noise, attack fraction = 0.1",
          "attack = noise, attack fraction = 0.2"]),
    ],
    ids=["kinds", "fractions", "one", "both"],
)  # fmt: skip
def test_titles_name_what_differs_between_attacks_once(
    tmp_path: Path, make_run: Callable[..., Path], attacks: list, titles: list[str]
) -> None:
    for i, attack in enumerate(attacks):
        said = {"kind": attack[0], "fraction": attack[1]} if attack else {"kind": None}
        make_run(tmp_path / f"run{i}", rounds=1, experiment={"attack": said})
    assert list(load(tmp_path).settings) == titles


def test_error_bars_stand_where_the_bands_would_be(single: Path) -> None:
    rounds = load(single).rounds
    ax = plots.curves(rounds, bars=True)
    for line, marks in zip(ax.get_lines(), ax.collections, strict=True):
        data = summarise.curve(rounds, "server_accuracy", by=("label",))
        data = data[data["label"] == line.get_label()].set_index("round")
        ends = np.array([path.vertices for path in marks.get_paths()])
        at = ends[:, 0, 0].astype(int)
        start, step = line.get_markevery()
        assert len(at) >= 5 and np.array_equal(at, line.get_xdata()[start::step])
        np.testing.assert_allclose(ends[:, 0, 1], 100 * data.loc[at, "low"])
        np.testing.assert_allclose(ends[:, 1, 1], 100 * data.loc[at, "high"].clip(upper=1))
    plt.close(ax.figure)


def test_areas_have_a_legend_of_sizes(single: Path) -> None:
    frame = load(single).labels
    drawn = frame[frame["run"] == frame.loc[frame["mode"] != "centralised", "run"].iloc[0]]
    ax = plots.labels(frame, kind="bubble", largest=1000)
    bubbles, *proxies = ax.collections
    area = {int(p.get_label().replace(",", "")): float(p.get_sizes()[0]) for p in proxies}
    assert list(area) == sizes(1000) == [50, 200, 1000]
    of_one = area[1000] / 1000
    assert sorted(bubbles.get_sizes() / of_one) == pytest.approx(sorted(drawn["examples"]))
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["50", "200", "1,000"]
    plt.close(ax.figure)


def test_quantities_have_three_digits_each() -> None:
    seconds = {31.96: "32.0 s", 32.0: "32.0 s", 1.6: "1.60 s", 100.0: "100 s", 0.0: "0 s"}
    assert [quantity("elapsed", value) for value in seconds] == list(seconds.values())
    assert quantity("bytes_up", 5.0) == "5 B" and quantity("bytes_up", 1.8e8) == "180 MB"
    assert quantity("elapsed", 3.6e6 * 1.5) == "1,500 h"


REPORTED = """[[reported]]
label = "FedAvg"
source = "McMahan et al. (2017)"
value = 0.874
setting = "alpha = 1"
"""


def test_results_of_others_are_lines_in_their_setting_alone(study: Path, tmp_path: Path) -> None:
    names = tmp_path / "names.toml"
    names.write_text(REPORTED)
    runs = load(study, names=names)
    canvas = draw("accuracy", runs)
    lines = {ax.get_title(): {ln.get_label(): ln for ln in ax.get_lines()} for ax in canvas.axes}
    assert "FedAvg ‡" not in lines["α = 0.1"]
    assert set(lines["α = 1"]["FedAvg ‡"].get_ydata()) == {87.4}
    assert [t.get_text() for t in canvas.legends[0].get_texts()][-1] == "FedAvg ‡"
    said = "‡ As reported, not run here: FedAvg: McMahan et al. (2017)."
    assert caption("accuracy", runs).endswith(said)
    assert "‡" not in caption("loss", runs) + caption("accuracy_time", runs)
    plt.close(canvas)


@pytest.mark.parametrize(
    ("ticks", "unit", "texts"),
    [
        ([72.5, 75.0, 77.5], 1.0, ["72.5", "75.0", "77.5"]),
        ([0.0, 20.0, 100.0], 1.0, ["0", "20", "100"]),
        ([0, 9000, 18000], 3600.0, ["0.0", "2.5", "5.0"]),
        ([-0.0, 2.5e5], 1e6, ["0.00", "0.25"]),
    ],
    ids=["halves", "whole", "hours", "quarters"],
)
def test_ticks_have_one_precision(ticks: list[float], unit: float, texts: list[str]) -> None:
    assert Ticks(unit).format_ticks(ticks) == texts


def test_a_pooled_run_belongs_to_the_noise_that_it_has(
    tmp_path: Path, make_run: Callable[..., Path]
) -> None:
    for noise in (0.1, 0.5):
        for mode, label in (("federated", "FedAvg"), ("centralised", "centralised")):
            partition = {"kind": "iid", "noise": noise}
            make_run(tmp_path / f"{mode}{noise}", label, rounds=1, mode=mode,
                     experiment={"partition": partition, "mode": mode})  # fmt: skip
    settings = load(tmp_path).settings
    assert {k: sorted(v) for k, v in settings.items()} == {
        f"noise = {n}": [f"centralised{n}", f"federated{n}"] for n in (0.1, 0.5)
    }
