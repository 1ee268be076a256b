"""The methods paragraph says what is private, by how much, and of which neighbours."""

import json

from analysis import load
from analysis.methods import methods
from tests.analysis.conftest import write_run

PRIVATE = {
    "epsilon": 7.99964,
    "delta": 0.000501187,
    "rounds": 30,
    "noise_multiplier": 0.676,
    "sampling": "poisson",
    "sampling_rate": 0.1,
    "neighbours": "add or remove one client",
    "noise_to_clip": 0.6,
}


def test_methods_name_the_guarantee_and_its_neighbours(tmp_path):
    said = {
        "FedAvg": None,
        "A": PRIVATE,
        "B": PRIVATE | {"sampling": "uniform", "neighbours": "replace one client"},
        "C": PRIVATE | {"epsilon": None},
    }
    for seed in (0, 1):
        for label, privacy in said.items():
            folder = write_run(tmp_path / f"{label}-{seed}", label, seed=seed, rounds=3)
            if privacy:
                config = json.loads((folder / "config.json").read_text()) | {"privacy": privacy}
                (folder / "config.json").write_text(json.dumps(config))
    text, _ = methods(load(tmp_path))
    poisson = "each client takes part in a round by itself with probability 0.1."
    for sentence in (
        "A is differentially private for clients with epsilon 8 at delta 0.000501 after 30 "
        f"rounds, where neighbours add or remove one client: {poisson}",
        "B is differentially private for clients with epsilon 8 at delta 0.000501 after 30 "
        "rounds, where neighbours replace one client: cohorts of a fixed size, 0.1 of the "
        "clients, are drawn without replacement.",
        "C is differentially private for clients with no finite epsilon at delta 0.000501 after "
        f"30 rounds, where neighbours add or remove one client: {poisson}",
    ):
        assert text.count(sentence) == 1
    assert text.count("differentially private") == 3


def test_uniform_cohorts_are_one_setting_whether_said_or_not(tmp_path):
    for label, kind in (("FedAvg", "uniform"), ("FedAdam", None), ("A", None)):
        folder = write_run(tmp_path / label, label, rounds=2)
        config = json.loads((folder / "config.json").read_text())
        config["experiment"]["sampling"] = {"kind": kind}
        if label == "A":
            config["privacy"] = PRIVATE
        (folder / "config.json").write_text(json.dumps(config))
    assert list(load(tmp_path).settings) == [""]
