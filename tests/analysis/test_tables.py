import json
from math import isfinite
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis import load
from analysis.cells import Cell, Table
from analysis.significance import holm
from analysis.tables import (
    TABLES,
    all_tables,
    cost_table,
    fairness_table,
    ranks_table,
    runs_table,
    targets_table,
)
from analysis.text import ALPHA, TIMES
from analysis.verdicts import final_table, findings, significance_table

FILES = {"FedAvg": "FedAvg", "FedAdam": "FedAdam", "FedProx(mu=0.1)": "FedProx(mu=0.1)",
         "local-only": "local"}  # fmt: skip
ALPHAS = {f"{ALPHA} = 0.1": 0.1, f"{ALPHA} = 1": 1.0}


def lines(study: Path, label: str, alpha: float) -> list[pd.DataFrame]:
    """Read the runs of a label with plain pandas."""
    return [
        pd.read_json(study / f"{FILES[label]}-a{alpha}-s{seed}/rounds.jsonl", lines=True)
        for seed in range(3)
    ]


def finals(study: Path, label: str, alpha: float) -> np.ndarray:
    return np.array([f["server_accuracy"].iloc[-1] for f in lines(study, label, alpha)])


def cells(table: Table, texts: int = 1) -> dict[tuple[str, ...], list[Cell]]:
    return {tuple(c.text for c in row[:texts]): list(row[texts:]) for row in table.rows}


def test_final_accuracy(study: Path) -> None:
    found = cells(final_table(load(study)))
    for label in FILES:
        for column, alpha in enumerate((0.1, 1.0)):
            x = finals(study, label, alpha)
            text = f"{100 * x.mean():.1f} ± {100 * x.std(ddof=1):.1f}"
            cell = found[(label,)][column]
            assert cell.text.removesuffix(" †") == text
            assert cell.value == pytest.approx(x.mean(), rel=1e-12)
            assert cell.bold == (label == "FedAdam")
        assert found[(label,)][2].text == "3"


def test_paired_tests(study: Path) -> None:
    found = cells(significance_table(load(study)), 2)
    for setting, alpha in ALPHAS.items():
        best = finals(study, "FedAdam", alpha)
        rivals = ["FedAvg", "FedProx(mu=0.1)"]
        raw = [stats.ttest_rel(finals(study, x, alpha), best).pvalue for x in rivals]
        third = stats.ttest_rel(*(finals(study, x, alpha) for x in rivals)).pvalue
        for label, p, adjusted in zip(rivals, raw, holm([*raw, third]), strict=False):
            row = found[(setting, label)]
            assert row[0].text == "FedAdam"
            assert row[1].text == "3"
            gaps = finals(study, label, alpha) - best
            assert row[2].text == f"{100 * gaps.mean():+.2f}"
            half = 100 * stats.t.ppf(0.975, 2) * gaps.std(ddof=1) / np.sqrt(3)
            middle = 100 * gaps.mean()
            assert row[3].text == f"[{middle - half:+.2f}, {middle + half:+.2f}]"
            assert row[4].value == pytest.approx(p, rel=1e-9)
            assert row[5].value == pytest.approx(adjusted, rel=1e-9)


def test_rounds_to_target(study: Path) -> None:
    found = cells(targets_table(load(study), 0.8), 2)
    for setting, alpha in ALPHAS.items():
        medians = {}
        for label in FILES:
            runs = lines(study, label, alpha)
            first = [f.loc[f["server_accuracy"] >= 0.8, "round"].min() for f in runs]
            spent = np.array([np.inf if np.isnan(r) else r for r in first])
            medians[label] = np.median(spent)
            row = found[(setting, label)]
            reached = int(np.isfinite(spent).sum())
            assert row[3].text == f"{reached}/3"
            if isfinite(medians[label]):
                assert row[0].text == f"{medians[label]:g}"
            else:
                assert row[0].text == "not reached"
        speed = medians["FedAvg"] / medians["FedAdam"]
        if isfinite(speed):
            assert found[(setting, "FedAdam")][2].text == f"{speed:.2f}{TIMES}"
        assert found[(setting, "local-only")][0].text == "not reached"


def test_fairness(study: Path) -> None:
    found = cells(fairness_table(load(study)), 2)
    for setting, alpha in ALPHAS.items():
        means = []
        for seed in range(3):
            frame = pd.read_parquet(study / f"FedAvg-a{alpha}-s{seed}/clients.parquet")
            means.append(frame.loc[frame["round"] == 20, "accuracy"].mean())
        assert found[(setting, "FedAvg")][0].text == f"{100 * np.mean(means):.1f}"


