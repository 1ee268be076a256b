"""A real study in which things went wrong: what its records hold and what the report says of it.

One client in ten sends noise of 1e30. In seeds that draw it early FedAvg's model overflows; the
median of three clients does not notice.
"""

from __future__ import annotations

import html
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis import load, plot, report
from analysis.figures import FIGURES
from analysis.verdicts import final_table
from simulation.config.experiment import Experiment, parse
from simulation.population.attackers import chosen
from simulation.records.reading import read_json
from simulation.rounds.driver import RoundError
from simulation.runs.run import simulate
from simulation.worker.faults import ClientError
from tests.simulation.same_bits import StopAfter

BASE: dict[str, Any] = {
    "name": None,
    "dataset": "fashion-mnist-mini",
    "model": "mlp",
    "clients": 10,
    "cohort": 3,
    "rounds": 3,
    "partition": {"alpha": 1.0, "validation": 0.2},
    "training": {"local_epochs": 2, "batch_size": 16},
    "attack": {"kind": "noise", "fraction": 0.1, "strength": 1e30},
    "resources": {"engine": "inline"},
}
SEEDS = range(5)


def experiment(strategy: str, seed: int) -> Experiment:
    return parse(BASE | {"strategy": strategy, "seed": seed})


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """FedAvg with five seeds, the median with three and a run that was stopped."""
    out = tmp_path_factory.mktemp("honest")
    for seed in SEEDS:
        try:
            simulate(experiment("fedavg", seed), out=out / f"fedavg-{seed}")
        except (RoundError, ClientError):
            continue
    for seed in range(3):
        simulate(experiment("median", seed), out=out / f"median-{seed}")
    with pytest.raises(KeyboardInterrupt):
        simulate(experiment("median", 3), out=out / "median-3", listener=StopAfter(1))
    return out


def poisoned(study: Path, seed: int) -> bool:
    """Tell whether the attacker took part: any round of it ruins FedAvg's model or its loss."""
    frame = pd.read_parquet(study / f"fedavg-{seed}/clients.parquet")
    return bool(frame["client"].isin(chosen(experiment("fedavg", seed), 10)).any())


def test_divergence_is_a_status_of_its_own(study: Path) -> None:
    states = {s: (read_json(study / f"fedavg-{s}/summary.json") or {})["status"] for s in SEEDS}
    assert "diverged" in states.values() and "failed" not in states.values()
    table = load(study).table
    lost = [s for s in SEEDS if table.at[f"fedavg-{s}", "status"] == "diverged"]
    # A run whose last round is ruined is complete by its summary; its loss is not a number.
    assert lost == [s for s in SEEDS if poisoned(study, s)] and 0 < len(lost) < len(SEEDS)


def test_an_older_run_tells_by_its_log(study: Path, tmp_path: Path) -> None:
    from shutil import copytree

    name = next(s for s in SEEDS if (read_json(study / f"fedavg-{s}/summary.json") or {})["status"]
                == "diverged")  # fmt: skip
    copy = copytree(study / f"fedavg-{name}", tmp_path / "old")
    text = (copy / "summary.json").read_text()
    (copy / "summary.json").write_text(text.replace('"diverged"', '"failed"'))
    assert load(copy).table["status"].tolist() == ["diverged"]


def test_the_report_says_it_in_words(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figure = FIGURES["accuracy"]
    # The package's function of this name hides the module.
    monkeypatch.setitem(vars(sys.modules["analysis.report"]), "FIGURES", {"accuracy": figure})
    page, *_ = report(study, tmp_path, formats=())
    text = html.unescape(re.sub(r"<style.*?</style>|<script.*?</script>|<[^>]*>", " ",
                                page.read_text(), flags=re.S))  # fmt: skip
    text = re.sub(r"\s+", " ", text)
    lost = sum(poisoned(study, s) for s in SEEDS)
    for words in (
        f"Diverged: FedAvg in {lost} of 5 seeds. Their model or loss was no longer finite.",
        "They count as not reached",
        "Not complete, and left out of every figure and table: 1 of 9 runs: "
        "median-3 (interrupted after round 1 of 3).",
        "Unequal seeds: FedAvg: 5 seeds (0, 1, 2, 3, 4); Median: 3 seeds (0, 1, 2).",
        f"FedAvg diverged in {lost} of 5 seeds and is not compared",
        f"{lost}/5 diverged",
        "Not every setting is run with the same seeds",
        f"Of 8 runs, {lost} diverged",
    ):
        assert words in text, words
    assert text.index("Diverged:") < text.index("Median reaches a test accuracy")
    assert "ahead of all others" not in text.split("Tables Figures Methods")[0]
    (svg,) = plot("accuracy", study, tmp_path / "alone", formats=["svg"])
    said = " ".join(re.findall(r"<!-- (.*?) -->", svg.read_text(), flags=re.S))
    assert f"Diverged (\N{MULTIPLICATION SIGN}): FedAvg {lost}/5 seeds." in said
    assert "1 unfinished run left out." in said and "Seeds: FedAvg 5, Median 3." in said


def test_final_table_and_targets_count_divergence(study: Path) -> None:
    from analysis.tables import targets_table

    runs = load(study).counted
    lost = sum(poisoned(study, s) for s in SEEDS)
    row = next(r for r in final_table(runs).rows if r[0].text == "FedAvg")
    assert (row[1].text, row[1].bold) == (f"{lost}/5 diverged", False)
    reached = {r[0].text: r[-1].text for r in targets_table(runs, 0.01).rows}
    assert reached == {"FedAvg": f"{5 - lost}/5", "Median": "3/3"}


def test_all_clients_are_measured_and_attackers_known(study: Path) -> None:
    folder = study / "median-0"
    frame = pd.read_parquet(folder / "all_clients.parquet")
    assert frame["client"].tolist() == list(range(10)) and set(frame["round"]) == {3}
    bad = chosen(experiment("median", 0), 10)
    assert set(frame.loc[frame["attacker"], "client"]) == set(bad) and len(bad) == 1
    honest = load(folder).last_clients
    assert set(honest["client"]) == set(range(10)) - bad
    noise = 0.2 * 0.8 / honest["validation"]
    assert (honest["validation"] > 0).all() and np.isfinite(noise).all()


def test_examples_seen_count_every_epoch(study: Path) -> None:
    lines = load(study / "median-0").rounds.set_index("round")
    assert (lines["examples_seen"][1:] == 2 * lines["examples"][1:]).all()
    assert lines["examples_total"][3] == 2 * lines["examples"][1:].sum()
