"""One client that holds all rows in one batch is Keras' own ``fit``: weights and every number.

A table of models, targets, losses, optimisers and metrics as people compile them. What Keras gives
is computed here by ``fit`` on a second model of the same function; nothing is written down.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from simulation.config.experiment import parse
from simulation.datasets import inputs
from simulation.training.tensorflow.process import prepare_tensorflow
from simulation.training.tensorflow.trainer import TensorFlowTrainer
from tests.simulation.tools import train_one

prepare_tensorflow(1)
layers, losses, optimizers, metrics = keras.layers, keras.losses, keras.optimizers, keras.metrics

ROWS, EPOCHS = 24, 3
RNG = np.random.default_rng(11)
X = RNG.normal(size=(ROWS, 5)).astype(np.float32)
IMAGES = RNG.normal(size=(ROWS, 4, 4, 1)).astype(np.float32)
WORDS = RNG.integers(1, 6, (ROWS, 4))
WORDS[::3, 2:] = 0  # padding, masked
TWO = (X[:, 0] > 0).astype(np.int64)
THREE = TWO + (X[:, 1] > 0)
HOT = np.eye(3, dtype=np.float32)[THREE]
TAGS = (X[:, :4] > 0.5).astype(np.float32)
TAGGED = TAGS.astype(np.int64)
NUMBERS = (X[:, 0] - X[:, 1]).astype(np.float32)
COLUMN = NUMBERS[:, None]
MASKS = (IMAGES > 0.5).astype(np.uint8)
NEXT = RNG.integers(0, 6, (ROWS, 4))
WEIGHTS = RNG.uniform(0.2, 2.0, ROWS).astype(np.float32)


def dense(units: int, activation: str | None = None, **options: Any) -> keras.Model:
    first = layers.Dense(6, activation="tanh", kernel_initializer="he_normal", **options)
    return keras.Sequential([keras.Input((5,)), first, layers.Dense(units, activation=activation)])


def pixels(units: int, activation: str | None = None) -> keras.Model:
    last = layers.Conv2D(units, 1, activation=activation)
    return keras.Sequential([keras.Input((4, 4, 1)), layers.Conv2D(3, 3, padding="same"), last])


def sequence(pooled: bool) -> keras.Model:
    last = [layers.GlobalAveragePooling1D()] if pooled else []
    words = [layers.Embedding(6, 3, mask_zero=True), layers.Dense(4, activation="tanh")]
    scores = layers.Dense(3 if pooled else 6)
    return keras.Sequential([keras.Input((4,)), *words, *last, scores])


def relative(y: Any, p: Any) -> Any:
    return ops.mean(ops.square((p - y) / (ops.abs(y) + 1)))


def soft_dice(y: Any, p: Any) -> Any:
    y = tf.cast(y, tf.float32)
    return 1 - (2 * tf.reduce_sum(y * p) + 1) / (tf.reduce_sum(y) + tf.reduce_sum(p) + 1)


class Focal(losses.Loss):
    def call(self, y: Any, p: Any) -> Any:
        y, p = ops.cast(y, p.dtype), ops.clip(p, 1e-6, 1 - 1e-6)
        right = y * p + (1 - y) * (1 - p)
        return -ops.power(1 - right, 2.0) * ops.log(right)


class Ordinal(losses.Loss):
    """Class numbers as targets, three scores."""

    def call(self, y: Any, p: Any) -> Any:
        return ops.square(y - ops.sum(p * ops.convert_to_tensor([0.0, 1.0, 2.0]), -1))


@keras.saving.register_keras_serializable("fit")
class Weighing(keras.Model):
    """Class weights in a loss of its own, as early versions of Keras had it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.scores = layers.Dense(3)

    def call(self, x: Any) -> Any:
        return self.scores(x)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):  # type: ignore
        by = ops.take(ops.convert_to_tensor([1.0, 9.0, 2.0]), ops.cast(y, "int32"))
        return super().compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=by)