def test_cost(study: Path) -> None:
    found = cells(cost_table(load(study)), 2)
    for setting, alpha in ALPHAS.items():
        frames = lines(study, "FedAvg", alpha)
        row = found[(setting, "FedAvg")]
        assert row[1].value == pytest.approx(np.mean([f["seconds"].sum() for f in frames]))
        sent = np.mean([f["bytes_up"].sum() for f in frames])
        assert row[3].text == f"{sent / 1e6:.3g} MB"
        assert row[5].text == f"{np.mean([f['examples'].sum() for f in frames]):,.0f}"


def test_final_loss(study: Path) -> None:
    found = cells(final_table(load(study), "server_loss"))
    for column, alpha in enumerate((0.1, 1.0)):
        means = {}
        for label in FILES:
            x = np.array([f["server_loss"].iloc[-1] for f in lines(study, label, alpha)])
            means[label] = x.mean()
            cell = found[(label,)][column]
            assert cell.value == pytest.approx(x.mean(), rel=1e-12)
            text = cell.text.removesuffix(" †").split(" ± ")
            assert [float(t) for t in text] == pytest.approx([x.mean(), x.std(ddof=1)], rel=0.05)
        best = min((x for x in means if x != "local-only"), key=means.__getitem__)
        assert found[(best,)][column].bold and not found[("local-only",)][column].bold


