"""Models of many kinds: each trained federated, and one client alone as Keras' ``fit`` would."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from simulation.config.experiment import parse
from simulation.datasets import inputs
from simulation.runs.run import simulate
from simulation.training.backend import ModelError
from simulation.training.keras import models
from simulation.training.keras.keras_model import compile_model, seed_states
from simulation.training.plan import LAYER_SEEDS, SHUFFLE
from simulation.training.tensorflow.process import prepare_tensorflow
from simulation.training.tensorflow.trainer import TensorFlowTrainer
from strategies import proximal
from strategies.random_streams import stream
from tests.simulation.tools import train_many, train_one

prepare_tensorflow(1)
layers = keras.layers
RNG = np.random.default_rng(5)
CLASSES, ROWS = 3, 120
LEFT = RNG.normal(size=(ROWS, 6)).astype(np.float32)
WORDS = RNG.integers(0, 9, (ROWS, 4))
SLOPES = RNG.normal(size=(6, CLASSES))
Y = np.argmax(LEFT @ SLOPES + (WORDS % CLASSES == 0).sum(1)[:, None] * [0, 0, 1.0], axis=1)


def _split(x: Any) -> dict[str, Any]:
    train, test = slice(0, 90), slice(90, None)
    return {
        "x_train": inputs.rows(x, train),
        "y_train": Y[train],
        "x_test": inputs.rows(x, test),
        "y_test": Y[test],
    }


def one_input() -> dict[str, Any]:
    return _split(LEFT)


def named_inputs() -> dict[str, Any]:
    return _split({"words": WORDS, "left": LEFT})


def paired_inputs() -> dict[str, Any]:
    return _split((LEFT, WORDS))


def normalised() -> keras.Model:
    return keras.Sequential(
        [keras.Input((6,)), layers.Dense(5), layers.BatchNormalization(), layers.Dense(CLASSES)]
    )


def dropping() -> keras.Model:
    return keras.Sequential(
        [keras.Input((6,)), layers.Dense(16), layers.Dropout(0.4), layers.Dense(CLASSES)]
    )


def regularised() -> keras.Model:
    dense = layers.Dense(CLASSES, kernel_regularizer="l2", activity_regularizer="l1")
    return keras.Sequential([keras.Input((6,)), dense])


def frozen() -> keras.Model:
    """A base with statistics of its own, all of it frozen, and a head to be trained."""
    base = keras.Sequential(
        [keras.Input((6,)), layers.Dense(8, activation="relu"), layers.BatchNormalization()]
    )
    base.trainable = False
    return keras.Sequential([keras.Input((6,)), base, layers.Dense(CLASSES)])


def mixed() -> keras.Model:
    keras.config.set_dtype_policy("mixed_float16")
    return keras.Sequential(
        [keras.Input((6,)), layers.Dense(8), layers.Dense(CLASSES, dtype="float32")]
    )


def two_inputs() -> keras.Model:
    left, words = keras.Input((6,), name="left"), keras.Input((4,), name="words", dtype="int64")
    read = layers.Flatten()(layers.Embedding(9, 3)(words))
    scores = layers.Dense(CLASSES)(layers.Concatenate()([left, read]))
    return keras.Model({"left": left, "words": words}, scores)


def pair() -> keras.Model:
    model = two_inputs()
    left, words = model.inputs
    return keras.Model([left, words], model.outputs[0])


@keras.saving.register_keras_serializable("tests")
class Smoothed(keras.Model):
    """Learns from labels that are a little uncertain; makes its weights when it is called."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.hidden = layers.Dense(8, activation="tanh")
        self.scores = layers.Dense(CLASSES)
        self.seen = self.add_weight(
            name="seen", dtype="int32", initializer="zeros", trainable=False
        )

    def call(self, x: Any) -> Any:
        return self.scores(self.hidden(x))

    def train_step(self, data: Any) -> dict[str, Any]:
        x, y = data
        with tf.GradientTape() as tape:
            output = self(x, training=True)
            even = tf.reduce_mean(tf.nn.log_softmax(output)) * -0.1
            loss = self.compute_loss(x=x, y=y, y_pred=output) + even
        # The first batch of a client counts half: a state that is no weight of the model's.
        factor = tf.where(self.seen.value == 0, 0.5, 1.0)
        self.seen.assign_add(1)
        gradients = tape.gradient(loss, self.trainable_variables)
        pairs = zip([g * factor for g in gradients], self.trainable_variables, strict=True)
        self.optimizer.apply_gradients(pairs)
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(loss)
            else:
                metric.update_state(y, output)
        return {metric.name: metric.result() for metric in self.metrics}


