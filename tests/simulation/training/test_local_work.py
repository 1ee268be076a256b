"""How much clients train: fractions of epochs, a number of steps, steps on all that they have."""

from __future__ import annotations

from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from simulation.config.experiment import parse
from simulation.config.local_work import LocalWork
from simulation.population.deal import prepare
from simulation.runs.run import simulate
from simulation.worker.executor import Executor
from simulation.worker.group_trainer import RoundInputs
from simulation.worker.setup import Setup
from tests.simulation.same_bits import Seeing
from tests.simulation.training.optimizer_cases import Floats
from tests.simulation.training.steps_cases import WORK, check

SIZES = [0, 1, 7, 8, 9, 40]


@pytest.mark.parametrize("work", WORK, ids=str)
def test_steps_and_examples(work: LocalWork) -> None:
    for n, steps, seen in zip(SIZES, work.steps(SIZES), work.examples(SIZES), strict=True):
        batch = n if work.batch is None else work.batch
        epoch = [min(batch, n - first) for first in range(0, n, batch)] if n else []
        count = work.count if work.count is not None else ceil(work.epochs * len(epoch) - 1e-9)
        taken = [epoch[step % len(epoch)] for step in range(count)] if n else []
        assert (steps, seen) == (len(taken), sum(taken))
        assert work.passes([n])[0] == (ceil(len(taken) / len(epoch)) if n else 0)


@pytest.mark.parametrize("work", WORK, ids=str)
def test_training_takes_these_steps(work: LocalWork) -> None:
    check("tensorflow", work)


def test_a_part_of_an_epoch_is_rounded_up_but_for_rounding() -> None:
    assert LocalWork(0.1, 1).steps([10])[0] == 1
    assert LocalWork(0.3, 1).steps([10])[0] == 3
    assert LocalWork(0.05, 32).steps([100])[0] == 1


BASE: dict[str, Any] = {
    "dataset": "fashion-mnist-mini", "model": "logistic", "clients": 5, "cohort": 3, "rounds": 2,
    "partition": {"alpha": 0.3}, "resources": {"engine": "inline"}, "sampling": "round-robin",
}  # fmt: skip

SETTINGS: list[dict[str, Any]] = [
    {"local_steps": 7}, {"local_epochs": 0.5}, {"local_epochs": 2.5, "batch_size": "all"},
    {"local_steps": 3, "batch_size": "all"},
]  # fmt: skip


@pytest.mark.parametrize("training", SETTINGS, ids=str)
def test_records_tell_what_was_done(training: dict[str, Any], tmp_path: Path) -> None:
    wanted = parse(BASE | {"training": training})
    done = simulate(wanted, out=tmp_path / "run")
    _, parts = prepare(wanted)
    table = pd.read_parquet(tmp_path / "run/clients.parquet")
    count, epochs = training.get("local_steps"), training.get("local_epochs", 1)
    seen = dict.fromkeys((1, 2), 0)
    for row in table.itertuples():
        n = int(parts.train_sizes[row.client])
        batch = n if training.get("batch_size") == "all" else 32
        epoch = [min(batch, n - first) for first in range(0, n, batch)]
        steps = count or ceil(epochs * len(epoch))
        assert row.steps == steps
        seen[row.round] += sum(epoch[s % len(epoch)] for s in range(steps))
    assert [r["examples_seen"] for r in done.rounds[1:]] == [seen[1], seen[2]]


def test_by_messages_clients_do_the_same(tmp_path: Path) -> None:
    wanted = parse(BASE | {"cohort": None, "training": {"local_epochs": 0.5}, "sampling": {}})
    ours = simulate(wanted, out=tmp_path / "ours")
    theirs = simulate(wanted, Seeing(), out=tmp_path / "theirs")
    np.testing.assert_allclose(theirs.weights, ours.weights, atol=1e-6)
    assert [r["examples_seen"] for r in theirs.rounds] == [r["examples_seen"] for r in ours.rounds]


def test_stragglers_do_a_part_of_it() -> None:
    wanted = parse(BASE | {"training": {"local_steps": 10}})
    executor = Executor(Setup(wanted), *prepare(wanted))
    model: Floats = executor.info().initial
    some = RoundInputs(1, model, {}, parts={1: 0.31})
    found = [one.update.steps for one in executor.train_clients([0, 1], some, [None, None])]
    assert found == [10, 4]
