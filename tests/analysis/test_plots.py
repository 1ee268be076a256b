import json
from collections.abc import Iterable
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

from analysis import load, looks, plots, styled, summarise
from analysis.costs import fairness
from analysis.plots.confusion import matrix, side_of
from analysis.text import ALPHA, typeset

mpl.use("agg")


@pytest.fixture(autouse=True)
def close():
    with styled():
        yield
    plt.close("all")


def rows_of(ax: Axes, labels: Iterable[str]) -> list[str]:
    """The labels of a chart's rows, which stand there as papers write them."""
    written = {typeset(label): label for label in labels}
    return [written[text.get_text()] for text in ax.get_yticklabels()]


@pytest.mark.parametrize("own", [True, False], ids=["own-axes", "given-axes"])
@pytest.mark.parametrize("inside", [True, False], ids=["styled", "unstyled"])
def test_legends_notes_and_titles_share_no_place(single: Path, own: bool, inside: bool) -> None:
    runs = load(single)
    with mpl.rc_context({} if inside else mpl.rcParamsDefault | {"backend": "agg"}):
        for plot in (plots.curves, plots.comparison):
            ax = plot(runs.rounds, None if own else plt.subplots()[1], looks=runs.looks())
            ax.set_title("A title of one's own")
            figure = ax.figure
            figure.canvas.draw()  # as savefig does
            above = ax.get_legend() or ax.texts[-1]
            box, title = above.get_window_extent(), ax.title.get_window_extent()
            assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1
            assert title.y1 <= box.y0 and box.y1 <= figure.bbox.y1
            assert ax.bbox.y1 <= title.y0 and ax.bbox.height > 0.3 * figure.bbox.height


def test_what_a_notebook_switches_on_stays(single: Path) -> None:
    assert not mpl.is_interactive()
    with styled():
        mpl.interactive(True)  # as its backend does when it is loaded, with the first figure
    assert mpl.is_interactive()
    mpl.interactive(False)


def test_panels_need_no_style_around_them(single: Path) -> None:
    runs = load(single)
    with mpl.rc_context(mpl.rcParamsDefault | {"backend": "agg"}):
        drawn = plots.panels({"one": runs.rounds, "two": runs.rounds}, plots.curves)
        figure = drawn[0].figure
        figure.canvas.draw()
        box = figure.legends[0].get_window_extent()
        assert drawn[0].bbox.y1 < box.y0 and box.y1 <= figure.bbox.y1


