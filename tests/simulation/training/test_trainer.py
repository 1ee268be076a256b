"""Local training against Keras' own ``fit`` on the same batches, and its other laws."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

from simulation.config.experiment import parse
from simulation.training.backend import ModelError
from simulation.training.plan import SHUFFLE
from simulation.training.tensorflow.graph import Graph
from simulation.training.tensorflow.one_kernel import one_kernel
from simulation.training.tensorflow.process import prepare_tensorflow
from simulation.training.tensorflow.trainer import TensorFlowTrainer
from strategies import ClientRule, proximal
from strategies.random_streams import stream
from tests.simulation.tools import train_many, train_one

prepare_tensorflow(1)
RNG = np.random.default_rng(3)
X = RNG.normal(size=(41, 6)).astype(np.float32)
Y = RNG.integers(0, 3, 41)


def plain() -> keras.Model:
    return keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])


def normalised() -> keras.Model:
    layers = keras.layers
    return keras.Sequential(
        [keras.Input((6,)), layers.Dense(5), layers.BatchNormalization(), layers.Dense(3)]
    )


def compiled() -> keras.Model:
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3, activation="softmax")])
    model.compile(keras.optimizers.Adam(0.02), "sparse_categorical_crossentropy")
    return model


def frozen() -> keras.Model:
    first = keras.layers.Dense(4, trainable=False)
    return keras.Sequential([keras.Input((6,)), first, keras.layers.Dense(3)])


def dropping() -> keras.Model:
    layers = keras.layers
    return keras.Sequential(
        [keras.Input((6,)), layers.Dense(16), layers.Dropout(0.5), layers.Dense(3)]
    )


def trainer(build: Callable[[], keras.Model], rule: ClientRule | None = None, **training: Any):
    name = f"{__name__}:{build.__name__}"
    training = {"batch_size": 16, **training}
    return TensorFlowTrainer(parse({"model": name, "training": training}), X, Y, 3, 1.0, rule)


def by_fit(made: TensorFlowTrainer, epochs: int) -> np.ndarray:
    """Train a copy of the trainer's model with ``fit`` on the same batches in the same order."""
    model = keras.models.clone_model(made.model)
    weights = dict(zip(made.spec.names, made.spec.unravel(made.initial), strict=True))
    for variable, twin in zip(made.model.weights, model.weights, strict=True):
        twin.assign(weights.get(variable.path, variable.numpy()))
    own = made.model.optimizer
    # Eager, so few steps take less time; but not where gradients are nothing but rounding: below.
    eager = not any(isinstance(one, keras.layers.BatchNormalization) for one in model.layers)
    model.compile(type(own).from_config(own.get_config()), made.model.loss, run_eagerly=eager)
    shuffle = stream(0, SHUFFLE, 1, 7)
    for _ in range(epochs):
        order = shuffle.permutation(len(X))
        # The loss by the same kernel: Adam takes steps of full size on gradients that are nothing
        # but rounding, as those of a bias before BatchNormalization are.
        with one_kernel(keras.losses.get(model.loss)):
            model.fit(X[order], Y[order], batch_size=16, shuffle=False, verbose=0)
    places = {v.path: i for i, v in enumerate(made.model.weights)}
    twins = [model.weights[places[name]].numpy() for name in made.spec.names]
    return made.spec.ravel(twins) - made.initial


@pytest.mark.parametrize("build", [plain, normalised, compiled])
@pytest.mark.parametrize("options", [{}, {"optimizer": "adam", "learning_rate": 0.01}])
def test_one_client_trains_as_keras_fit_does(build: Any, options: dict[str, Any]) -> None:
    made = trainer(build, **options)
    update = train_one(made, 7, 1, made.initial, X, Y, epochs=2).update
    assert update.steps == 2 * 3  # 41 examples: two full batches and a short one
    np.testing.assert_allclose(update.delta, by_fit(made, 2), atol=1e-6)
    assert np.abs(update.delta).max() > 1e-3


def test_momentum_starts_afresh_for_every_client() -> None:
    made = trainer(plain, momentum=0.9)
    first = train_one(made, 7, 1, made.initial, X, Y, epochs=2).update.delta
    again = train_one(made, 7, 1, made.initial, X, Y, epochs=2).update.delta
    np.testing.assert_array_equal(first, again)
    np.testing.assert_allclose(first, by_fit(made, 2), atol=1e-6)


def test_optimizer_goes_on_where_it_was_when_its_slots_are_given() -> None:
    made = trainer(plain, optimizer="adam")
    one = train_one(made, 7, 1, made.initial, X, Y, slots=made.initial_slots)
    model = made.initial + one.update.delta
    fresh = train_one(made, 7, 2, model, X, Y).update.delta
    on = train_one(made, 7, 2, model, X, Y, slots=one.slots).update.delta
    assert np.abs(fresh - on).max() > 1e-4


def test_moving_statistics_travel_behind_the_trainable_part() -> None:
    made = trainer(normalised)
    tail = slice(made.spec.trainable_size, None)
    assert made.spec.names[made.spec.trainable :] == tuple(
        v.path for v in made.model.non_trainable_weights
    )
    delta = train_one(made, 7, 1, made.initial, X, Y).update.delta
    assert delta[tail].size == 10 and (delta[tail] != 0).all()