def test_every_number_of_fairness(study: Path) -> None:
    found = cells(fairness_table(load(study)), 2)
    for setting, alpha in ALPHAS.items():
        for label, name in FILES.items():
            seeds = []
            for seed in range(3):
                frame = pd.read_parquet(study / f"{name}-a{alpha}-s{seed}/clients.parquet")
                x = frame.loc[frame["round"] == 20, "accuracy"].sort_values()
                tail = max(1, -(-len(x) // 10))
                jain = x.sum() ** 2 / (len(x) * (x**2).sum())
                seeds.append([x.mean(), x.std(ddof=0), x[:tail].mean(), x[-tail:].mean(), jain])
            row = found[(setting, label)]
            expected = np.mean(seeds, axis=0)
            values = [c.value for c in (*row[:2], *row[3:6])]
            assert values == pytest.approx(expected.tolist(), rel=1e-12)


def test_every_number_of_cost(study: Path) -> None:
    found = cells(cost_table(load(study)), 2)
    for setting, alpha in ALPHAS.items():
        for label in FILES:
            frames = lines(study, label, alpha)
            expected = [
                np.mean([f["round"].max() for f in frames]),
                np.mean([f["seconds"].sum() for f in frames]),
                np.mean([f.loc[f["round"] > 0, "seconds"].mean() for f in frames]),
                np.mean([f["bytes_up"].sum() for f in frames]),
                np.mean([f["bytes_down"].sum() for f in frames]),
            ]
            row = found[(setting, label)]
            assert [c.value for c in row[:5]] == pytest.approx(expected, rel=1e-12)


def test_ranks(study: Path) -> None:
    found = cells(ranks_table(load(study)))
    rivals = ["FedAvg", "FedProx(mu=0.1)", "FedAdam"]
    means = pd.DataFrame(
        {a: {x: finals(study, x, a).mean() for x in rivals} for a in ALPHAS.values()}
    )
    ranks = means.rank(ascending=False).mean(axis=1)
    for label in rivals:
        assert found[(label,)][0].text == f"{ranks[label]:.2f}"


def test_every_run_is_listed_with_its_hashes(study: Path) -> None:
    table = runs_table(load(study))
    assert len(table.rows) == 27
    for row in table.rows:
        config = json.loads((study / row[0].text / "config.json").read_text())
        summary = json.loads((study / row[0].text / "summary.json").read_text())
        assert row[5].text == summary["weights_sha256"][:12]
        assert row[6].text == config["hash"][:12]


def test_csv_holds_the_numbers_and_names_the_runs(study: Path, tmp_path: Path) -> None:
    path = tmp_path / "final.csv"
    path.write_text(final_table(load(study)).csv())
    frame = pd.read_csv(path).set_index(["setting", "label"])
    row = frame.loc[(f"{ALPHA} = 1", "FedAdam")]
    names = row["runs"].split("; ")
    assert names == [f"FedAdam-a1.0-s{s}" for s in range(3)]
    x = np.array(
        [
            pd.read_json(study / n / "rounds.jsonl", lines=True)["server_accuracy"].iloc[-1]
            for n in names
        ]
    )
    assert row["mean"] == pytest.approx(x.mean(), rel=1e-12)
    assert row["std"] == pytest.approx(x.std(ddof=1), rel=1e-12)


def test_ties_are_bold_and_marked(tmp_path, make_run) -> None:
    for seed in range(4):
        for label in ("FedAvg", "Twin"):
            folder = make_run(tmp_path / f"{label}{seed}", label, seed=seed, rounds=1)
            noise = 0.004 * (seed % 2) * (1 if label == "Twin" else -1)
            line = {"round": 1, "server_accuracy": 0.8 + noise}
            (folder / "rounds.jsonl").write_text(json.dumps(line))
    table = final_table(load(tmp_path))
    found = cells(table)
    assert found[("Twin",)][0].bold and found[("FedAvg",)][0].bold
    assert found[("FedAvg",)][0].text == "79.8 ± 0.2 †"
    assert "paired t-test over these seeds, p ≥ 0.05 after Holm's correction" in table.caption
    alone = final_table(load(tmp_path), bold="best")
    found = cells(alone)
    assert found[("Twin",)][0].bold and not found[("FedAvg",)][0].bold
    assert found[("FedAvg",)][0].text == "79.8 ± 0.2 †"
    assert "strategies have. †: not told from it (paired t-test over these" in alone.caption
    assert findings(load(tmp_path)) == [
        "Twin has the best test accuracy, 80.2 ± 0.2%, not distinguishable from FedAvg "
        "(paired t-test, Holm over all pairs)."
    ]


def test_one_seed_claims_no_test(tmp_path, make_run) -> None:
    make_run(tmp_path / "a", "FedAvg")
    make_run(tmp_path / "b", "FedAdam")
    table = final_table(load(tmp_path))
    assert "paired" not in table.caption
    assert [c.bold for row in table.rows for c in row].count(True) == 1


def test_an_unknown_baseline_is_named(single: Path) -> None:
    with pytest.raises(ValueError, match=r"^baseline: must be one of .*, got 'FedNone'$"):
        targets_table(load(single), 0.5, baseline="FedNone")


def test_names_of_all_tables(study: Path) -> None:
    assert [t.name for t in all_tables(load(study))] == list(TABLES)


NASTY = r"a_b & 50% {x} $y$ #1 ~ ^ \ <i> |p|"


def test_markdown_and_html_are_escaped() -> None:
    table = Table("t", NASTY, ("N<b>", "x"), ((Cell("<script>|*_"), Cell("1", value=1.5)),))
    row = table.markdown().splitlines()[2]
    assert row == r"| \<script\>\|\*\_ | 1 |"
    assert "<button" in table.html() and "<button" not in table._repr_html_()  # in a notebook
    html = table.html()
    assert "<script>" not in html and "<b>" not in html
    assert '<td class="n" data-sort="1.5">1</td>' in html
    endless = Table("t", "", ("a",), ((Cell("not reached", value=float("inf")),),))
    assert 'data-sort="Infinity"' in endless.html()


def test_rows_must_fit_the_header() -> None:
    with pytest.raises(ValueError, match=r"^rows: must have 2 cells as the header, got 1$"):
        Table("t", "", ("a", "b"), ((Cell("x"),),))


def test_metrics_of_the_models_own_have_tables(make_study, tmp_path: Path) -> None:
    make_study(tmp_path)
    for file in tmp_path.rglob("rounds.jsonl"):
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        for line in lines:
            found = line["server_accuracy"]
            own = {"server_auc": found / 2, "server_mae": 1 - found, "server_right": found}
            line |= own  # the last is the model's own name for its accuracy
            line |= {"server_confusion_0_1": 3, "server_per_class_0": 0.5}
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    runs = load(tmp_path)
    made = {table.name: table for table in all_tables(runs)}
    assert {"final_server_auc", "final_server_mae"} <= set(made)
    assert "final_server_right" not in made
    assert not [name for name in made if "confusion" in name or "per_class" in name]
    best = {
        name: {row[0].text for row in made[name].rows if row[1].bold}
        for name in ("final_server_accuracy", "final_server_auc", "final_server_mae")
    }
    assert best["final_server_mae"] == best["final_server_auc"] == best["final_server_accuracy"]
