"""Runs that train in the same lanes, as alone: where Keras is on JAX."""

# ruff: noqa: E402 - Keras' backend is chosen before it is imported
from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simulation.training.backend import backend

backend("jax").prepare(1, 0.0)

from simulation import Experiment, Listener, simulate
from simulation.records import checkpoint
from simulation.records.reading import read_json, read_lines, read_rounds
from simulation.studies.campaign import Outcome, Plan, carry_out
from simulation.training.jax import runner
from simulation.training.jax.runner import Runner
from simulation.worker.faults import ClientError, is_divergence
from tests.simulation.engines.ray.failing import Failing
from tests.simulation.same_bits import StopAfter
from tests.simulation.training.jax_catalogue import BASE

LANES = {"resources.backend": "jax", "resources.lanes": 4, "model": "logistic"}
FAST = {"training.learning_rate": 0.1}
TOO_FAST = {"training.learning_rate": 1e38}
PLAN: dict[str, dict[str, Any]] = {
    "plain": {},
    "fast": FAST,
    "other-seed": {"seed": 1, "rounds": 2},
    "adam": {"seed": 1, "strategy": "fedadam", "cohort": 7, **FAST},
    "prox": {"strategy": {"name": "fedprox", "mu": 0.1}},
    "prox-more": {"strategy": {"name": "fedprox", "mu": 1.0}, "seed": 2},
    "scaffold": {"strategy": "scaffold"},
    "scaffold-fast": {"strategy": "scaffold", **FAST},
    "krum": {"strategy": "krum", "training.local_epochs": 1},
    "q-fedavg": {"strategy": "q-fedavg", "seed": 2},
}
"""Three groups: of plain clients, of FedProx' and of SCAFFOLD's."""

Carry = Callable[..., tuple[Outcome, dict[str, Any]]]


def plan(**more: dict[str, Any]) -> Plan:
    base = Experiment(**BASE)
    return {name: base.replace(**LANES, **changes) for name, changes in {**PLAN, **more}.items()}


def result(path: Path) -> Any:
    """What a run leaves: weights, and each round's numbers that no clock decides."""
    last = checkpoint.latest(path / "checkpoint")
    assert last is not None
    numbers = [
        [value for name, value in line.items() if name != "seconds" and value is not None]
        for line in read_rounds(path)
    ]
    return last.position.model, numbers


def same(one: Any, other: Any) -> bool:
    return bool((one[0] == other[0]).all() and one[1] == other[1])


def carried(out: Path, runs: Plan, **how: Any) -> tuple[Outcome, dict[str, Any]]:
    outcome = carry_out(runs, out, **how)
    return outcome, {name: result(out / name) for name in outcome.complete}


@pytest.fixture(scope="module")
def together(tmp_path_factory: Any) -> tuple[dict[str, Any], list[int]]:
    """What the runs of a study give, and how many runs each program trained."""
    counts: list[int] = []
    plain = Runner.train_together

    def counted(self: Runner, asked: Any) -> Any:
        counts.append(len(asked))
        return plain(self, asked)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Runner, "train_together", counted)
        outcome, found = carried(tmp_path_factory.mktemp("together"), plan())
    assert outcome.complete == list(PLAN)
    return found, counts


def test_each_run_gives_what_it_gives_alone(
    together: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the bit where no program is narrowed, else to 1e-6."""
    found, counts = together
    # Of plain clients six runs, one with two rounds; then two of FedProx and of SCAFFOLD.
    assert counts == [6, 6, 5, *[2] * 6]
    assert len({model.tobytes() for model, _ in found.values()}) == len(PLAN)
    for name in ("plain", "prox-more"):
        simulate(plan()[name], out=tmp_path / name)
        for mine, alone in zip(found[name], result(tmp_path / name), strict=True):
            flat = [np.concatenate([np.ravel(part) for part in of]) for of in (mine, alone)]
            np.testing.assert_allclose(*flat, rtol=0, atol=1e-6)
    monkeypatch.setattr(runner, "widths_of", lambda lanes: (lanes,))
    for name, made in plan().items():
        simulate(made, out=tmp_path / f"{name}-wide")
        assert same(result(tmp_path / f"{name}-wide"), found[name]), name


@pytest.mark.soak
def test_the_same_bits_in_smaller_groups_and_after_an_interruption(
    together: Any, tmp_path: Path
) -> None:
    found, _ = together

    @contextmanager
    def stopping(name: str, *_: Any) -> Iterator[Listener]:
        yield StopAfter(1) if name == "adam" else Listener()

    with pytest.raises(KeyboardInterrupt):
        carry_out(plan(), tmp_path, stopping, at_once=3)
    assert not (tmp_path / "scaffold").exists()
    assert (read_json(tmp_path / "plain" / "config.json") or {})["grouped"]
    by_itself = tmp_path / "by-itself"
    shutil.copytree(tmp_path / "plain", by_itself)
    simulate(plan()["plain"], out=by_itself, resume=True)
    assert same(result(by_itself), found["plain"])
    with pytest.raises(KeyboardInterrupt):
        simulate(plan()["krum"], out=tmp_path / "krum-alone", listener=StopAfter(1))
    krum = tmp_path / "krum"
    shutil.rmtree(krum, ignore_errors=True)
    shutil.copytree(tmp_path / "krum-alone", krum)
    outcome, again = carried(tmp_path, plan(), at_once=2)
    assert outcome.complete == list(PLAN)
    simulate(plan()["krum"], out=tmp_path / "krum-alone", resume=True)
    assert same(again.pop("krum"), result(tmp_path / "krum-alone")), "it goes on as it began"
    for name, one in again.items():
        assert same(one, found[name]), name


@pytest.mark.soak
def test_who_fails_fails_as_alone_and_the_others_keep_their_bits(
    together: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, _ = together
    monkeypatch.setattr("simulation.runs.machinery.MessageExecutor", Failing)
    bad: dict[str, dict[str, Any]] = {
        "raises": {"seed": 3, "name": "raise:3 raise:8", "cohort": 20},
        "diverges": {"seed": 4, **TOO_FAST},
        "loses-some": {"faults.on_client_error": "skip", "name": "nan:3 raise:8", "cohort": 16},
    }
    outcome, mine = carried(tmp_path, plan(**bad))
    assert outcome.complete == [*PLAN, "loses-some"]
    for name in PLAN:
        assert same(mine[name], found[name]), name
    assert set(outcome.failed) == {"raises", "diverges"}
    assert is_divergence(outcome.failed["diverges"])
    assert "KeyError" in str(outcome.failed["raises"])
    for name in ("raises", "diverges"):
        with pytest.raises(ClientError) as alone:
            simulate(plan(**bad)[name], out=tmp_path / f"{name}-alone")
        assert str(alone.value).splitlines()[0] == str(outcome.failed[name]).splitlines()[0]
    simulate(plan(**bad)["loses-some"], out=tmp_path / "lost-alone")
    lost = read_lines(tmp_path / "loses-some" / "lost.jsonl")
    assert lost and lost == read_lines(tmp_path / "lost-alone" / "lost.jsonl")
