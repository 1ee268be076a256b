"""When a run is to end, and which round was best, by the figures of its rounds."""

from __future__ import annotations

from typing import Any

import pytest

from analysis import summarise
from simulation.config import ending
from simulation.config.errors import ConfigError
from simulation.config.experiment import Experiment, parse
from simulation.rounds.watching import Watch, check
from simulation.training.measured import Described
from strategies.client_rule import ClientRule

FIGURES = [0.9, 0.2, 0.5, None, 0.5, 0.48, 0.7, 0.71, 0.6]
"""Of round 0 on: the initial model's counts for nothing."""


def ends(experiment: Experiment, name: str = "server_accuracy", sign: float = 1.0) -> int | None:
    """Return the round after which a run ends; None for one that does not."""
    watch = Watch(experiment)
    for round, value in enumerate(FIGURES):
        watch.see({"round": round, name: None if value is None else sign * value})
        if watch.reason is not None:
            return round
    return None


@pytest.mark.parametrize("target", [0.1, 0.5, 0.6, 0.705, 0.72, 0.9])
def test_a_target_is_reached_by_the_first_round_that_has_it(target: float) -> None:
    first = [r for r, v in enumerate(FIGURES) if r and v is not None and v >= target]
    wanted = first[0] if first else None
    assert ends(parse({"stop": {"accuracy": target}})) == wanted
    clients = {"accuracy": target, "on": "clients"}
    assert ends(parse({"stop": clients}), "client_accuracy") == wanted
    assert ends(parse({"stop": clients})) is None
    assert ends(parse({"stop": {"target": target, "metric": "f1"}}), "server_f1") == wanted
    assert ends(parse({"stop": {"loss": -target}}), "server_loss", -1.0) == wanted


@pytest.mark.parametrize("patience", [1, 2, 3, 4])
@pytest.mark.parametrize("least", [0.0, 0.05, 0.2, 0.4])
def test_patience_counts_measurements_since_the_last_improvement(
    patience: int, least: float
) -> None:
    seen = [(r, v) for r, v in enumerate(FIGURES) if r and v is not None]
    best, since, wanted = seen[0][1], 0, None
    for round, value in seen[1:]:
        better = value - best > least
        best, since = (value, 0) if better else (best, since + 1)
        if since == patience and wanted is None:
            wanted = round
    plan = {"patience": patience, "min_delta": least}
    assert ends(parse({"stop": plan})) == wanted
    by_loss = parse({"stop": {**plan, "metric": "loss"}})
    assert ends(by_loss, "server_loss", -1.0) == wanted
    assert ends(parse({"stop": {**plan, "loss": -9.0}}), "server_loss", -1.0) == wanted


def test_the_best_round_is_the_first_of_the_highest() -> None:
    watch = Watch(parse({"save": {"best": True}}))
    kept = [r for r, v in enumerate(FIGURES) if watch.see({"round": r, "server_accuracy": v})]
    assert kept == [1, 2, 6, 7]
    assert watch.best is not None and (watch.best.round, watch.best.value) == (7, 0.71)
    assert not watch.waits and watch.reason is None


MODEL = Described("mse", False, "accuracy", "", ("f1",), 1.0)


@pytest.mark.parametrize(
    ("settings", "local", "line"),
    [
        (
            {"stop": {"target": 0.5, "metric": "auc"}},
            (),
            "stop must go by what is measured of the model: loss, accuracy, f1, got 'auc'",
        ),
        (
            {"save": {"best": True, "metric": "auc"}},
            (),
            "save must go by what is measured of the model: loss, accuracy, f1, got 'auc'",
        ),
        (
            {"stop": {"patience": 3}},
            ("dense",),
            "stop.on must be 'clients' for a strategy whose layers stay on the clients, as the "
            "server measures no model without evaluation.personal, got 'server'",
        ),
        (
            {"save": {"every": 3}},
            ("dense",),
            "save must be left out for a strategy whose layers stay on the clients, whose model is "
            "whole nowhere, got 'every'",
        ),
    ],
)
def test_what_a_model_does_not_have(
    settings: dict[str, Any], local: tuple[str, ...], line: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        check(parse(settings), ClientRule(local=local), MODEL)
    assert str(caught.value) == line
    check(parse({"stop": {"target": 0.5, "metric": "f1"}}), ClientRule(), MODEL)


def test_which_way_a_metric_is_good_is_the_same_for_runs_and_figures() -> None:
    assert set(ending.LOWER_IS_BETTER) <= set(summarise.LOWER_IS_BETTER)
    for name in (
        "loss", "sparse_categorical_crossentropy", "kl_divergence", "poisson", "mae",
        "root_mean_squared_error", "huber", "categorical_hinge", "log_cosh",
    ):  # fmt: skip
        assert ending.is_lower_better(name) and summarise.is_lower_better(f"server_{name}")
    for name in ("accuracy", "f1", "auc", "r2", "top5"):
        assert not ending.is_lower_better(name)
