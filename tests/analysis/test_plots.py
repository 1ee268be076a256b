from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest

from analysis import load, looks, plots, styled, summarise
from analysis.text import ALPHA

mpl.use("agg")


@pytest.fixture(autouse=True)
def close():
    with styled():
        yield
    plt.close("all")


def test_lines_are_the_means(single: Path) -> None:
    rounds = load(single).rounds
    ax = plots.curves(rounds)
    data = summarise.curve(rounds)
    assert len(ax.lines) == 5
    for line in ax.lines:
        part = data[data["label"] == line.get_label()]
        np.testing.assert_array_equal(line.get_xdata(), part["round"])
        np.testing.assert_array_equal(line.get_ydata(), part["mean"])
    assert ax.get_xlabel() == "Round"
    assert ax.get_ylabel() == "Test accuracy (%)"
    legend = ax.get_legend()
    assert [t.get_text() for t in legend.get_texts()] == [
        "FedAvg", "FedProx(mu=0.1)", "FedAdam", "local-only", "centralised",
    ]  # fmt: skip
    assert legend.get_title().get_text() == "mean and 95% CI over 3 seeds"


def test_the_legend_covers_no_data(single: Path) -> None:
    ax = plots.curves(load(single).rounds)
    figure = ax.figure
    figure.draw_without_rendering()
    legend = ax.get_legend().get_window_extent()
    assert legend.y0 >= ax.get_window_extent().y1
    assert legend.x1 <= figure.bbox.x1
    assert legend.y1 <= figure.bbox.y1


def test_averaging_over_settings_is_refused(study: Path) -> None:
    message = f"^curves: the frame mixes 2 settings .{ALPHA} = 0.1; {ALPHA} = 1.; choose one"
    with pytest.raises(ValueError, match=message):
        plots.curves(load(study).rounds)


def test_bytes_leave_out_what_sends_none(single: Path) -> None:
    rounds = load(single).rounds.copy()
    rounds.loc[rounds["mode"] == "centralised", "bytes_total"] = 0.0
    ax = plots.curves(rounds, x="bytes_total")
    assert "centralised" not in [line.get_label() for line in ax.lines]
    assert ax.get_xlabel() == "Data sent (MB)"


def test_comparison_draws_every_seed_and_the_mean(single: Path) -> None:
    rounds = load(single).rounds
    ax = plots.comparison(rounds)
    data = summarise.final(rounds).set_index("label")
    names = [t.get_text() for t in ax.get_yticklabels()]
    assert data.loc[names, "mean"].is_monotonic_increasing
    rings = [line for line in ax.lines if len(line.get_xdata()) == 3]
    ends = summarise.last(rounds)
    for name, ring in zip(names, rings, strict=True):
        expected = ends.loc[ends["label"] == name, "server_accuracy"]
        np.testing.assert_array_equal(ring.get_xdata(), expected)


def test_client_cdf_is_the_empirical_distribution(single: Path) -> None:
    frame = load(single).last_clients
    ax = plots.client_cdf(frame)
    for line in ax.lines:
        values = np.sort(frame.loc[frame["label"] == line.get_label(), "accuracy"])
        np.testing.assert_array_equal(line.get_xdata()[1:], values)
        np.testing.assert_allclose(line.get_ydata()[1:], np.arange(1, 31) / 30)
    assert ax.get_legend().get_title().get_text() == "round 20, 3 seeds pooled"


@pytest.mark.parametrize("clients", [10, 1000])
@pytest.mark.parametrize("kind", ["auto", "bubble", "heatmap", "bars"])
def test_labels_show_each_clients_data(tmp_path, make_run, clients: int, kind: str) -> None:
    frame = load(make_run(tmp_path / "run", clients=clients, rounds=1)).labels
    ax = plots.labels(frame, kind=kind)
    if ax.images:
        shares = ax.images[0].get_array()
        assert shares.shape == (frame["class"].nunique(), clients)
        sums = frame.groupby("client")["examples"].sum()
        assert (shares.sum(axis=0) > 0.999).sum() == len(sums)
    elif ax.collections:
        areas = ax.collections[0].get_sizes()
        counts = frame.sort_values(["client", "class"])["examples"].to_numpy()
        np.testing.assert_allclose(areas / areas.max(), counts / counts.max())
    else:
        tops = np.array([p.get_y() + p.get_height() for p in ax.patches])
        assert tops.max() == pytest.approx(1.0)
    assert ax.get_xlabel() and ax.get_ylabel()


def test_looks_do_not_depend_on_the_company() -> None:
    few, many = looks(["FedAdam", "FedAvg"]), looks(["mine", "FedAvg", "SCAFFOLD", "FedAdam"])
    assert {k: many[k] for k in few} == few
    names = [f"s{i}" for i in range(40)]
    triples = {(v.colour, v.dash, v.marker) for v in looks(names).values()}
    assert len(triples) == 40
