"""Whole runs give equal bits again, resumed, and whoever fails: where Keras is on JAX."""

# ruff: noqa: E402 - Keras' backend is chosen before it is imported
from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simulation.training.backend import backend

backend("jax").prepare(1, 0.0)

from simulation import Experiment, simulate
from simulation.config.errors import RunError
from simulation.engines.calls import Train
from simulation.engines.inline import InlineEngine
from simulation.population.deal import prepare
from simulation.records.reading import read_json, read_lines
from simulation.training import trainers
from simulation.worker.setup import Setup
from strategies import Median, WeightedMean
from tests.simulation.engines.ray.failing import Failing
from tests.simulation.same_bits import StopAfter, outcome
from tests.simulation.training.jax_catalogue import BASE, CASES

LANES = {"resources.backend": "jax", "resources.lanes": 2}
SKIP = {"faults.on_client_error": "skip"}
EVERYBODY = list(range(20))


def experiment(case: str = "fedavg", **changes: Any) -> Experiment:
    return Experiment(**BASE).replace(**{**CASES[case], **LANES, **changes})


def bits(made: Experiment, out: Path) -> Mapping[str, Any]:
    simulate(made, out=out)
    return outcome(out)


@pytest.mark.parametrize(
    "name", ["scaffold", "krum", "download", pytest.param("stragglers", marks=pytest.mark.soak)]
)
def test_a_run_and_a_resumed_one_give_the_bits_of_the_first(name: str, tmp_path: Path) -> None:
    made = experiment(name)
    first = bits(made, tmp_path / "first")
    assert bits(made, tmp_path / "again") == first
    if name == "stragglers":
        trainers._kept.clear()
        assert bits(made, tmp_path / "compiled-anew") == first
    for stop in (0, 2):
        path = tmp_path / f"stopped-{stop}"
        with pytest.raises(KeyboardInterrupt):
            simulate(made, out=path, listener=StopAfter(stop))
        simulate(made, out=path, resume=True)
        assert outcome(path) == first


def test_a_resumed_run_keeps_backend_and_lanes(tmp_path: Path) -> None:
    made, path = experiment(), tmp_path / "run"
    first = bits(made, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        simulate(made, out=path, listener=StopAfter(1))
    config = read_json(path / "config.json") or {}
    assert (config["backend"], config["lanes"]) == ("jax", 2)
    other = made.replace(**{"resources.lanes": 3})
    with pytest.raises(RunError, match=r"resources.lanes must stay 2 in .*, got 3"):
        simulate(other, out=path, resume=True)
    either = made.replace(**{"resources.backend": "auto", "resources.lanes": None})
    simulate(either, out=path, resume=True)
    assert outcome(path) == first


@pytest.mark.parametrize("name", ["fedavg", "scaffold", "median", "q-fedavg"])
def test_a_client_that_fails_leaves_the_same_bits_however_it_does(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("simulation.runs.machinery.MessageExecutor", Failing)
    found = {}
    for what in ("raise", "nan", "shape", "none"):
        path = tmp_path / what
        made = experiment(name, **SKIP, name=f"{what}:3 {what}:8 {what}:11", cohort=20)
        found[what] = bits(made, path)["weights"]
        lost = [one["client"] for one in read_lines(path / "lost.jsonl")]
        assert lost == ([] if what == "none" else [3, 8, 11] * 3)
    assert found["raise"] == found["nan"] == found["shape"] != found["none"]


@pytest.mark.parametrize("reducer", [WeightedMean(), Median()], ids=lambda r: type(r).__name__)
@pytest.mark.parametrize("bad", [[7], [0, 13], EVERYBODY[1:]], ids=str)
def test_who_diverges_is_lost_as_if_it_had_been_known(reducer: Any, bad: list[int]) -> None:
    """Found out when the sum is not finite, or told before, as after a worker's death."""
    made = experiment(**SKIP)
    data, parts = prepare(made)
    x = np.array(data.x_train)
    for client in bad:
        x[parts.train_rows(client)] = np.inf
    engine = InlineEngine()
    engine.start(Setup(made, reducer=reducer), data, parts)
    model = engine.info().initial

    def total(skip: Mapping[int, str]) -> Any:
        node = (np.array(EVERYBODY[:9]), np.array(EVERYBODY[9:]))
        call = Train(
            round=1, node=node, model=model, shared={}, states=[None] * 20, skip=dict(skip)
        )
        part = engine.do(call)
        assert sorted(one.client for one in part.lost) == (bad if skip or spoilt else [])
        return reducer.finish(part.partial).delta

    spoilt = False
    whole = total({})
    known = total(dict.fromkeys(bad, "its worker died"))
    object.__setattr__(data, "x_train", x)
    spoilt = True
    np.testing.assert_array_equal(total({}), known)
    np.testing.assert_array_equal(total({bad[0]: "its worker died"}), known)
    assert (known != whole).any()
