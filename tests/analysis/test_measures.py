"""What strategies are compared by, who counts for fairness, and what diverged runs become."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis import load, summarise
from analysis.cautions import cautions, footnote
from analysis.costs import noise_floor
from analysis.load import processed
from analysis.runs import PERSONAL
from analysis.tables import all_tables, fairness_table, ranks_table, targets_table
from analysis.verdicts import final_table, findings


def personal(number: int) -> dict[str, float | None]:
    """What a run records that keeps layers on the clients."""
    return {"server_accuracy": None, "server_loss": None}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory, write) -> Path:
    """FedPer and FedAvg, three seeds each."""
    root = tmp_path_factory.mktemp("mixed")
    for seed in range(3):
        write(root / f"a{seed}", "FedAvg", seed=seed, rounds=4)
        write(root / f"p{seed}", "fedper", seed=seed, rounds=4, extra=personal)
    return root


def test_personal_models_are_compared_where_they_live(mixed: Path) -> None:
    runs = load(mixed).counted.by(None)
    assert runs.metric == "client_accuracy"
    tables = {table.name: table for table in all_tables(runs)}
    assert {"final_client_accuracy", "significance_client_accuracy"} <= set(tables)
    assert "final_server_accuracy" not in tables
    lines = runs.rounds[runs.rounds["round"] == 4].groupby("label", observed=True)
    means = lines["client_accuracy"].mean()
    found = {row[0].text: row[1].value for row in tables["final_client_accuracy"].rows}
    assert found == pytest.approx({str(k): v for k, v in means.items()}, rel=1e-12)
    assert "client accuracy" in tables["rounds_to_target"].caption
    assert all("client accuracy" in text for text in findings(runs))
    with pytest.raises(ValueError, match=r"^metric: must be one of \['client_accuracy', .*'none'$"):
        load(mixed).by("none")
    assert load(mixed).by("server_loss").metric == "server_loss"


def test_all_strategies_with_models_of_clients_are_known() -> None:
    from strategies import catalog

    assert {name for name in catalog.names() if catalog.build(name).client.personal} == set(
        PERSONAL
    )


def test_without_personal_layers_it_is_the_test_accuracy(single: Path) -> None:
    assert load(single).by(None).metric == "server_accuracy"


def test_the_noise_floor_is_that_of_a_fair_model() -> None:
    rng = np.random.default_rng(0)
    rows = np.full(4000, 54)
    accuracy = rng.binomial(rows, 0.8) / rows  # 0.8 for everybody
    frame = pd.DataFrame({"accuracy": accuracy, "validation": rows})
    p = accuracy.mean()
    assert noise_floor(frame) == pytest.approx(np.sqrt(p * (1 - p) / 54), rel=1e-12)
    assert noise_floor(frame) == pytest.approx(accuracy.std(), rel=0.05)
    assert accuracy.std() > 0.05  # which is no unfairness at all
    assert np.isnan(noise_floor(frame.drop(columns="validation")))


def test_fairness_is_about_all_honest_clients(tmp_path, make_run) -> None:
    for label, spread in (("FedAvg", 0.3), ("Fair", 0.1)):
        folder = make_run(tmp_path / label, label, rounds=2, clients=12)
        values = 0.5 + spread * np.linspace(-1, 1, 12)
        values[3] = 0.0  # an attacker's
        table = {"round": 2, "client": np.arange(12), "validation": 50, "accuracy": values,
                 "loss": 1 - values, "attacker": np.arange(12) == 3}  # fmt: skip
        pd.DataFrame(table).to_parquet(folder / "all_clients.parquet")
    for metric in ("accuracy", "loss"):
        rows = {row[0].text: row for row in fairness_table(load(tmp_path), metric).rows}
        honest = np.delete(0.5 + 0.1 * np.linspace(-1, 1, 12), 3)
        assert rows["Fair"][2].value == pytest.approx(honest.std(), rel=1e-12)
        assert rows["Fair"][-2].text == "11"
        assert rows["Fair"][2].bold and not rows["FedAvg"][2].bold  # the smallest spread


@pytest.mark.parametrize(
    ("experiment", "factor"),
    [
        ({"training": {"local_epochs": 3}}, 3),
        ({"training": {"local_epochs": 3}, "strategy": {"name": "fedsgd"}}, 1),
        ({"training": {"local_epochs": 3}, "realism": {"stragglers": 0.9}}, np.nan),
    ],
)
def test_examples_of_older_runs_count_epochs_or_are_unknown(experiment, factor) -> None:
    lines = pd.DataFrame({"examples": [np.nan, 100.0, 50.0]})
    np.testing.assert_array_equal(processed(lines, experiment), [0 * factor, 100 * factor,
                                                                 50 * factor])  # fmt: skip
    told = lines.assign(examples_seen=[np.nan, 210.0, 70.0])
    np.testing.assert_array_equal(processed(told, experiment), [0, 210, 70])


@pytest.fixture(scope="module")
def troubled(tmp_path_factory, write) -> Path:
    """FedAdam diverged in three seeds of five; FedProx has two seeds; one run was stopped."""
    root = tmp_path_factory.mktemp("troubled")
    for seed in range(5):
        write(root / f"a{seed}", "FedAvg", seed=seed, rounds=6)
        state = "diverged" if seed < 3 else "complete"
        write(root / f"d{seed}", "FedAdam", seed=seed, rounds=6, status=state)
    for seed in range(2):
        write(root / f"p{seed}", "FedProx(mu=0.1)", seed=seed, rounds=6)
    write(root / "stopped", "FedProx(mu=0.1)", seed=2, rounds=6, status="interrupted")
    return root


def test_diverged_runs_are_never_averaged_away(troubled: Path) -> None:
    runs = load(troubled).counted.by(None)
    row = {r[0].text: r for r in final_table(runs).rows}["FedAdam"]
    assert (row[1].text, row[1].bold) == ("3/5 diverged", False)
    targets = {r[0].text: r for r in targets_table(runs, 0.01).rows}
    assert targets["FedAdam"][1].text == "not reached" and targets["FedAdam"][-1].text == "2/5"
    assert not any(r[1].bold for r in targets.values())  # their seeds differ
    assert ranks_table(runs).rows[-1][0].text == "FedAdam"
    data = summarise.final(runs.rounds).set_index("label")
    assert np.isnan(data.at["FedAdam", "mean"])
    assert data.loc["FedAdam", ["n", "diverged", "seeds"]].tolist() == [2, 3, 5]
    curve = summarise.curve(runs.rounds).groupby("label")["n"].last()
    assert curve["FedAdam"] == 5  # it ends where the first one did


def test_what_is_wrong_with_a_study_is_said(troubled: Path) -> None:
    runs = load(troubled).counted
    assert cautions(runs) == [
        "Diverged: FedAdam in 3 of 5 seeds. Their model or loss was no longer finite. They count "
        "as not reached, and a strategy of which a seed diverged has no final mean.",
        "Not complete, and left out of every figure and table: 1 of 13 runs: stopped (interrupted "
        "after round 6 of 6).",
        "Unequal seeds: FedAvg: 5 seeds (0, 1, 2, 3, 4); FedProx(mu=0.1): 2 seeds (0, 1); FedAdam: "
        "5 seeds (0, 1, 2, 3, 4). Strategies are compared on the seeds that all of them have; a "
        "mean is over a strategy's own.",
    ]
    assert footnote(runs).startswith("Diverged (\N{MULTIPLICATION SIGN}): FedAdam 3/5 seeds. 1 un")
    (said,) = findings(runs)
    assert "FedAdam diverged in 3 of 5 seeds and is not compared" in said
    assert "2 common seeds allow no test" in said and "ahead" not in said


def test_a_run_that_ends_without_a_loss_diverged(tmp_path, make_run) -> None:
    folder = make_run(tmp_path / "run", rounds=3)
    lines = (folder / "rounds.jsonl").read_text().splitlines()
    last = json.loads(lines[-1]) | {"server_loss": None}
    (folder / "rounds.jsonl").write_text("\n".join([*lines[:-1], json.dumps(last)]))
    assert load(folder).table["status"].tolist() == ["diverged"]
