"""The configuration: to TOML and back, its identity, what the command line puts over a file."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simulation.cli.options import OPTIONS
from simulation.config.errors import ConfigError
from simulation.config.experiment import Experiment, assign, parse, read
from simulation.config.overlay import overlay, toml_value
from simulation.config.partitioning import SKEWED

EXAMPLES: list[dict[str, Any]] = [
    {},
    {"clients": 7, "cohort": 3, "rounds": 2, "seed": 2**63 - 1, "name": "mine"},
    {"cohort": 0.25, "partition": {"alpha": 0.3}},
    {"cohort": 1.0, "partition": {"kind": "on-demand", "alpha": 2, "examples_per_client": 10}},
    {"strategy": {"name": "fedprox", "mu": 0.1}, "mode": "centralised"},
    {"strategy": "fedadam", "partition": "shards", "model": "mine:build"},
    {"training": {"optimizer": "adam", "learning_rate": 1e-3, "loss": "mse", "momentum": 0.5}},
    {"data_dir": "somewhere", "resources": {"engine": "inline", "client_gpus": 0.5, "workers": 3}},
]


@pytest.mark.parametrize("data", EXAMPLES, ids=str)
def test_to_toml_and_back(data: dict[str, Any]) -> None:
    experiment = parse(data)
    again = parse(tomllib.loads(experiment.to_toml()))
    assert again == experiment
    assert again.digest() == experiment.digest()
    assert type(again.cohort) is type(experiment.cohort)


@pytest.mark.parametrize("data", EXAMPLES, ids=str)
def test_to_json_and_back(data: dict[str, Any]) -> None:
    experiment = parse(data)
    again = parse(json.loads(json.dumps(experiment.model_dump(mode="json"))))
    assert again == experiment
    assert again.digest() == experiment.digest()


def test_the_digest_is_that_of_what_decides() -> None:
    experiment = parse({"clients": 7, "name": "mine", "resources": {"workers": 3}})
    decisive = experiment.decisive()
    assert {"name", "data_dir", "resources"} & set(decisive) == set()
    assert decisive["clients"] == 7
    text = json.dumps(decisive, sort_keys=True, separators=(",", ":"))
    assert experiment.digest() == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(
    "changes",
    [
        {"resources.engine": "flower"},
        {"resources.workers": 5},
        {"resources.client_cpus": 2},
        {"resources.client_gpus": 0.5},
        {"resources.address": "auto"},
        {"name": "another"},
        {"data_dir": "elsewhere"},
    ],
    ids=str,
)
def test_where_it_runs_changes_no_digest(changes: dict[str, Any]) -> None:
    experiment = Experiment()
    changed = experiment.replace(**changes)
    assert changed != experiment
    assert changed.digest() == experiment.digest()


@pytest.mark.parametrize(
    "changes",
    [
        {"mode": "centralised"},
        {"dataset": "fashion-mnist-mini"},
        {"model": "mlp"},
        {"clients": 99},
        {"cohort": 10},
        {"rounds": 9},
        {"seed": 1},
        {"partition.alpha": 0.3},
        {"partition.validation": 0.2},
        {"partition": {"kind": "on-demand", "alpha": 0.3, "law": "prior"}},
        {"training.local_epochs": 2},
        {"training.batch_size": 16},
        {"training.optimizer": "adam"},
        {"training.learning_rate": 0.2},
        {"training.momentum": 0.9},
        {"training.loss": "mse"},
        {"strategy.name": "fedprox"},
        {"strategy.learning_rate": 0.5},
        {"evaluation.every": 2},
    ],
    ids=str,
)
def test_what_decides_changes_the_digest(changes: dict[str, Any]) -> None:
    assert Experiment().replace(**changes).digest() != Experiment().digest()


def test_a_law_of_the_partition_has_a_use_or_is_refused() -> None:
    plain = parse({"partition": {"kind": "on-demand", "alpha": 0.3}})
    named = parse({"partition": {"kind": "on-demand", "alpha": 0.3, "law": "symmetric"}})
    assert "law" not in plain.decisive()["partition"] and named.digest() == plain.digest()
    for partition in ({"kind": "on-demand"}, {"kind": "dirichlet", "alpha": 0.3}):
        with pytest.raises(ConfigError) as caught:
            parse({"partition": {**partition, "law": "prior"}})
        assert str(caught.value) == (
            "partition.law must be left out unless the partition is 'on-demand' with an alpha, "
            "got 'prior'"
        )


def test_the_digest_is_the_same_in_every_process() -> None:
    code = (
        "from simulation.config.experiment import parse;"
        "print(parse({'strategy': {'name': 'fedprox', 'mu': 0.1}}).digest())"
    )
    environment = {"PYTHONHASHSEED": "1", "PYTHONPATH": str(Path(__file__).parents[3])}
    found = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == parse({"strategy": {"mu": 0.1, "name": "fedprox"}}).digest()


@pytest.mark.parametrize(
    ("clients", "cohort", "size"),
    [(20, None, 20), (20, 5, 5), (20, 5.0, 5), (20, 0.25, 5), (20, 1, 1), (20, 1.0, 20)],
)
def test_cohort_size(clients: int, cohort: float | None, size: int) -> None:
    assert parse({"clients": clients, "cohort": cohort}).cohort_size == size


@pytest.mark.parametrize("percent", range(1, 101))
def test_a_share_is_what_a_person_means(percent: int) -> None:
    # 0.29 * 100 is 28.999999999999996
    assert parse({"clients": 100, "cohort": percent / 100}).cohort_size == percent


def test_alpha_alone_means_dirichlet() -> None:
    assert parse({"partition": {"alpha": 0.3}}).partition.kind == "dirichlet"
    for kind in SKEWED:
        assert parse({"partition": {"kind": kind, "alpha": 0.3}}).partition.alpha == 0.3


def test_numpy_numbers_are_numbers() -> None:
    experiment = Experiment(seed=np.int64(3), training={"learning_rate": np.float64(0.5)})
    assert experiment == Experiment(seed=3, training={"learning_rate": 0.5})


@pytest.mark.parametrize("value", ["5", True, 2.5, None, [5], float("nan"), float("inf")])
def test_what_is_no_whole_number(value: Any) -> None:
    with pytest.raises(ConfigError) as error:
        parse({"rounds": value})
    assert str(error.value) == f"rounds must be a whole number, got {value!r}"


def test_labels() -> None:
    assert parse({}).label == "FedAvg"
    assert parse({"strategy": {"name": "fedprox", "mu": 0.1}}).label == "FedProx(mu=0.1)"
    assert parse({"mode": "centralised"}).label == "Centralised"
    assert parse({"name": "mine"}).label == "mine"


def test_a_value_is_no_table() -> None:
    with pytest.raises(ConfigError) as error:
        assign({"training": 3}, "training.momentum", 0.9)
    assert str(error.value) == "training must be a table, as training.momentum is in it, got 3"


@pytest.mark.parametrize("name", ["fashion_mnist.toml"])
def test_the_examples_are_experiments(name: str) -> None:
    file = Path(__file__).parents[3] / "examples" / name
    assert parse(read(file)).clients == 10


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("0.5", 0.5),
        ("true", True),
        ("[1, 2]", [1, 2]),
        ('"3"', "3"),
        ("fedavg", "fedavg"),
        ("{ a = 1 }", {"a": 1}),
        ("", ""),
        ("1\nvalue2 = 2", "1\nvalue2 = 2"),
    ],
)
def test_toml_values(text: str, value: Any) -> None:
    assert toml_value(text) == value
    assert type(toml_value(text)) is type(value)


FILE: dict[str, Any] = {
    "clients": 10,
    "strategy": {"name": "fedprox", "mu": 0.5},
    "partition": {"kind": "pathological", "classes_per_client": 3, "validation": 0.2},
}


@pytest.mark.parametrize(
    ("given", "changed"),
    [
        ({}, {}),
        ({"clients": 5}, {"clients": 5}),
        ({"strategy.name": "fedprox"}, {}),
        ({"strategy.name": "fedavg"}, {"strategy": {"name": "fedavg"}}),
        ({"strategy": "fedavg"}, {"strategy": {"name": "fedavg"}}),
        ({"strategy.mu": 0.1}, {"strategy": {"name": "fedprox", "mu": 0.1}}),
        (
            {"partition.alpha": 0.3},
            {"partition": {"kind": "dirichlet", "alpha": 0.3, "validation": 0.2}},
        ),
        ({"partition.kind": "iid"}, {"partition": {"kind": "iid", "validation": 0.2}}),
        ({"partition": {"alpha": 0.3}}, {"partition": {"alpha": 0.3}}),
        ({"training.momentum": 0.9}, {"training": {"momentum": 0.9}}),
    ],
    ids=str,
)
def test_what_is_given_goes_over_the_file(given: dict[str, Any], changed: dict[str, Any]) -> None:
    assert parse(overlay(FILE, given)) == parse({**FILE, **changed})


@pytest.mark.parametrize("kind", SKEWED)
def test_alpha_keeps_a_kind_that_has_one(kind: str) -> None:
    data = {"partition": {"kind": kind, "alpha": 9.0}}
    found = parse(overlay(data, {"partition.alpha": 0.3})).partition
    assert (found.kind, found.alpha) == (kind, 0.3)


@pytest.mark.parametrize("table", [{"alpha": 0.3}, {"kind": "dirichlet", "alpha": 0.3}])
def test_the_same_kind_keeps_its_options(table: dict[str, Any]) -> None:
    found = parse(overlay({"partition": table}, {"partition.kind": "dirichlet"})).partition
    assert (found.kind, found.alpha) == ("dirichlet", 0.3)


def test_who_attacks_stays_where_another_attack_is_given() -> None:
    data = {"attack": {"kind": "scale", "fraction": 0.4, "strength": 3.0}}
    found = parse(overlay(data, {"attack.kind": "alie"})).attack
    assert (found.kind, found.fraction, found.strength) == ("alie", 0.4, None)


def test_overlay_leaves_the_file_as_it_is() -> None:
    before = json.dumps(FILE)
    overlay(FILE, {"strategy.mu": 3, "partition.kind": "iid", "clients": 2})
    assert json.dumps(FILE) == before


def test_every_option_is_a_key_of_the_file() -> None:
    whole = Experiment().model_dump()
    for option in OPTIONS:
        at: Any = whole
        for name in option.key.split("."):
            assert name in at
            at = at[name]


@pytest.mark.parametrize(
    ("schedule", "digest"),
    [
        (None, "25e1ae3e631fe5c02f0c395a62d7afeed7d3e0723d30cfed7133817586cbf8f3"),
        (30.0, "aa94a43dec5b3a1030ea531b9788da04bd5b31ed73e4c79e907dc92fb7dc3638"),
        ("80%", "085c75cf9bb478fb2e5373bed360af6c677d98e958eec63b5a1202eae3854377"),
    ],
)
def test_schedules_that_came_later_leave_the_digest_of_a_deadline(
    schedule: float | str | None, digest: str
) -> None:
    plan = {} if schedule is None else {"schedule": {"kind": "deadline", "deadline": schedule}}
    given = {"dataset": "fashion-mnist-mini", "devices": "lognormal", **plan}
    assert parse(given).digest() == digest
