"""The page of all strategies: what it says is what the runs have."""

import tomllib
from pathlib import Path

import numpy as np

from analysis import load
from examples.strategies_all import at_edge, page, results
from strategies import catalog

STUDY = Path(__file__).parents[2] / "examples" / "strategies_all.toml"


def test_the_study_has_every_entry_once() -> None:
    asked = tomllib.loads(STUDY.read_text())["strategies"]
    names = [one if isinstance(one, str) else one["name"] for one in asked]
    assert sorted(names) == sorted(catalog.names())


def accuracy(value: float):
    """Return what each line of a run's records says."""
    return lambda number: {"client_accuracy": value, "server_accuracy": None, "server_loss": None}


MADE = {"fedavg": 0.6, "moon": 0.7, "ditto": 0.9, "scaffold": 0.55, "median": 0.08}


def test_the_page_says_what_the_runs_have(tmp_path: Path, write) -> None:
    for name, value in MADE.items():
        for seed in range(3):
            extra = accuracy(value + 0.01 * seed)
            write(tmp_path / f"{name}{seed}", name, seed=seed, rounds=4, extra=extra)
    runs = load(tmp_path).counted.by(None)
    assert runs.metric == "client_accuracy"
    table = results(runs).set_index("label")
    assert list(table.index) == sorted(MADE, key=MADE.__getitem__, reverse=True)
    values = {name: np.array([value, value + 0.01, value + 0.02]) for name, value in MADE.items()}
    for name, found in values.items():
        row, ahead = table.loc[name], 100 * (found.mean() - values["fedavg"].mean())
        np.testing.assert_allclose((row["mean"], row["std"]), (found.mean(), found.std(ddof=1)))
        np.testing.assert_allclose(row["ahead"], ahead, atol=1e-9)
    text = page(runs)
    assert "| ditto | 91.0% ± 1.0 | +30.0 | 3 |" in text
    assert "No better than a guess: median." in text
    assert "Of 2 that should be ahead of FedAvg, 1 are; behind, in points: scaffold (-5.0)." in text


def test_the_page_says_which_rates_were_the_last_ones_tried(tmp_path: Path) -> None:
    tuned = tmp_path / "x.tuned.toml"
    lines = ['edges = ["learning_rate"]', "edges = []", 'edges = ["mu"]', ""]
    tuned.write_text("".join(f"[[chosen]]\n{line}\n" for line in lines))
    assert at_edge(tuned).startswith("Of 4 rates, 1 are the smallest or largest")


def test_the_page_in_the_docs_has_every_entry() -> None:
    text = (STUDY.parents[1] / "docs" / "strategies-compared.md").read_text()
    assert text.count(" | 3 |\n") == len(catalog.names())