def sgd(**options: Any) -> keras.Optimizer:
    return optimizers.SGD(0.1, **options)


def undecayed() -> keras.Optimizer:
    made = optimizers.AdamW(0.01, weight_decay=2.0)
    made.exclude_from_weight_decay(var_names=["bias"])
    return made


def sparse(**options: Any) -> losses.Loss:
    return losses.SparseCategoricalCrossentropy(from_logits=True, **options)


BCE, FOCAL, CCE = (
    losses.BinaryCrossentropy,
    losses.BinaryFocalCrossentropy,
    "categorical_crossentropy",
)
ACC = ["accuracy"]
AUC = partial(metrics.AUC, name="auc")
RATES = [partial(metrics.Precision, name="precision"), partial(metrics.Recall, name="recall")]
Row = tuple[Callable[[], keras.Model], Any, Any, Callable[[], Any], Any, list[Any] | None]
TABLE: dict[str, Row] = {
    # name: (model, inputs, targets, optimiser, loss, metrics)
    "classes": (lambda: dense(3), X, THREE, sgd, sparse, ACC),
    "classes in a column": (lambda: dense(3), X, THREE[:, None], sgd, sparse, ACC),
    "softmax": (lambda: dense(3, "softmax"), X, THREE, sgd, "sparse_categorical_crossentropy", ACC),
    "ce by name": (lambda: dense(3, "softmax"), X, THREE, sgd, "crossentropy", ACC),
    "a loss with a name": (lambda: dense(3), X, THREE, sgd, lambda: sparse(name="ce"), ACC),
    "ignored class": (lambda: dense(3), X, THREE, sgd, lambda: sparse(ignore_class=1), None),
    "one-hot": (lambda: dense(3, "softmax"), X, HOT, sgd, CCE, ACC),
    "smoothed": (lambda: dense(3), X, HOT, sgd,
                 lambda: losses.CategoricalCrossentropy(True, 0.1), ["categorical_accuracy"]),
    "focal one-hot": (lambda: dense(3, "softmax"), X, HOT, sgd,
                      losses.CategoricalFocalCrossentropy, ACC),
    "divergence": (lambda: dense(3, "softmax"), X, HOT, sgd, "kl_divergence", ["mae"]),
    "top two": (lambda: dense(3), X, THREE, sgd, sparse,
                [lambda: metrics.SparseTopKCategoricalAccuracy(2, name="top2")]),
    "binary": (lambda: dense(1, "sigmoid"), X, TWO, sgd, "binary_crossentropy",
               [*ACC, AUC, *RATES]),
    "binary logits": (lambda: dense(1), X, TWO, sgd, lambda: BCE(from_logits=True),
                      [partial(metrics.BinaryAccuracy, "right", threshold=0.0)]),
    "binary in a column": (lambda: dense(1, "sigmoid"), X, TWO[:, None], sgd, BCE, ACC),
    "binary focal": (lambda: dense(1, "sigmoid"), X, TWO, sgd, FOCAL, ACC),
    "focal of one's own": (lambda: dense(1, "sigmoid"), X, TWO, sgd, Focal, ACC),
    "soft dice": (lambda: dense(1, "sigmoid"), X, TWO, sgd, lambda: soft_dice, ACC),
    "Keras' dice": (lambda: dense(1, "sigmoid"), X, TWO, sgd, losses.Dice, ACC),
    "tversky": (lambda: dense(1, "sigmoid"), X, TWO, sgd, losses.Tversky, ACC),
    "hinge": (lambda: dense(1, "tanh"), X, TWO, sgd, "hinge", ACC),
    "tags": (lambda: dense(4, "sigmoid"), X, TAGS, sgd, BCE, ["binary_accuracy", AUC]),
    "integer tags": (lambda: dense(4, "sigmoid"), X, TAGGED, sgd, BCE, ["binary_accuracy"]),
    "ordinal": (lambda: dense(3, "softmax"), X, THREE, sgd, Ordinal, None),
    "numbers": (lambda: dense(1), X, NUMBERS, sgd, "mse",
                ["mae", partial(metrics.RootMeanSquaredError, name="rmse")]),
    "numbers in a column": (lambda: dense(1), X, COLUMN, sgd, "huber",
                            [partial(metrics.R2Score, name="r2")]),
    "a list of one loss": (lambda: dense(1), X, NUMBERS, sgd, lambda: ["mse"], None),
    "one number a batch": (lambda: dense(1), X, COLUMN, sgd, lambda: relative, None),
    "a lambda": (lambda: dense(1), X, NUMBERS, sgd, lambda: (lambda y, p: ops.abs(y - p)), None),
    "sums": (lambda: dense(1), X, COLUMN, lambda: optimizers.SGD(0.002),
             lambda: losses.MeanSquaredError(reduction="sum"), None),
    "unreduced": (lambda: dense(1), X, COLUMN, lambda: optimizers.SGD(0.002),
                  lambda: losses.MeanSquaredError(reduction=None), None),
    "masks": (lambda: pixels(1, "sigmoid"), IMAGES, MASKS, sgd, BCE, ACC),
    "flat masks": (lambda: pixels(2), IMAGES, MASKS[..., 0], sgd, sparse, ACC),
    "IoU": (lambda: pixels(1, "sigmoid"), IMAGES, MASKS, sgd, BCE,
            [partial(metrics.BinaryIoU, [0, 1], 0.5, name="iou")]),
    "padded sequences": (lambda: sequence(True), WORDS, THREE, sgd, sparse, ACC),
    "a class for each word": (lambda: sequence(False), WORDS, NEXT, sgd, sparse, ACC),
    "penalties": (lambda: dense(3, kernel_regularizer="l2", activity_regularizer="l1"), X, THREE,
                  sgd, sparse, ACC),
    "weights in the model": (Weighing, X, THREE, sgd, sparse, ACC),
    "momentum": (lambda: dense(3), X, THREE, lambda: sgd(momentum=0.9, nesterov=True), sparse,
                 None),
    "undecayed biases": (lambda: dense(3), X, THREE, undecayed, sparse, None),
    "average of weights": (lambda: dense(3), X, THREE,
                           lambda: sgd(use_ema=True, ema_momentum=0.7), sparse, None),
    "overwritten averages": (lambda: dense(3), X, THREE, lambda: sgd(
        use_ema=True, ema_momentum=0.7, ema_overwrite_frequency=2), sparse, None),
    "schedule": (lambda: dense(3), X, THREE,
                 lambda: optimizers.SGD(optimizers.schedules.CosineDecay(0.3, 4)), sparse, None),
    "clipped norm": (lambda: dense(3), X, THREE, lambda: sgd(clipnorm=0.05), sparse, None),
    "clipped values": (lambda: dense(3), X, THREE, lambda: sgd(clipvalue=0.01), sparse, None),
    "clipped altogether": (lambda: dense(3), X, THREE, lambda: sgd(global_clipnorm=0.1), sparse,
                           None),
    "accumulated": (lambda: dense(3), X, THREE, lambda: sgd(gradient_accumulation_steps=2), sparse,
                    None),
    "lion": (lambda: dense(3), X, THREE, lambda: optimizers.Lion(0.01), sparse, None),
    "rmsprop": (lambda: dense(3), X, THREE, lambda: optimizers.RMSprop(0.01), sparse, None),
}  # fmt: skip


