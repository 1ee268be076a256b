"""Every entry of the catalogue runs under ray, inline and Flower's own in-memory grid, alike."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.supercore.task_identity import TaskIdentity

from simulation.config.compression import encoded_bytes
from simulation.config.experiment import Experiment, parse
from simulation.config.sections import Resources
from simulation.config.strategy import make_strategy
from simulation.flower.client_app import client_app
from simulation.flower.driver import MessagingDriver
from simulation.population.deal import prepare
from simulation.records.client_states import StateFolder
from simulation.rounds.folding import FoldingDriver
from simulation.worker.setup import Setup
from strategies import Algorithm, Cohort, Federated, catalog
from strategies.objective import MEANS
from tests.simulation import same_bits
from tests.simulation.flower.flower_nodes import in_memory
from tests.simulation.tools import answering

CLIENTS, ROUNDS = 8, 2
EXPERIMENT = parse(
    {
        "dataset": "fashion-mnist-mini",
        "model": f"{same_bits.HERE}:tiny",
        "clients": CLIENTS,
        "rounds": ROUNDS,
        "partition": {"kind": "on-demand", "examples_per_client": 12, "root": 30},
    }
)

VARYING = Cohort(2, seed=173, sampling="poisson")
"""A cohort for noise: nobody in round 1, some in round 2."""


@pytest.fixture(scope="module")
def given() -> Any:
    return prepare(EXPERIMENT)


@pytest.fixture
def identity(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give Flower's identity of the process back."""
    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


def experiment_for(algorithm: Algorithm) -> Experiment:
    """Return the experiment, with the model that an algorithm can have."""
    if algorithm.noise is None:
        return EXPERIMENT
    return EXPERIMENT.replace(model=f"{same_bits.HERE}:trainable")


def started(
    grid: Any, algorithm: Algorithm, given: Any, folder: Path, experiment: Experiment | None = None
) -> Any:
    plan = experiment or experiment_for(algorithm)
    setup = Setup(plan, algorithm.client, algorithm.reducer)
    if setup.keeps_state:
        setup = replace(setup, shelf=StateFolder(str(folder)))
    grid.start(setup, *given)
    return grid


def trained(driver: Any, model: np.ndarray) -> np.ndarray:
    for number in range(1, ROUNDS + 1):
        model = driver.train(number, model).model
    # Where models stay on the clients, all that they have learned is the means of the classes.
    return np.concatenate([model, np.asarray(driver.state.get(MEANS, []))])


AS_OTHERS = (
    "fedams", "fedexp", "fedacg", "term", "centred-clipping", "nnm", "dnc", "foolsgold",
    "signguard", "lg-fedavg", "pfedme", "per-fedavg", "fedasam", "mofedsam", "fedspeed", "fedbabu",
    "ditto", "fedntd", "fedlc", "feddecorr", "feddc", "feddisco", "fltrust", "fedprox", "fedavgm",
    "fedadagrad", "fedyogi", "fedbn", "trimmed-mean", "multi-krum", "bulyan", "rfa", "krum",
    "fedsam", "fedcm", "fedrep", "dp-fedavg-adaptive", "afl", "mimelite",
    "feddyn", "fedprox-adaptive", "moon", "feddistill",
)  # fmt: skip
"""Entries that ask no more of an engine than others do."""

NAMES = [
    pytest.param(name, marks=pytest.mark.soak if name in AS_OTHERS else ())
    for name in catalog.names()
]


@pytest.mark.parametrize("name", NAMES)
def test_all_engines_agree(
    name: str, given: Any, pool: Any, tmp_path: Path, identity: None
) -> None:
    from simulation.engines.ray.engine import RayEngine

    algorithm, cohort = catalog.build(name), Cohort(seed=EXPERIMENT.seed)
    if algorithm.noise is not None:
        cohort = VARYING
        algorithm = algorithm.prepared(ROUNDS, CLIENTS, 2)
    experiment = experiment_for(algorithm).replace(seed=cohort.seed)
    inline = started(answering(), algorithm, given, tmp_path / "inline")
    ray = started(RayEngine(Resources(), pool=pool), algorithm, given, tmp_path / "ray")
    info = inline.info()
    spec, start = info.spec, info.initial

    def strategy() -> Federated:
        made = Federated(algorithm, cohort, evaluate=None, spec=spec, seeded_noise=True)
        made.server_update = inline._executor.train_on_server
        return made

    folded = trained(FoldingDriver(strategy(), inline, spec, experiment), start)
    learned = np.concatenate([folded[: spec.size] - start, folded[spec.size :]])
    assert np.isfinite(folded).all() and np.abs(learned).max() > 1e-4
    pooled = trained(FoldingDriver(strategy(), ray, spec, experiment), start)
    ray.close()
    assert pooled.tobytes() == folded.tobytes()
    with in_memory(client_app(lambda _: inline._executor), CLIENTS) as grid:
        sent = trained(MessagingDriver(strategy(), grid, spec, experiment), start)
    # The sums are the same, in another order; Adam's kin divide by small numbers.
    np.testing.assert_allclose(sent, folded, atol=2e-5 if name.startswith("feda") else 2e-6)


ENCODED = [
    ("feddyn", {"kind": "random-k", "fraction": 0.2}),
    ("fedavg", {"kind": "majority-vote", "step": 0.01}),
]


@pytest.mark.parametrize(("name", "encoded"), ENCODED, ids=lambda v: str(v)[:10])
def test_encoded_updates_are_the_same_on_all_engines(
    name: str, encoded: dict[str, Any], given: Any, pool: Any, tmp_path: Path, identity: None
) -> None:
    """With the draws of each client's message, what it keeps of its errors, and the real bytes."""
    from simulation.engines.ray.engine import RayEngine

    experiment = EXPERIMENT.replace(strategy=name, cohort=4, compression=encoded)

    def strategy() -> Any:
        found: Any = make_strategy(experiment)
        found.evaluate, found.spec = None, info.spec
        return found

    found, algorithm = [], make_strategy(experiment).algorithm  # type: ignore[attr-defined]
    inline = answering()
    for where, engine in (("inline", inline), ("ray", RayEngine(Resources(), pool=pool))):
        ready = started(engine, algorithm, given, tmp_path / where, experiment)
        info = ready.info()
        found.append(trained(FoldingDriver(strategy(), ready, info.spec, experiment), info.initial))
    engine.close()
    assert found[0].tobytes() == found[1].tobytes()
    assert np.abs(found[0] - info.initial).max() > 1e-4
    with in_memory(client_app(lambda _: inline._executor), CLIENTS) as grid:
        driver = MessagingDriver(strategy(), grid, info.spec, experiment)
        sent = trained(driver, info.initial)
        once = driver.train(ROUNDS + 1, sent)
        other = Federated(algorithm, Cohort(4), evaluate=None, spec=info.spec)
        plain = MessagingDriver(other, grid, info.spec, experiment)
        with pytest.raises(ValueError, match="must hold 'arrays' for a strategy that reads no"):
            plain.train(1, info.initial)
    np.testing.assert_allclose(sent, found[0], atol=2e-6)
    length = encoded_bytes(experiment, info.spec)
    headers = 2 * 128  # of the two arrays in a Flower message
    assert length is not None and once.bytes_up == 4 * (length + headers)