def own_step() -> keras.Model:
    model = Smoothed()
    model.compile(
        keras.optimizers.Adam(0.02),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["sparse_categorical_accuracy"],
    )
    return model


KINDS: dict[str, tuple[Any, Any]] = {
    "batch norm": (normalised, one_input),
    "dropout": (dropping, one_input),
    "regularisers": (regularised, one_input),
    "frozen": (frozen, one_input),
    "mixed precision": (mixed, one_input),
    "named inputs": (two_inputs, named_inputs),
    "paired inputs": (pair, paired_inputs),
    "own train_step": (own_step, one_input),
}


def named(function: Any) -> str:
    return f"{__name__}:{function.__name__}"


def made(kind: str, **more: Any) -> tuple[TensorFlowTrainer, Any, Any]:
    build, load = KINDS[kind]
    data = load()
    x, y = data["x_train"], data["y_train"]
    training = {"batch_size": 16, **more.pop("training", {})}
    experiment = parse({"model": named(build), "training": training})
    scale = inputs.each(lambda _: 1.0, x)
    return TensorFlowTrainer(experiment, x, y, CLASSES, scale, **more), x, y


def by_fit(trainer: TensorFlowTrainer, kind: str, x: Any, y: Any, epochs: int) -> np.ndarray:
    """Train another of the model with Keras' ``fit``, on the same batches in the same order."""
    experiment = parse({"model": named(KINDS[kind][0])})
    like = inputs.each(tf.constant, inputs.rows(x, slice(1)))
    model = models.build(experiment.model, inputs.shapes(x), CLASSES, 0, like)
    compile_model(model, experiment.training, trainer.model.loss)
    model.run_eagerly = True  # So few steps take longer to compile than to run.
    weights = dict(zip(trainer.spec.names, trainer.spec.unravel(trainer.initial), strict=True))
    for variable in model.weights:
        if variable.path in weights:
            variable.assign(weights[variable.path])
    states = seed_states(model)
    if states:
        drawn = stream(0, LAYER_SEEDS, 1, 7).integers(0, 2**32, (len(states), 2), np.uint32)
        for state, value in zip(states, drawn, strict=True):
            state.assign(value.astype(state.dtype))
    shuffle = stream(0, SHUFFLE, 1, 7)
    order = np.concatenate([shuffle.permutation(len(y)) for _ in range(epochs)])
    for start in range(0, epochs * len(y), len(y)):
        at = order[start : start + len(y)]
        model.fit(inputs.rows(x, at), y[at], batch_size=16, shuffle=False, verbose=0)
    after = {v.path: v.numpy() for v in model.weights}
    return trainer.spec.ravel([after[name] for name in trainer.spec.names]) - trainer.initial


@pytest.mark.parametrize("kind", KINDS)
def test_one_client_alone_is_keras_fit(kind: str) -> None:
    trainer, x, y = made(kind)
    train_one(trainer, 1, 1, trainer.initial, inputs.rows(x, slice(20)), y[:20])  # leaves no trace
    trained = train_one(trainer, 7, 1, trainer.initial, x, y, epochs=2).update
    np.testing.assert_allclose(trained.delta, by_fit(trainer, kind, x, y, 2), atol=1e-5)
    assert np.abs(trained.delta).max() > 1e-2


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_learns_federated(kind: str, tmp_path: Path) -> None:
    build, load = KINDS[kind]
    experiment = parse(
        {
            "dataset": named(load),
            "model": named(build),
            "clients": 6,
            "rounds": 4,
            "training": {"batch_size": 5, "local_epochs": 4},
            "resources": {"engine": "inline"},
        }
    )
    result = simulate(experiment, out=tmp_path / "run")
    first, last = result.rounds[0], result.rounds[-1]
    assert last["server_loss"] < 0.9 * first["server_loss"]
    assert last["train_accuracy"] > first["server_accuracy"]
    assert (result.path / "model.keras").stat().st_size > 0