def call(what: Any) -> Any:
    return what() if callable(what) else what


_making: list[Row] = []


def build() -> keras.Model:
    """Return the model of the row under test; experiments know models by name."""
    make, _, _, optimizer, loss, found = _making[0]
    model = make()
    chosen = [call(m) for m in found] if found else None
    # Eager: what Keras computes here takes longer to compile than to run.
    model.compile(optimizer(), call(loss), metrics=chosen, run_eagerly=True)
    return model


def twin(trainer: TensorFlowTrainer) -> keras.Model:
    """Return another model of the same function and weights."""
    model = build()
    if not model.built:
        model(tf.constant(_making[0][1][:1]))
    for variable, other in zip(model.weights, trainer.model.weights, strict=True):
        variable.assign(other)
    return model


def numbers(
    trainer: TensorFlowTrainer, states: Any, loss: float, accuracy: float
) -> dict[str, float]:
    """Return what we report, by Keras' names."""
    found = trainer.measures.metrics
    named = dict(zip(found.names, found.results(states)[0], strict=True)) if found.size else {}
    described = trainer.measures.described(1.0)
    if described.accuracy is not None:
        named |= dict.fromkeys(("accuracy", described.alias), accuracy)
    return {**named, "loss": loss}


WEIGHTED = (
    "classes", "one-hot", "binary", "binary in a column", "tags", "numbers", "numbers in a column",
    "padded sequences", "momentum",
)  # fmt: skip


