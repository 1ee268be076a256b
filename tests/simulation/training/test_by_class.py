"""Means by class, on TensorFlow; what travels, and runs that go on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from simulation import Experiment, simulate
from tests.simulation.training.by_class_cases import RULES, check

PLAN: dict[str, Any] = {
    "dataset": "fashion-mnist-mini", "model": "mlp", "clients": 8, "cohort": 4, "rounds": 4,
    "partition": {"alpha": 0.3}, "resources": {"engine": "inline"},
}  # fmt: skip
CLASSES, FEATURES, WEIGHTS = 10, 200, 199_210


@pytest.mark.parametrize("kind", RULES)
def test_clients_tell_their_classes_and_learn_from_those_of_all(kind: str) -> None:
    check("tensorflow", kind)


SENT = {
    "fedproto": (CLASSES * FEATURES + CLASSES, 1 + CLASSES * FEATURES + CLASSES),
    "feddistill": (CLASSES * CLASSES + CLASSES, 1 + CLASSES * CLASSES + CLASSES),
    "mimelite": (2 * WEIGHTS, 1 + 2 * WEIGHTS),
}
"""Numbers that a client sends and gets: means and counts of classes; gradient and momentum."""


@pytest.mark.parametrize("name", SENT)
def test_what_is_sent_is_counted_and_a_run_that_goes_on_has_the_same_bits(
    name: str, tmp_path: Path
) -> None:
    plan = Experiment(**PLAN).replace(strategy=name)
    whole = simulate(plan, out=tmp_path / "whole")
    simulate(plan.replace(rounds=2), out=tmp_path / "parts")
    again = simulate(plan, out=tmp_path / "parts", resume=True)

    def lines(run: Any) -> list[dict[str, Any]]:
        return [{k: v for k, v in line.items() if k != "seconds"} for line in run.rounds]

    assert again.weights.tobytes() == whole.weights.tobytes()
    assert lines(again) == lines(whole)
    up, down = SENT[name]
    for line in whole.rounds[1:]:
        assert (line["bytes_up"], line["bytes_down"]) == (4 * 4 * up, 4 * 4 * down)
    assert whole.rounds[-1]["client_accuracy"] > 0.2
