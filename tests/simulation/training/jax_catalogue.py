"""A run of every entry of the catalogue, and runs of unequal work, on one backend or the other.

``python -m tests.simulation.training.jax_catalogue jax OUT.npz`` runs them all on JAX.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulation import Experiment, simulate
from strategies.entries import ENTRIES

HERE = "tests.simulation.training.jax_catalogue"
CLIENTS, ROUNDS = 20, 3

BASE: dict[str, Any] = {
    "dataset": f"{HERE}:vectors",
    "model": f"{HERE}:normalised",
    "clients": CLIENTS,
    "cohort": 12,
    "rounds": ROUNDS,
    "partition": {"alpha": 0.5},
    "training": {"local_epochs": 2, "batch_size": 16, "learning_rate": 0.05},
    "resources": {"engine": "inline"},
}


def vectors() -> Any:
    """Return five classes of vectors, which overlap."""
    rng = np.random.default_rng(6)
    y = rng.integers(0, 5, 720)
    x = (rng.normal(size=(5, 12))[y] + rng.normal(size=(720, 12))).astype(np.float32)
    return (x[:600], y[:600]), (x[600:], y[600:])


def pictures() -> Any:
    """Return the vectors as pictures of 4 x 3 pixels."""
    return tuple((x.reshape(-1, 4, 3, 1), y) for x, y in vectors())


def flat(shape: tuple[int, ...], classes: int) -> Any:
    """Return a model of pictures."""
    import keras

    layers = keras.layers
    parts = [keras.Input(shape), layers.Flatten(), layers.Dense(classes)]
    return keras.Sequential(parts, name="flat")


def normalised(shape: tuple[int, ...], classes: int) -> Any:
    """Return a model with layers to keep and with moving statistics."""
    import keras

    layers = keras.layers
    hidden = [keras.Input(shape), layers.Dense(8, activation="tanh"), layers.BatchNormalization()]
    return keras.Sequential([*hidden, layers.Dense(classes)], name="normalised")


def trainable(shape: tuple[int, ...], classes: int) -> Any:
    """Return a model without moving statistics, which noise would spoil."""
    import keras

    return keras.Sequential([keras.Input(shape), keras.layers.Dense(classes)], name="trainable")


OPTIONS: dict[str, dict[str, Any]] = {
    "fedprox": {"mu": 1.0},
    "fedprox-adaptive": {"mu": 0.5, "patience": 1},
    "feddyn": {"alpha": 0.1},
    "fedams": {"epsilon": 1e-8},
    "q-fedavg": {"q": 1.0},
    "norm-clipping": {"norm": 0.2},
    "bulyan": {"byzantine": 0.15},
    "dnc": {"byzantine": 0.3},
    "dp-fedavg": {"norm": 0.2, "noise_multiplier": 0.1},
    "dp-fedavg-adaptive": {"noise_multiplier": 0.5},
}
"""Of entries that would do as another does in three rounds of twelve clients by default."""

STRAGGLERS = {"realism.stragglers": 0.5, "training.local_epochs": 3}
MOMENTUM = {"training.optimizer": "sgd", "training.momentum": 0.9}
LATE = {"realism.over_selection": 0.5, "realism.dropout": 0.2}


def attack(kind: str, **more: Any) -> dict[str, Any]:
    return {"attack.kind": kind, "attack.fraction": 0.3, **more}


CASES: dict[str, dict[str, Any]] = {
    **{
        name: {
            "strategy": {"name": name, **OPTIONS.get(name, {})},
            **({"model": f"{HERE}:trainable"} if name.startswith("dp-") else {}),
            **({"partition": {"alpha": 0.5, "root": 40}} if name == "fltrust" else {}),
        }
        for name in ENTRIES
    },
    "stragglers": STRAGGLERS,
    "stragglers-fednova": {**STRAGGLERS, **MOMENTUM, "strategy": "fednova"},
    "stragglers-scaffold": {**STRAGGLERS, **MOMENTUM, "strategy": "scaffold"},
    "stragglers-dropped": {**STRAGGLERS, "realism.drop_stragglers": True},
    "late": LATE,
    "buffered": {"devices": "lognormal", "schedule": {"kind": "buffered", "buffer": 3}},
    "asynchronous": {"devices": "lognormal", "schedule": "asynchronous"},
    "label-flip": attack("label-flip"),
    "sign-flip-clipped": attack("sign-flip", strategy={"name": "norm-clipping", "norm": 0.2}),
    "noise-median": attack("noise", strategy="median"),
    "scale-krum": attack("scale", strategy="krum"),
    "alie-rfa": attack("alie", strategy="rfa"),
    "min-sum": attack("min-sum"),
    "backdoor": attack("backdoor", dataset=f"{HERE}:pictures", model=f"{HERE}:flat"),
    "semantic-backdoor": attack("semantic-backdoor", **{"attack.source": 1, "attack.target": 3}),
    "download": {
        "compression": {
            "kind": "qsgd",
            "bits": 6,
            "bucket": 64,
            "download": {"kind": "top-k", "fraction": 0.3},
        }
    },
    "class-weight": {"training.class_weight": {0: 3.0, 3: 0.5}},
    "adam": {"training.optimizer": "adam", "training.learning_rate": 0.01},
    "personal": {"strategy": "fedper", "evaluation.personal": True},
}

TRAIN_AS_OTHERS = (
    "fedams", "fedexp", "fedacg", "term", "centred-clipping", "bucketing", "nnm", "dnc",
    "foolsgold", "signguard", "lg-fedavg", "fedasam", "mofedsam", "fedspeed", "feddc",
    "dp-fedavg-adaptive", "fedadagrad", "fedyogi", "fedavgm", "multi-krum", "bulyan", "rfa",
    "feddisco", "fltrust", "fedsgd", "fedprox", "fedntd", "fedlc", "fedbn", "fedbabu",
    "trimmed-mean", "krum", "afl", "feddecorr", "fedcm", "fedrep", "pfedme", "per-fedavg", "median",
    "fedadam", "norm-clipping", "feddistill",
)  # fmt: skip
"""Entries that ask no more of a backend than others do."""

MEASURED = ("_loss", "_accuracy", "_success")
"""How what is measured in a round is called."""

QUICK = (
    *(name for name in ENTRIES if name not in TRAIN_AS_OTHERS),
    "stragglers", "download",
    "label-flip", "sign-flip-clipped",
)  # fmt: skip
"""Runs of the normal suite; the soak test has all."""


def outcome(name: str, backend: str) -> dict[str, NDArray[Any]]:
    """Run a case; return its weights, and what was measured in every round."""
    more = {"resources.backend": backend} | ({"resources.lanes": 4} if backend == "jax" else {})
    with tempfile.TemporaryDirectory() as folder:
        found = simulate(Experiment(**BASE).replace(**CASES[name], **more), out=Path(folder) / "it")
    measured = [
        [value for key, value in sorted(line.items()) if key.endswith(MEASURED)]
        for line in found.rounds
    ]
    counts = [line["clients"] for line in found.rounds[1:]]
    return {
        "weights": np.asarray(found.weights),
        "measured": np.array(measured, float),
        "counts": np.array(counts, float),
    }


def main(backend: str, out: str, names: Iterable[str]) -> None:
    np.savez(out, **{f"{n}/{k}": v for n in names for k, v in outcome(n, backend).items()})


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:] or CASES)