ALL = [*TABLE, *(f"{name}, weighted" for name in WEIGHTED)]
QUICK = (
    "ignored class", "binary", "focal of one's own", "soft dice", "numbers", "one number a batch",
    "sums", "penalties", "weights in the model", "undecayed biases", "overwritten averages",
    "clipped altogether", "accumulated", "classes, weighted", "tags, weighted",
    "padded sequences, weighted",
)  # fmt: skip
"""Rows of the normal suite, one of each kind; the soak test has all."""


@pytest.mark.parametrize(
    "row", [pytest.param(row, marks=() if row in QUICK else pytest.mark.soak) for row in ALL]
)
def test_one_client_with_all_rows_is_fit(row: str) -> None:
    name, weighted = row.removesuffix(", weighted"), row.endswith(", weighted")
    _, x, y, _, _, _ = TABLE[name]
    _making[:] = [TABLE[name]]
    weights = WEIGHTS if weighted else None
    experiment = parse({"model": f"{__name__}:build", "training": {"batch_size": ROWS}})
    classes = int(y.max()) + 1 if y.dtype.kind in "iu" else 3 if y is HOT else None
    trainer = TensorFlowTrainer(experiment, x, y, classes, 1.0, weighted=weighted)
    model, start = twin(trainer), trainer.initial
    options = {"sample_weight": weights, "batch_size": ROWS, "verbose": 0}

    found = trainer.evaluator.evaluate(start, x, y, np.arange(ROWS), weights=weights)
    ours = numbers(trainer, found.states, found.loss[0] / ROWS, found.right[0] / found.count[0])
    same(ours, model.evaluate(x, y, return_dict=True, **options))

    before = trainer.spec.ravel([v.numpy() for v in model.trainable_variables])
    one = train_one(trainer, 0, 1, start, x, y, weights=weights)
    all_epochs = train_one(trainer, 0, 1, start, x, y, epochs=EPOCHS, weights=weights)
    history = model.fit(x, y, shuffle=False, epochs=EPOCHS, **options).history
    reported = one.update.metrics
    assert one.states is not None
    ours = numbers(trainer, one.states[None], reported["loss"], reported["accuracy"])
    same(ours, {name: values[0] for name, values in history.items()})

    after = trainer.spec.ravel([v.numpy() for v in model.trainable_variables])
    np.testing.assert_allclose(start + all_epochs.update.delta, after, atol=1e-6)
    assert np.abs(after - before).max() > 1e-4


def same(ours: dict[str, float], theirs: dict[str, float]) -> None:
    for name, value in theirs.items():
        assert ours[name] == pytest.approx(float(np.mean(value)), rel=1e-6, abs=1e-6), name


def test_the_table_is_as_long_as_it_says() -> None:
    assert len(TABLE) >= 40 and set(WEIGHTED) <= set(TABLE) and set(QUICK) <= set(ALL)
    assert inputs.count(X) == ROWS
