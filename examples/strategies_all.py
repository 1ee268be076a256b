"""A page of all strategies from the runs of `strategies_all.toml`, in Markdown.

python -m examples.strategies_all runs/strategies_all > docs/strategies-compared.md
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from typing import Any

import pandas as pd

from analysis import load
from analysis.appearance import base_name
from analysis.runs import Runs
from analysis.summarise import final

RANDOM = 0.1
"""The accuracy of guessing one of ten classes."""

BETTER = (
    "scaffold", "feddyn", "fedprox", "moon", "fedsam", "fedexp", "feddc", "fedcm", "fedavgm",
    "fedadam", "fedntd",
)  # fmt: skip
"""Strategies that their papers have ahead of FedAvg where labels are skewed, by base name."""


def network(shape: tuple[int, ...], classes: int) -> Any:
    """Return a network of two layers, with a normalisation that has no moving statistics."""
    import keras

    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input(shape),
            layers.Flatten(),
            layers.Dense(64),
            layers.LayerNormalization(),
            layers.ReLU(),
            layers.Dense(classes),
        ]
    )


def results(runs: Runs) -> pd.DataFrame:
    """Return a row per strategy, the best one first: mean and standard deviation over the seeds.

    Columns: ``label``, ``mean``, ``std``, ``n``, ``diverged`` and ``ahead``, the points of accuracy
    above FedAvg.
    """
    found = final(runs.rounds, runs.metric).sort_values("mean", ascending=False)
    plain = found.loc[[base_name(runs.title(x)) == "fedavg" for x in found["label"]], "mean"]
    return found.assign(ahead=100 * (found["mean"] - float(plain.iloc[0])))


def page(runs: Runs) -> str:
    """Return the page."""
    table = results(runs)
    measure = runs.metric.replace("_", " ").capitalize()
    lines = [
        "# All strategies",
        "",
        "Every entry of the catalogue on the small Fashion-MNIST: 20 clients, labels dealt by "
        "Dirichlet(0.1), 30 rounds of two local epochs, each strategy at its tuned rate "
        "([the study](../examples/strategies_all.toml)). Made by:",
        "",
        "    sunflower tune examples/strategies_all.toml",
        "    sunflower compare examples/strategies_all.toml",
        "    python -m examples.strategies_all runs/strategies_all",
        "",
        f"{measure} of the last round, mean and standard deviation over seeds.",
        "",
        "| strategy | accuracy | points above FedAvg | seeds |",
        "|---|--:|--:|--:|",
    ]
    for row in table.to_dict("records"):
        if row["diverged"]:
            lines.append(f"| {row['label']} | {row['diverged']} diverged | | {row['seeds']} |")
            continue
        accuracy = f"{100 * row['mean']:.1f}% ± {100 * row['std']:.1f}"
        lines.append(f"| {row['label']} | {accuracy} | {row['ahead']:+.1f} | {row['n']} |")
    return "\n".join([*lines, "", *verdicts(runs, table)]) + "\n"


def verdicts(runs: Runs, table: pd.DataFrame) -> list[str]:
    """Return what the page says of the table: who is no better than a guess, who is not ahead."""
    guess = table.loc[~(table["mean"] > RANDOM), "label"].tolist()
    known = [base_name(runs.title(label)) in BETTER for label in table["label"]]
    expected = table[known]
    behind = [
        f"{row['label']} ({row['ahead']:+.1f})"
        for row in expected.to_dict("records")
        if not row["ahead"] > 0
    ]
    return [
        f"No better than a guess: {', '.join(guess) or 'nobody'}.",
        f"Of {len(expected)} that should be ahead of FedAvg, {len(expected) - len(behind)} are; "
        f"behind, in points: {', '.join(behind) or 'nobody'}.",
    ]


def at_edge(tuned: Path) -> str:
    """Return how many of the rates in a file of ``sunflower tune`` were the last ones tried."""
    chosen = tomllib.loads(tuned.read_text())["chosen"]
    last = sum("learning_rate" in one.get("edges", ()) for one in chosen)
    if not last:
        whole = f"None of {len(chosen)} rates is the smallest or largest of those tried"
        return f"{whole}, on one seed.\n"
    return (
        f"Of {len(chosen)} rates, {last} are the smallest or largest of those tried (on one seed): "
        "a wider search may find better ones.\n"
    )


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m examples.strategies_all RUNS")
    print(page(load(Path(sys.argv[1])).counted.by(None)), end="")
    print("\n" + at_edge(Path(__file__).with_suffix(".tuned.toml")), end="")