def test_frozen_layers_stay_at_home() -> None:
    made = trainer(frozen)
    assert made.spec.size == 4 * 3 + 3


def test_dropout_is_drawn_from_seed_round_and_client() -> None:
    made = trainer(dropping)
    one = train_one(made, 7, 1, made.initial, X[:16], Y[:16]).update.delta
    other = trainer(dropping)
    train_one(other, 1, 1, made.initial, X, Y)
    np.testing.assert_array_equal(
        one, train_one(other, 7, 1, made.initial, X[:16], Y[:16]).update.delta
    )
    # One full batch: the order of the rows cannot matter, the dropped units do.
    for client, round in ((8, 1), (7, 2)):
        changed = train_one(other, client, round, made.initial, X[:16], Y[:16]).update.delta
        assert np.abs(changed - one).max() > 1e-4


def test_clients_of_any_size_share_one_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    step, traced = Graph.step, []

    def counted(self: Graph, *args: Any) -> Any:
        traced.append(1)  # Python runs this when a graph is made, not when it is used.
        return step(self, *args)

    monkeypatch.setattr(Graph, "step", counted)
    made = trainer(plain)
    for n in (1, 2, 15, 16, 17, 32, 41):
        train_one(made, 0, 1, made.initial, X[:n], Y[:n])
    assert len(traced) == 1


@pytest.mark.parametrize("count", [1, 3, 16])
def test_clients_of_one_call_train_as_each_alone(count: int) -> None:
    one = trainer(normalised, optimizer="adam")
    assert one.together == 16
    sizes = [1 + k % 3 for k in range(count)]
    ends = np.cumsum(sizes)
    rows = X[: ends[-1]], Y[: ends[-1]]
    found = train_many(one, list(range(count)), sizes, 1, one.initial, *rows)
    assert [done.update.client for done in found] == list(range(count))
    for client, (done, end, n) in enumerate(zip(found, ends, sizes, strict=True)):
        alone = train_one(one, client, 1, one.initial, X[end - n : end], Y[end - n : end])
        np.testing.assert_array_equal(done.update.delta, alone.update.delta)
        assert done.update.metrics == alone.update.metrics


def test_a_call_takes_no_more_clients_than_its_graph_gives_back() -> None:
    one = trainer(plain)
    many = one.together + 1
    with pytest.raises(ValueError, match=f"clients must be at most {one.together}, got {many}"):
        train_many(one, list(range(many)), [1] * many, 1, one.initial, X[:many], Y[:many])


def test_proximal_hook_inside_the_graph_is_the_formula() -> None:
    mu, rate = 0.7, 0.5
    made = trainer(plain, proximal(mu), learning_rate=rate)
    update = train_one(made, 7, 1, made.initial, X, Y, shared={"mu": mu}).update
    kernel, bias = (a.astype(np.float64) for a in made.spec.unravel(made.initial))
    start_kernel, start_bias = kernel, bias
    order = stream(0, SHUFFLE, 1, 7).permutation(41)
    for rows in (order[:16], order[16:32], order[32:]):
        scores = X[rows] @ kernel + bias
        odds = np.exp(scores - scores.max(1, keepdims=True))
        error = (odds / odds.sum(1, keepdims=True) - np.eye(3)[Y[rows]]) / len(rows)
        kernel, bias = (
            kernel - rate * (X[rows].T @ error + mu * (kernel - start_kernel)),
            bias - rate * (error.sum(0) + mu * (bias - start_bias)),
        )
    expected = np.concatenate([(kernel - start_kernel).ravel(), bias - start_bias])
    np.testing.assert_allclose(update.delta, expected, atol=1e-6)


def test_full_batch_rule_takes_one_step_on_everything() -> None:
    made = trainer(plain, ClientRule("one", full_batch=True, initial_loss=True))
    update = train_one(made, 7, 1, made.initial, X, Y, epochs=5).update
    assert update.steps == 1
    assert update.metrics["initial_loss"] == pytest.approx(update.metrics["loss"], rel=1e-6)


def test_evaluation_is_keras_own() -> None:
    made = trainer(compiled)
    found = made.evaluator.evaluate(made.initial, X, Y, np.arange(41), batch=10)
    model = made.model
    model.compile(loss=model.loss, metrics=["accuracy"])
    expected = model.evaluate(X, Y, verbose=0)
    np.testing.assert_allclose([found.loss[0] / 41, found.right[0] / 41], expected, rtol=1e-5)


def wrong_input() -> keras.Model:
    return keras.Sequential([keras.Input((7,)), keras.layers.Dense(3)])


def too_narrow() -> keras.Model:
    return keras.Sequential([keras.Input((6,)), keras.layers.Dense(2)])


def no_model() -> str:
    return "a model"


def failing() -> keras.Model:
    raise KeyError("width")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (too_narrow, "model output must have at least 3 units (classes of the dataset), got 2"),
        (no_model, f"model '{__name__}:no_model' must return a Keras model, got str"),
        (failing, f"model '{__name__}:failing' failed to build: KeyError: 'width'"),
    ],
)
def test_models_that_do_not_fit(build: Any, message: str) -> None:
    with pytest.raises(ModelError) as caught:
        trainer(build)
    assert str(caught.value) == message


def test_model_that_takes_other_inputs() -> None:
    with pytest.raises(ModelError, match=r"cannot take examples of shape \(6,\): "):
        trainer(wrong_input)