@pytest.mark.soak
def test_two_inputs_give_the_same_bits_on_ray(tmp_path: Path, ray_cluster: Any) -> None:
    experiment = parse(
        {
            "dataset": named(named_inputs),
            "model": named(two_inputs),
            "clients": 6,
            "rounds": 2,
            "partition": {"alpha": 1.0},
            "resources": {"engine": "inline"},
        }
    )
    inline = simulate(experiment, out=tmp_path / "inline")
    pool = experiment.replace(**{"resources.engine": "ray", "resources.workers": 2})
    ray = simulate(pool, out=tmp_path / "ray")
    assert ray.summary["weights_sha256"] == inline.summary["weights_sha256"]


@pytest.mark.parametrize("kind", ["own train_step", "mixed precision"])
def test_a_hook_sees_the_plain_gradient_whatever_the_step(kind: str) -> None:
    """With plain SGD the pull of mu towards the start is known for one step from elsewhere."""
    mu, rate = 0.5, 0.1
    trainer, x, y = made(
        kind, rule=proximal(mu), training={"optimizer": "sgd", "learning_rate": rate}
    )
    plain, _, _ = made(kind, training={"optimizer": "sgd", "learning_rate": rate})
    x, y = inputs.rows(x, slice(16)), y[:16]
    (first,) = train_many(
        trainer, [7], [16], 1, trainer.initial, x, y, epochs=2, shared={"mu": mu}, steps=[1]
    )
    (same,) = train_many(plain, [7], [16], 1, plain.initial, x, y, epochs=2, steps=[1])
    np.testing.assert_array_equal(first.update.delta, same.update.delta)  # w = w0: nothing pulls
    (second,) = train_many(
        trainer, [7], [16], 1, trainer.initial, x, y, epochs=2, shared={"mu": mu}, steps=[2]
    )
    (free,) = train_many(plain, [7], [16], 1, plain.initial, x, y, epochs=2, steps=[2])
    pulled = free.update.delta - rate * mu * first.update.delta
    np.testing.assert_allclose(second.update.delta, pulled, atol=1e-6)
    assert np.abs(pulled - free.update.delta).max() > 1e-4


class Silent(Smoothed):
    def train_step(self, data: Any) -> dict[str, Any]:
        return {"accuracy": tf.constant(0.5)}


class Twofold(Smoothed):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.second = keras.optimizers.SGD()


class Choosy(Smoothed):
    def compile(self, *, temperature: float, **options: Any) -> None:
        super().compile(**options)
        self.temperature = temperature


class Unsaved(Smoothed):
    def __init__(self, weigh: Any = len) -> None:
        super().__init__()
        self.weigh = weigh

    def get_config(self) -> dict[str, Any]:
        raise NotImplementedError("no config")


def two_outputs() -> keras.Model:
    given = keras.Input((6,))
    return keras.Model(given, [layers.Dense(CLASSES)(given), layers.Dense(CLASSES)(given)])


REFUSED: list[tuple[Any, dict[str, Any], str]] = [
    (Silent, {}, "train_step of model 'silent' must return a mapping with 'loss', got accuracy"),
    (Twofold, {}, "model 'twofold' must have one optimizer, the one it is compiled with, got "
     "another in second"),
    (Choosy, {}, "model 'choosy' must be compiled by its function, as it has a compile of its own"),
    (Unsaved, {}, "model 'unsaved' must be one that Keras can save (a get_config of its own "
     "helps), got NotImplementedError: no config"),
    (two_outputs, {}, "model 'functional' must have one output, got a list"),
    (two_inputs, {}, "model 'functional' cannot take examples of shape (6,): "),
]  # fmt: skip


@pytest.mark.parametrize(("build", "training", "message"), REFUSED, ids=lambda v: str(v)[:20])
def test_models_that_are_refused(build: Any, training: dict[str, Any], message: str) -> None:
    experiment = parse({"model": named(build), "training": training})
    with pytest.raises(ModelError) as caught:
        trainer = TensorFlowTrainer(experiment, LEFT, Y, CLASSES, 1.0)
        train_one(trainer, 0, 1, trainer.initial, LEFT[:4], Y[:4])
    assert str(caught.value).startswith(message)


def test_built_in_models_take_one_input() -> None:
    x = {"left": LEFT, "words": WORDS}
    with pytest.raises(ModelError, match="model 'mlp' takes one input, but the dataset has 2: "):
        TensorFlowTrainer(parse({"model": "mlp"}), x, Y, CLASSES, {"left": 1.0, "words": 1.0})
