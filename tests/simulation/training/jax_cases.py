"""Models that both backends train, and what training them gives, one process for each backend.

``python -m tests.simulation.training.jax_cases jax OUT.npz CASE ...`` trains cases on a backend.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from simulation.config.experiment import Experiment, parse
from simulation.datasets.dataset import Dataset
from simulation.training.plan import Asked, Examples
from strategies.client_rule import ClientRule

SIZES = (1, 9, 64, 3, 33, 17, 8, 25, 16)
"""Examples of the clients: less than a batch, whole batches, and batches and a part."""

BATCH = 8
LANES = 3


def images(n: int = 200, shape: tuple[int, ...] = (8, 8, 2), classes: int = 4) -> Dataset:
    rng = np.random.default_rng(5)
    x = rng.integers(0, 256, (n, *shape), dtype=np.uint8)
    y = rng.integers(0, classes, n).astype(np.int32)
    return Dataset("images", x, y, x[:40], y[:40], classes, 1 / 255, "made")


def words(n: int = 200) -> Dataset:
    rng = np.random.default_rng(6)
    x, y = rng.integers(0, 20, (n, 6), dtype=np.int32), rng.integers(0, 3, n).astype(np.int32)
    return Dataset("words", x, y, x[:40], y[:40], 3, 1.0, "made")


def series(n: int = 200) -> Dataset:
    rng = np.random.default_rng(7)
    x = rng.normal(size=(n, 12, 3)).astype(np.float32)
    y = rng.integers(0, 3, n).astype(np.int32)
    return Dataset("series", x, y, x[:40], y[:40], 3, 1.0, "made")


def pairs(n: int = 200) -> Dataset:
    rng = np.random.default_rng(8)
    x = {
        "left": rng.normal(size=(n, 5)).astype(np.float32),
        "right": rng.normal(size=(n, 4)).astype(np.float32),
    }
    y = rng.normal(size=n).astype(np.float32)
    test = {name: part[:40] for name, part in x.items()}
    return Dataset("pairs", x, y, test, y[:40], None, {"left": 1.0, "right": 1.0}, "made")


def _layers() -> Any:
    import keras

    return keras.layers


def _sequence(shape: tuple[int, ...], *layers: Any, **compiled: Any) -> Any:
    import keras

    model = keras.Sequential([keras.Input(shape), *layers])
    if compiled:
        model.compile(**compiled)
    return model


def batchnorm(shape: Any, classes: Any) -> Any:
    at = _layers()
    return _sequence(
        shape, at.Conv2D(4, 3, use_bias=False), at.BatchNormalization(), at.ReLU(),
        at.MaxPooling2D(), at.Flatten(), at.Dense(classes),
    )  # fmt: skip


def groupnorm(shape: Any, classes: Any) -> Any:
    at = _layers()
    return _sequence(
        shape, at.Conv2D(4, 3, padding="same", strides=2), at.GroupNormalization(2), at.ReLU(),
        at.GlobalAveragePooling2D(), at.Dense(classes),
    )  # fmt: skip


def depthwise(shape: Any, classes: Any) -> Any:
    at = _layers()
    return _sequence(
        shape, at.DepthwiseConv2D(3, padding="same", depth_multiplier=2, activation="relu"),
        at.SeparableConv2D(6, 3, padding="same", strides=2), at.Conv2D(5, 2, dilation_rate=2),
        at.MaxPooling2D(2), at.Flatten(), at.Dense(classes),
    )  # fmt: skip


def conv1d(shape: Any, classes: Any) -> Any:
    at = _layers()
    return _sequence(
        shape, at.Conv1D(6, 3, padding="causal", activation="relu"), at.MaxPooling1D(),
        at.Conv1D(4, 2, strides=2), at.Flatten(), at.Dense(classes),
    )  # fmt: skip


def lstm(shape: Any, classes: Any) -> Any:
    at = _layers()
    return _sequence(shape, at.LSTM(5), at.Dense(classes))


def embedding(shape: Any, classes: Any) -> Any:
    at = _layers()
    return _sequence(
        shape, at.Embedding(20, 4, mask_zero=True), at.GRU(4),
        at.Dense(classes, activation="softmax"),
    )  # fmt: skip


def two_inputs(shapes: Any, classes: Any) -> Any:
    import keras

    left, right = (keras.Input(shapes[n], name=n) for n in ("left", "right"))
    both = keras.layers.Concatenate()([keras.layers.Dense(4, activation="tanh")(left), right])
    return keras.Model({"left": left, "right": right}, keras.layers.Dense(1)(both))


def frozen(shape: Any, classes: Any) -> Any:
    at = _layers()
    backbone = _sequence(shape, at.Conv2D(4, 3, activation="relu"), at.BatchNormalization())
    backbone.trainable = False
    return _sequence(shape, backbone, at.Flatten(), at.Dense(classes))


def lora(shape: Any, classes: Any) -> Any:
    at = _layers()
    model = _sequence(shape, at.Flatten(), at.Dense(8, activation="relu"), at.Dense(classes))
    model.layers[1].enable_lora(2)
    return model


def decayed(shape: Any, classes: Any) -> Any:
    import keras

    at = _layers()
    dense = at.Dense(6, activation="relu", kernel_regularizer="l2", activity_regularizer="l1")
    return _sequence(
        shape, at.Flatten(), dense, at.Dense(classes),
        optimizer=keras.optimizers.AdamW(0.01, weight_decay=0.1, clipnorm=1.0),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy", keras.metrics.SparseTopKCategoricalAccuracy(2, name="top2")],
    )  # fmt: skip


def averaged(shape: Any, classes: Any) -> Any:
    import keras

    at = _layers()
    return _sequence(
        shape, at.Flatten(), at.Dense(classes, activation="softmax"),
        optimizer=keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5),
        loss="sparse_categorical_crossentropy",
    )  # fmt: skip


def dropped(shape: Any, classes: Any) -> Any:
    at = _layers()
    return _sequence(
        shape, at.Flatten(), at.Dense(16, activation="relu"), at.Dropout(0.4), at.Dense(classes)
    )


@dataclass(frozen=True)
class Case:
    """A model with its data and how it is trained."""

    model: str
    data: Callable[[], Dataset] = images
    training: dict[str, Any] = field(default_factory=dict)
    epochs: int = 2
    weighted: bool = False

    def experiment(self, backend: str, lanes: int | None = LANES) -> Experiment:
        name = (
            self.model
            if self.model in ("cnn", "lenet", "mlp", "logistic")
            else f"{__spec__.name}:{self.model}"
        )
        resources: dict[str, Any] = {"engine": "inline", "backend": backend}
        if backend == "jax":
            resources["lanes"] = lanes
        training = {"learning_rate": 0.05, "batch_size": BATCH} | self.training
        return parse({"model": name, "training": training, "resources": resources})


def plain_images() -> Dataset:
    return images(120, (12, 12, 1), 3)


CASES: dict[str, Case] = {
    "cnn": Case("cnn", plain_images),
    "lenet": Case("lenet", lambda: images(120, (16, 16, 1), 3), {"momentum": 0.9}, epochs=1),
    "mlp": Case("mlp", plain_images),
    "logistic": Case("logistic", weighted=True),
    "batchnorm": Case("batchnorm"),
    "groupnorm": Case("groupnorm"),
    "depthwise": Case("depthwise"),
    "conv1d": Case("conv1d", series),
    "lstm": Case("lstm", series),
    "embedding": Case("embedding", words),
    "two_inputs": Case("two_inputs", pairs),
    "frozen": Case("frozen"),
    "lora": Case("lora"),
    "decayed": Case("decayed", training={"learning_rate": None}),
    "averaged": Case("averaged", training={"learning_rate": None}),
}


def trainer_of(
    case: Case, backend: str, lanes: int | None = LANES, rule: ClientRule | None = None
) -> Any:
    from simulation.training.backend import backend as library

    data = case.data()
    made = library(backend)
    made.prepare(1, 0.0)
    experiment = case.experiment(backend, lanes)
    return made.trainer(experiment, rule or ClientRule(), data, case.weighted), data


def job_of(case: Case, trainer: Any, data: Dataset, sizes: Any = SIZES, **more: Any) -> Any:
    """The job of clients of some sizes, with rows that are drawn with repetition."""
    from simulation.datasets import inputs

    rows = np.random.default_rng(2).integers(0, len(data.y_train), sum(sizes))
    weights = np.linspace(0.5, 2, len(rows)).astype(np.float32) if case.weighted else None
    examples = Examples(inputs.rows(data.x_train, rows), data.y_train[rows], weights)
    asked = Asked(epochs=case.epochs, **more)
    return trainer.plan.job(list(range(len(sizes))), list(sizes), 3, examples, asked)


def numbers(case: Case, backend: str) -> dict[str, Any]:
    """What training and evaluating a case gives."""
    trainer, data = trainer_of(case, backend)
    info = trainer.info
    jobs = job_of(case, trainer, data)
    done = trainer.train(trainer.place(info.initial), jobs)
    test = trainer.evaluate(
        info.initial + done[2].update.delta, data.x_test, data.y_test, np.arange(40), [15, 25], 16
    )
    return {
        "initial": info.initial,
        "deltas": np.stack([one.update.delta for one in done]),
        "metrics": np.array(
            [[one.update.metrics["loss"], one.update.metrics["accuracy"]] for one in done]
        ),
        "states": np.stack([one.states for one in done]),
        "test": np.stack([test.loss, test.right, test.count]),
        "test_states": test.states,
    }


def main(backend: str, out: str, *names: str) -> None:
    found = {}
    for name in names or CASES:
        found |= {f"{name}/{key}": value for key, value in numbers(CASES[name], backend).items()}
    np.savez(out, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