def test_lines_are_the_means(single: Path) -> None:
    rounds = load(single).rounds
    ax = plots.curves(rounds)
    data = summarise.curve(rounds)
    assert len(ax.lines) == 5
    for line in ax.lines:
        part = data[data["label"] == line.get_label()]
        np.testing.assert_array_equal(line.get_xdata(), part["round"])
        np.testing.assert_allclose(line.get_ydata(), 100 * part["mean"])
    assert ax.get_xlabel() == "Round"
    assert ax.get_ylabel() == "Test accuracy (%)"
    legend = ax.get_legend()
    assert [t.get_text() for t in legend.get_texts()] == [
        "FedAvg", "FedProx(μ=0.1)", "FedAdam", "local-only", "centralised",
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
    names = rows_of(ax, data.index)
    assert data.loc[names, "mean"].is_monotonic_decreasing
    rings = [line for line in ax.lines if len(line.get_xdata()) == 3]
    ends = summarise.last(rounds)
    for name, ring in zip(names, rings, strict=True):
        expected = ends.loc[ends["label"] == name, "server_accuracy"]
        np.testing.assert_allclose(ring.get_xdata(), 100 * expected)


def test_client_cdf_is_the_empirical_distribution(single: Path) -> None:
    frame = load(single).last_clients
    ax = plots.client_cdf(frame)
    for line in ax.lines:
        values = np.sort(frame.loc[frame["label"] == line.get_label(), "accuracy"])
        np.testing.assert_allclose(line.get_xdata()[1:], 100 * values)
        np.testing.assert_allclose(line.get_ydata()[1:], 100 * np.arange(1, 31) / 30)
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
        assert (shares.sum(axis=0) > 99.9).sum() == len(sums)
    elif kind in ("auto", "bubble"):
        areas = ax.collections[0].get_sizes()
        counts = frame.sort_values(["client", "class"])["examples"].to_numpy()
        np.testing.assert_allclose(areas / areas.max(), counts / counts.max())
    else:
        assert len(ax.collections or ax.patches) == (10 if clients == 1000 else 100)
        assert ax.dataLim.y1 == pytest.approx(100.0)
    assert ax.get_xlabel() and ax.get_ylabel()


def test_row_charts_keep_their_rows_where_data_are_missing(single: Path) -> None:
    runs = load(single)
    rows = ["FedAdam", "nobody", "FedAvg"]
    for plot, frame, options in (
        (plots.comparison, runs.rounds, {}),
        (plots.to_target_bars, runs.rounds, {"target": 0.5}),
        (plots.worst_clients, runs.last_clients, {}),
        (plots.client_violin, runs.last_clients, {}),
        (plots.round_time, runs.rounds, {}),
        (plots.traffic, runs.rounds, {}),
    ):
        part = frame[frame["label"].isin(rows)]
        ax = plot(part, rows=rows, **options)
        assert [t.get_text() for t in ax.get_yticklabels()] == rows
        top, bottom = ax.get_yticks()[[0, -1]]
        assert (top > bottom) != ax.yaxis_inverted()  # the first row is the uppermost


def test_bars_are_the_medians_and_failures_are_said(single: Path) -> None:
    rounds = load(single).rounds
    ax = plots.to_target_bars(rounds, target=0.8)
    data = summarise.rounds_to_target(rounds, 0.8).set_index("label")["median"]
    finite = data[np.isfinite(data)]
    assert sorted(p.get_width() for p in ax.patches) == sorted(finite)
    told, note = (t.get_text() for t in ax.texts)
    assert told == "not reached (0/3 seeds)" and note.startswith("test accuracy ≥ 80%")
    assert ax.get_xlabel() == "Rounds to target"


def test_a_range_without_an_end_is_an_arrow(single: Path) -> None:
    rounds = load(single).rounds
    values = {0: 0.9, 1: 0.9, 2: 0.1}  # FedAdam: two seeds get there, one never does
    mine = rounds["label"] == "FedAdam"
    rounds = rounds.assign(
        server_accuracy=rounds["server_accuracy"].where(~mine, rounds["seed"].map(values))
    )
    ax = plots.to_target_bars(rounds[mine | (rounds["label"] == "FedAvg")], target=0.6)
    arrows = [text for text in ax.texts if text.arrow_patch is not None]
    assert len(arrows) == 1
    place = [text.get_text() for text in ax.get_yticklabels()].index("FedAdam")
    assert arrows[0].xyann == (0.0, ax.get_yticks()[place]) and arrows[0].xy[0] == 1.0


def test_violins_have_the_strategies_own_colours(single: Path) -> None:
    frame = load(single).last_clients
    ax = plots.client_violin(frame)
    drawn = [to_hex(body.get_facecolor()[0]) for body in ax.collections]
    own = looks(frame["label"].unique())
    rows = rows_of(ax, own)
    assert drawn == [own[label].colour.lower() for label in rows]


def test_sweep_points_are_the_final_means(study: Path) -> None:
    runs = load(study).across("alpha")
    ax = plots.sweep(runs.rounds)
    data = summarise.final(runs.rounds, by=("label", "alpha")).set_index(["label", "alpha"])
    assert ax.get_xscale() == "log"
    lines = {c.get_label(): c.lines[0] for c in ax.containers}
    for label in ("FedAvg", "FedAdam", "local-only"):
        expected = [data.loc[(label, a), "mean"] for a in (0.1, 1.0)]
        np.testing.assert_allclose(lines[label].get_ydata().astype(float), 100 * np.array(expected))
        np.testing.assert_allclose(lines[label].get_xdata().astype(float), [0.1, 1.0], rtol=0.06)
    pooled = summarise.final(runs.rounds).set_index("label").loc["centralised", "mean"]
    (level,) = [line for line in ax.lines if list(line.get_xdata()) == [0, 1]]
    assert level.get_ydata() == pytest.approx([100 * pooled] * 2)


def test_a_swept_share_is_linear_and_in_per_cent(tmp_path, make_run) -> None:
    for part in (0.01, 0.1, 0.4):
        experiment = {"realism": {"stragglers": part}}
        make_run(tmp_path / f"{part}", rounds=1, experiment=experiment)
    calm = {"realism": {"stragglers": 0.0}}
    make_run(tmp_path / "pooled", "centralised", rounds=1, mode="centralised", experiment=calm)
    runs = load(tmp_path)
    # Pooled data know no stragglers: the baseline belongs to every setting.
    assert all("pooled" in names for names in runs.settings.values())
    column = "realism.stragglers"
    ax = plots.sweep(runs.across(column).rounds, x=column)
    assert ax.get_xscale() == "linear"
    assert ax.get_xlabel() == "Stragglers (%)"
    ax.figure.draw_without_rendering()
    assert [t.get_text() for t in ax.get_xticklabels()] == ["1", "10", "40"]


def test_sweep_refuses_a_second_factor(tmp_path, make_run) -> None:
    for clients in (10, 20):
        for alpha in (0.1, 1.0):
            make_run(tmp_path / f"{clients}-{alpha}", alpha=alpha, clients=clients, rounds=1)
    with pytest.raises(ValueError, match=r"^sweep: several experiments share label, seed"):
        plots.sweep(load(tmp_path).rounds, x="alpha")


def test_heatmap_cells_are_the_final_means(tmp_path, make_run) -> None:
    for i, rate in enumerate((0.01, 0.1)):
        for j, mu in enumerate((0.0, 0.1, 1.0)):
            make_run(
                tmp_path / f"{i}{j}", "FedProx", alpha=0.1 + i + j / 3, rounds=2,
                experiment={"training": {"learning_rate": rate}, "partition": {"kind": "iid"},
                            "strategy": {"name": "FedProx", "mu": mu}},
            )  # fmt: skip
    rounds = load(tmp_path).rounds
    ax = plots.heatmap(rounds, x="training.learning_rate", y="strategy.mu")
    values = summarise.last(rounds).set_index(["strategy.mu", "training.learning_rate"])
    grid = values["server_accuracy"].unstack().sort_index(ascending=False)
    np.testing.assert_allclose(ax.collections[0].get_array().reshape(3, 2), 100 * grid)
    frame = ax.patches[0]
    row, column = np.unravel_index(grid.to_numpy().argmax(), grid.shape)
    assert frame.get_xy() == (column, row)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Client learning rate", "Mu")


def test_cells_of_defences_are_the_final_means_with_the_best_strategy_on_top(tmp_path, make_run):
    for label in ("FedAvg", "Median"):
        for kind in (None, "sign-flip", "alie"):
            for seed in (0, 1):
                attack = {"attack": {"kind": kind, "fraction": 0.2}}
                make_run(tmp_path / f"{label}{kind}{seed}", label, seed=seed, rounds=2,
                         experiment=attack)  # fmt: skip
    rounds = load(tmp_path).rounds
    ax = plots.defences(rounds)
    ends = summarise.last(rounds)
    kinds = ends["attack.kind"].astype(object).fillna("no attack")
    grid = ends.groupby([ends["label"].astype(str), kinds])["server_accuracy"].mean().unstack()
    grid = grid.loc[grid.mean(axis=1).sort_values(ascending=False).index]
    grid = grid[["no attack", "alie", "sign-flip"]]
    np.testing.assert_allclose(ax.collections[0].get_array().reshape(2, 3), 100 * grid)
    assert [text.get_text() for text in ax.get_yticklabels()] == list(grid.index)
    assert [text.get_text() for text in ax.get_xticklabels()] == list(grid.columns)


def test_cells_of_confusion_are_shares_of_the_true_class_over_all_seeds(tmp_path, make_run) -> None:
    counts = {seed: np.random.default_rng(seed).integers(0, 50, (3, 3)) for seed in (0, 1)}
    for seed, table in counts.items():
        made = {f"server_confusion_{i}_{j}": float(n) for (i, j), n in np.ndenumerate(table)}

        def extra(round, made=made):  # of the rounds before the last one: others
            return {name: count + 100 * (2 - round) for name, count in made.items()}

        make_run(tmp_path / f"{seed}", seed=seed, rounds=2, extra=extra)
    rounds = load(tmp_path).rounds
    assert side_of(rounds) == "server"
    whole = counts[0] + counts[1]
    np.testing.assert_array_equal(matrix(rounds, "server"), whole)
    ax = plots.confusion(rounds, names=("a", "b", "c"))
    expected = 100 * whole / whole.sum(1, keepdims=True)
    np.testing.assert_allclose(ax.collections[0].get_array().reshape(3, 3), expected)
    assert [text.get_text() for text in ax.get_yticklabels()] == ["a", "b", "c"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Predicted class", "True class")
    assert side_of(rounds.drop(columns=[c for c in rounds if "confusion" in c])) is None


def test_panels_share_scales_without_cutting_data(tmp_path, make_run) -> None:
    # the panel that is drawn last has the smallest values
    make_run(tmp_path / "a", clients=10, rounds=30)
    make_run(tmp_path / "b", clients=20, rounds=2)
    runs = load(tmp_path)
    parts = {s: runs.at(s).rounds for s in runs.settings}
    for plot, share, options in (
        (plots.curves, "y", {}),
        (plots.to_target_bars, "xy", {"target": 0.2, "rows": ["FedAvg"]}),
        (plots.traffic, "y", {"rows": ["FedAvg"]}),
        (plots.comparison, "xy", {"rows": ["FedAvg"]}),
    ):
        for ax in plots.panels(parts, plot, share=share, **options):
            box = ax.dataLim
            (x0, x1), (y0, y1) = ax.get_xlim(), ax.get_ylim()
            assert x0 <= box.x0 and box.x1 <= x1, plot
            assert y0 <= box.y0 and box.y1 <= y1, plot


@pytest.mark.parametrize("metric", ["server_accuracy", "server_loss"])
def test_bands_stay_within_the_axes(tmp_path, make_run, metric: str) -> None:
    for seed, last in ((0, 0.62), (1, 0.86)):  # two seeds far apart at the end: a wide interval

        def far(number: int, last: float = last) -> dict[str, float]:
            return {metric: last if number == 20 else 0.5 + number / 200}

        make_run(tmp_path / str(seed), seed=seed, extra=far)
    rounds = load(tmp_path).rounds
    ax = plots.curves(rounds, metric=metric)
    end = summarise.curve(rounds, metric).iloc[-1]
    (band,) = ax.collections
    box = band.get_datalim(ax.transData)
    unit, most = (100.0, 1.0) if metric == "server_accuracy" else (1.0, 9.0)
    assert box.y1 == pytest.approx(unit * min(end["high"], most))
    assert box.y0 == pytest.approx(unit * max(end["low"], 0.0))
    bottom, top = ax.get_ylim()
    assert bottom <= box.y0 and box.y1 <= top


def test_axes_in_per_cent_take_per_cents(single: Path) -> None:
    runs = load(single)
    for plot, frame, axis in (
        (plots.curves, runs.rounds, "y"),
        (plots.comparison, runs.rounds, "x"),
        (plots.client_violin, runs.last_clients, "x"),
        (plots.worst_clients, runs.last_clients, "x"),
        (plots.client_cdf, runs.last_clients, "y"),
    ):
        ax = plot(frame)
        ax.set(**{f"{axis}lim": (60, 80), f"{axis}ticks": (65, 70)})
        ax.figure.draw_without_rendering()
        labels = getattr(ax, f"get_{axis}ticklabels")()
        assert [text.get_text() for text in labels] == ["65", "70"], plot
        assert "(%)" in getattr(ax, f"get_{axis}label")()


def test_panels_refuse_nothing() -> None:
    with pytest.raises(ValueError, match=r"^panels: parts must hold at least one frame$"):
        plots.panels({}, plots.curves)


def test_timeline_shows_every_piece_of_work(tmp_path, make_run) -> None:
    folder = make_run(tmp_path / "run", rounds=2)
    work = pd.DataFrame(
        {"round": [1, 1, 2, 2], "worker": [0, 1, 0, 1], "start": [5.0, 5.0, 7.0, 7.0],
         "end": [6.0, 7.0, 9.0, 8.0]}
    )  # fmt: skip
    work.to_parquet(folder / "timeline.parquet")
    ax = plots.timeline(load(folder).timeline)
    spans = sorted(
        (box.y0 + 0.4, box.x0, box.x1)
        for c in ax.collections
        for box in [path.get_extents() for path in c.get_paths()]
    )
    np.testing.assert_allclose(spans, [(0, 0, 1), (0, 2, 4), (1, 0, 2), (1, 2, 3)], atol=1e-12)
    busy = (1 + 2 + 2 + 1) / (2 * 4)
    assert f"{100 * busy:.0f}% busy" in ax.texts[-1].get_text()


def test_worst_clients_are_the_tails(single: Path) -> None:
    frame = load(single).last_clients
    ax = plots.worst_clients(frame)
    data = fairness(frame).set_index("label")
    spans = [line.get_xdata() for line in ax.lines if len(line.get_xdata()) == 2]
    rows = rows_of(ax, data.index)
    for label, (low, high) in zip(rows, spans, strict=True):
        expected = 100 * data.loc[label, ["worst", "best"]].to_numpy(float)
        np.testing.assert_allclose([low, high], expected)


def test_round_time_against_workers(tmp_path, make_run) -> None:
    for workers in (1, 2, 4):

        def seconds(number: int, workers: int = workers) -> dict[str, float | None]:
            return {"seconds": 8.0 / workers if number else None}

        folder = make_run(tmp_path / str(workers), rounds=3, extra=seconds)
        config = json.loads((folder / "config.json").read_text()) | {"workers": workers}
        (folder / "config.json").write_text(json.dumps(config))
    ax = plots.round_time(load(tmp_path).rounds, x="workers")
    assert ax.lines[0].get_xdata().tolist() == [1, 2, 4]
    assert ax.lines[0].get_ydata().tolist() == [8, 4, 2]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Workers", "Time per round (s)")


def test_empty_frames_are_named(single: Path) -> None:
    rounds = load(single).rounds
    with pytest.raises(ValueError, match=r"^curves: the frame holds no values of 'server_acc"):
        plots.curves(rounds[rounds["round"] < 0])
    with pytest.raises(ValueError, match=r"^kind: must be one of .*, got 'pie'$"):
        plots.labels(load(single).labels, kind="pie")


def test_one_client_and_equal_clients_can_be_drawn(tmp_path, make_run) -> None:
    folder = make_run(tmp_path / "run", clients=1, rounds=1)
    frame = load(folder).last_clients
    assert len(frame) == 1
    for plot in (plots.client_cdf, plots.client_violin, plots.worst_clients):
        assert plot(frame).get_xlabel() == "Client accuracy (%)"
