"""What the server reads of a client that encodes, recomputed: for both backends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from simulation.config.experiment import Experiment, parse
from simulation.population.deal import prepare
from simulation.runs.run import make_strategy
from simulation.training.measured import TrainedClient
from simulation.worker.client_state import state_after
from simulation.worker.executor import Executor
from simulation.worker.group_trainer import RoundInputs
from simulation.worker.setup import Setup
from strategies.encodings.reading import DRAWS
from strategies.random_streams import stream

COMPRESSIONS: dict[str, dict[str, Any]] = {
    "top-k": {"kind": "top-k", "fraction": 0.05},
    "qsgd": {"kind": "qsgd", "bits": 3, "bucket": 100},
    "majority-vote": {"kind": "majority-vote", "step": 0.1},
}
BATCHNORM = "tests.simulation.worker.compression_cases:normalised"


def normalised(shape: Any, classes: int) -> Any:
    """A small model with moving statistics, which are not encoded."""
    import keras

    layers = [keras.layers.Flatten(), keras.layers.Dense(4), keras.layers.BatchNormalization()]
    return keras.Sequential([keras.Input(shape), *layers, keras.layers.Dense(classes)])


Trained = Callable[..., list[TrainedClient]]


def inputs_of(wanted: Experiment) -> Trained:
    """Return what trains some clients in a round, with what each has kept from the last one."""
    algorithm = make_strategy(wanted).algorithm  # type: ignore[attr-defined]
    executor = Executor(Setup(wanted, algorithm.client, algorithm.reducer), *prepare(wanted))
    trainer, layout = executor.trainer, executor.layout

    def trained(
        clients: Sequence[int], round: int = 1, kept: Sequence[TrainedClient] | None = None
    ) -> list[TrainedClient]:
        states: list[Any] = [None] * len(clients)
        if kept is not None:  # Through the file's vector, as from round to round.
            states = [layout.unpack(layout.pack(state_after(one))) for one in kept]
        inputs = RoundInputs(round, trainer.place(trainer.info.initial), {})
        return executor.train_clients(clients, inputs, states)

    trained.spec = trainer.spec  # type: ignore[attr-defined]
    return trained


def check(library: str, kind: str) -> None:
    """Two clients in two rounds: their deltas, what is read of them, and what they keep."""
    wanted = parse({
        "dataset": "fashion-mnist-mini", "model": BATCHNORM, "clients": 12, "seed": 5,
        "partition": {"alpha": 0.5},
        "resources": {"engine": "inline", "backend": library},
    })  # fmt: skip
    plainly = inputs_of(wanted)
    encoded = inputs_of(wanted.replace(compression=COMPRESSIONS[kind]))
    spec = plainly.spec  # type: ignore[attr-defined]
    cut = spec.trainable_size
    assert cut < spec.size
    kept, error = None, np.zeros((2, cut), np.float32)
    for round in (1, 2):
        deltas = [np.asarray(one.update.delta) for one in plainly([3, 8], round)]
        found = encoded([3, 8], round, kept)
        for i, (delta, one) in enumerate(zip(deltas, found, strict=True)):
            read = _read(kind, delta[:cut] + error[i], round, one.update.client)
            np.testing.assert_allclose(one.update.delta[:cut], read, rtol=1e-6, atol=1e-7)
            np.testing.assert_array_equal(one.update.delta[cut:], delta[cut:])
            np.testing.assert_array_equal(one.update.moved, delta)
            assert (one.error is None) == (kind != "top-k")
            if one.error is not None:
                np.testing.assert_allclose(one.error, delta[:cut] + error[i] - read, atol=1e-7)
                error[i] = one.error
        kept = found if kind == "top-k" else None
    assert (kind == "top-k") == bool(np.abs(error).max() > 1e-4)


def _read(kind: str, vector: np.ndarray, round: int, client: int) -> np.ndarray:
    options = COMPRESSIONS[kind]
    if kind == "majority-vote":
        return np.where(vector >= 0, 1.0, -1.0)
    if kind == "top-k":
        count = int(options["fraction"] * vector.size)
        least = np.sort(np.abs(vector))[-count]
        return np.where(np.abs(vector) >= least, vector, 0.0)
    levels, bucket = 2 ** (options["bits"] - 1) - 1, options["bucket"]
    lot = stream(5, DRAWS, round, client).random(vector.size)
    parts = []
    for start in range(0, vector.size, bucket):
        v, u = vector[start : start + bucket].astype(np.float64), lot[start : start + bucket]
        norm = np.sqrt((v**2).sum()) or 1.0
        parts.append(norm / levels * np.sign(v) * np.floor(levels * np.abs(v) / norm + u))
    return np.concatenate(parts)
