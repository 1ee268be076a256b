"""What is used of Keras beyond its public interface is there and means what it did."""

from __future__ import annotations

import random
from functools import partial
from threading import Thread
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from simulation.training.keras import private, rescaling
from tests.simulation.contracts import contract

X, Y = np.ones((4, 3), np.float32), np.array([0, 1, 1, 0])

keras_contract = partial(contract, private)


def absolute(y: Any, output: Any) -> Any:
    return keras.ops.mean(keras.ops.abs(y - output), axis=-1)


def plain(ends: str = "softmax") -> keras.Model:
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, activation=ends)])


@pytest.fixture(scope="module")
def model() -> keras.Model:
    """A model that is compiled and has seen a batch."""
    made = plain()
    made.compile(
        optimizer="sgd",
        loss="sparse_categorical_crossentropy",
        loss_weights=0.5,
        metrics=["accuracy"],
        weighted_metrics=[keras.metrics.SparseCategoricalAccuracy(name="by_weight")],
    )
    made.evaluate(X, Y, verbose=0)
    return made


@keras_contract("compiled_loss", "Model._compile_loss")
def test_the_loss_that_a_model_is_compiled_with(model: keras.Model) -> None:
    output = model(X)
    mean = keras.ops.mean(keras.losses.sparse_categorical_crossentropy(Y, output))
    assert float(private.compiled_loss(model)(Y, output)) == pytest.approx(0.5 * float(mean))
    assert private.compiled_loss(plain()) is None


@keras_contract("compiled_metrics", "Model._compile_metrics")
def test_the_metrics_that_a_model_is_compiled_with(model: keras.Model) -> None:
    whole = private.compiled_metrics(model)
    assert whole.built and any(one is whole for one in model.metrics)
    assert [m.name for m in whole.metrics] == ["accuracy", "by_weight"]
    assert private.compiled_metrics(plain()) is None


@keras_contract("loss_tracker", "Model._loss_tracker")
def test_the_mean_loss_among_the_metrics(model: keras.Model) -> None:
    tracker = private.loss_tracker(model)
    assert any(one is tracker for one in model.metrics)
    loss = model.evaluate(X, Y, verbose=0, return_dict=True)["loss"]
    assert float(tracker.result()) == loss
    assert private.loss_tracker(plain()) is None


@keras_contract("compile_arguments", "CompileLoss._user_loss and what is like it")
def test_what_compile_was_given_comes_back(model: keras.Model) -> None:
    metric = keras.metrics.MeanSquaredError()
    made = plain()
    assert set(private.compile_arguments(made).values()) == {None}
    made.compile(loss=absolute, metrics=[metric])
    found = private.compile_arguments(made)
    assert found["loss"] is absolute and found["loss_weights"] is None
    assert found["metrics"][0] is metric and found["weighted_metrics"] is None
    found = private.compile_arguments(model)
    assert found["loss"] == "sparse_categorical_crossentropy" and found["loss_weights"] == 0.5
    assert found["metrics"] == ["accuracy"] and found["weighted_metrics"][0].name == "by_weight"
    made.compile(**found)


@keras_contract("loss_of_output", "CompileLoss._flat_losses")
def test_the_loss_object_of_an_output(model: keras.Model) -> None:
    loss, weight = private.loss_of_output(private.compiled_loss(model))
    assert isinstance(loss, keras.losses.Loss) and weight == 0.5
    assert np.allclose(
        loss.call(tf.constant(Y), model(X)),
        keras.losses.sparse_categorical_crossentropy(Y, model(X)),
    )


@keras_contract("weighted_metrics", "CompileMetrics._flat_weighted_metrics")
def test_the_metrics_that_go_by_weights(model: keras.Model) -> None:
    whole = private.compiled_metrics(model)
    assert [m.name for m in private.weighted_metrics(whole)] == ["by_weight"]


@keras_contract("metric_function", "MeanMetricWrapper._fn and ._fn_kwargs")
def test_the_function_of_a_metric(model: keras.Model) -> None:
    first, _ = private.compiled_metrics(model).metrics
    assert private.metric_function(first) == (keras.metrics.sparse_categorical_accuracy, {})
    strict = private.metric_function(keras.metrics.BinaryAccuracy(threshold=0.8))
    assert strict == (keras.metrics.binary_accuracy, {"threshold": 0.8})
    assert private.metric_function(keras.metrics.AUC()) == (None, {})


@keras_contract("layers_of", "Layer._flatten_layers")
def test_the_layers_of_layers() -> None:
    inner, last = plain("linear"), keras.layers.Dense(1)
    outer = keras.Sequential([keras.Input((3,)), inner, last])
    assert private.layers_of(outer)[0] is outer
    found = {id(layer) for layer in private.layers_of(outer, include_self=False)}
    assert {id(inner), id(inner.layers[0]), id(last)} <= found and id(outer) not in found


@keras_contract("added_losses", "Layer._losses")
def test_the_losses_that_a_layer_adds() -> None:
    layer = keras.layers.Dense(2)
    layer(X)
    assert not private.added_losses(layer)
    layer.add_loss(keras.ops.sum(X))
    assert [float(loss) for loss in private.added_losses(layer)] == [12.0]


@keras_contract("rate_setting", "Optimizer._learning_rate")
def test_the_schedule_of_an_optimizer() -> None:
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9)
    assert private.rate_setting(keras.optimizers.Adam(schedule)) is schedule
    simple = keras.optimizers.Adam(0.25)
    assert private.rate_setting(simple) is simple.learning_rate


@keras_contract("exclusions", "what Optimizer.exclude_from_weight_decay keeps")
def test_weights_without_decay() -> None:
    given, made = (keras.optimizers.AdamW(0.1, weight_decay=0.5) for _ in range(2))
    assert private.exclusions(given) == {}
    given.exclude_from_weight_decay(var_names=["bias"])
    for name, value in private.exclusions(given).items():
        setattr(made, name, value)
    weights = [keras.Variable(np.ones(2), name=name) for name in ("kernel", "bias")]
    made.apply([tf.zeros(2), tf.zeros(2)], weights)
    assert float(weights[0][0]) < 1 and float(weights[1][0]) == 1


@keras_contract("WITHOUT_DECAY", "what Optimizer.exclude_from_weight_decay keeps")
def test_all_that_is_kept_of_weights_without_decay_is_known() -> None:
    optimizer = keras.optimizers.SGD()
    before = set(vars(optimizer))
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    new = {name for name in set(vars(optimizer)) - before if not name.endswith("_cache")}
    assert new == set(private.WITHOUT_DECAY)


@keras_contract("maker_of", "KerasTensor._keras_history")
def test_the_layer_that_a_model_ends_with() -> None:
    given, last = keras.Input((3,)), keras.layers.Dense(2)
    assert private.maker_of(keras.Model(given, last(given)).outputs[0]) is last
    assert private.maker_of(tf.zeros(2)) is None


@keras_contract("mask_of", "keras.src.backend.get_keras_mask")
def test_the_mask_of_a_tensor() -> None:
    output = keras.layers.Embedding(5, 2, mask_zero=True)(np.array([[1, 0, 3]]))
    assert np.array(private.mask_of(output)).tolist() == [[True, False, True]]
    assert private.mask_of(tf.zeros(2)) is None


@keras_contract("applications", "Operation._inbound_nodes")
def test_where_an_operation_is_applied() -> None:
    layer = keras.layers.Dense(3)
    given = keras.Input((3,))
    once = layer(given)
    twice = layer(once)
    found = [
        ([id(t) for t in taken], [id(t) for t in out]) for taken, out in private.applications(layer)
    ]
    assert found == [([id(given)], [id(once)]), ([id(once)], [id(twice)])]


OPERATIONS = {
    "Add": lambda x: x + 1.0,
    "Subtract": lambda x: x - 1.0,
    "Multiply": lambda x: x * 2.0,
    "Divide": lambda x: keras.ops.divide(x, 2.0),
    "TrueDivide": lambda x: x / 2.0,
    "Cast": lambda x: keras.ops.cast(x, "float16"),
    "GetItem": lambda x: x[..., ::-1],
    "Reshape": lambda x: keras.ops.reshape(x, (-1, 2, 2)),
    "Transpose": lambda x: keras.ops.transpose(x),
    "ExpandDims": lambda x: keras.ops.expand_dims(x, -1),
    "Concatenate": lambda x: keras.ops.concatenate([x, x]),
    "Stack": lambda x: keras.ops.stack([x, x]),
    "Flip": lambda x: keras.ops.flip(x, -1),
}
"""An expression of each operation that is known by the name of its class."""


def kinds(names: tuple[str, ...]) -> dict[str, str]:
    given = keras.Input((4,))
    made = {name: private.maker_of(OPERATIONS[name](given)) for name in names}
    return {name: type(operation).__name__ for name, operation in made.items()}


@keras_contract("ARITHMETIC", "the classes of keras.ops functions")
def test_the_names_of_arithmetic() -> None:
    assert kinds(private.ARITHMETIC) == {name: name for name in private.ARITHMETIC}
    given = keras.Input((4,))
    assert rescaling.rescales(keras.Model(given, given / 255.0))


@keras_contract("PASSING", "the classes of keras.ops functions")
def test_the_names_of_operations_that_leave_values_alone() -> None:
    assert kinds(private.PASSING) == {name: name for name in private.PASSING}
    given = keras.Input((4,))
    assert rescaling.rescales(keras.Model(given, given[..., ::-1] - 1.0))
    assert not rescaling.rescales(keras.Model(given, given[..., ::-1]))


@keras_contract("functional", "keras.src.models.functional.Functional")
def test_the_class_of_functional_models() -> None:
    given = keras.Input((3,))
    made = keras.Model(given, keras.layers.Dense(2)(given))
    assert type(made) is private.functional()
    assert type(plain()) is not private.functional()


@keras_contract("wrapped_function", "keras.src.losses.losses.LossFunctionWrapper")
def test_the_function_of_a_loss_that_keras_has_made() -> None:
    made = plain()
    made.compile(loss=absolute)
    made.evaluate(X, np.ones((4, 2)), verbose=0)
    loss, _ = private.loss_of_output(private.compiled_loss(made))
    assert private.wrapped_function(loss) is absolute
    assert private.wrapped_function(keras.losses.MeanSquaredError()) is None
    assert private.wrapped_function(absolute) is None


@keras_contract("global_seed GLOBAL_SEED", "Keras' global state and its global_seed_generator")
def test_the_global_seed() -> None:
    found: list[Any] = []

    def look() -> None:  # Keras' global state belongs to a thread.
        found.append(private.global_seed())
        keras.random.uniform((1,))
        state = private.global_seed()
        assert state is not None
        before = state.numpy()
        found.append(float(keras.random.uniform((1,))[0]))
        state.assign(before)
        found.append(float(keras.random.uniform((1,))[0]))

    thread = Thread(target=look)
    thread.start()
    thread.join()
    none, drawn, again = found
    assert none is None and drawn == again


@keras_contract("PREPROCESSING", "the modules of preprocessing layers")
def test_the_modules_of_layers_that_adapt() -> None:
    layers = keras.layers
    adapting = (
        layers.Normalization, layers.Discretization, layers.StringLookup, layers.IntegerLookup,
        layers.TextVectorization, layers.HashedCrossing, layers.Hashing, layers.CategoryEncoding,
    )  # fmt: skip
    assert all(private.PREPROCESSING in kind.__module__ for kind in adapting)
    others = (layers.Dense, layers.Dropout, layers.BatchNormalization, keras.Sequential)
    assert not any(private.PREPROCESSING in kind.__module__ for kind in others)


@keras_contract("set_mask", "set_keras_mask")
def test_losses_average_over_the_rows_that_a_mask_leaves() -> None:
    output = keras.ops.convert_to_tensor([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5], [0.7, 0.3]])
    valid = keras.ops.convert_to_tensor([True, False, True, False])
    private.set_mask(output, valid)
    assert private.mask_of(output) is valid
    found = keras.losses.SparseCategoricalCrossentropy()(Y, output)
    assert float(found) == pytest.approx(-(np.log(0.9) + np.log(0.5)) / 2, abs=1e-6)


@keras_contract("random_draws", "uniform, normal, truncated_normal and draw_seed")
@pytest.mark.parametrize(
    ("draw", "initializer"),
    [
        ("uniform", keras.initializers.GlorotUniform),
        ("normal", keras.initializers.RandomNormal),
        ("truncated_normal", keras.initializers.HeNormal),
    ],
)
def test_initialisers_draw_from_their_backend(
    draw: str, initializer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, draw_seed = private.random_draws()
    plain, seen = getattr(module, draw), []

    def noted(*given: Any, **options: Any) -> Any:
        seen.append(options)
        return plain(*given, **options)

    expected = np.asarray(initializer(seed=7)((3, 2)))
    monkeypatch.setattr(module, draw, noted)
    np.testing.assert_array_equal(np.asarray(initializer(seed=7)((3, 2))), expected)
    (options,) = seen
    assert np.asarray(draw_seed(options["seed"])).shape == (2,)


@keras_contract("lazy_tensorflow", "module_utils.tensorflow")
def test_keras_asks_whether_tensorflow_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    library = private.lazy_tensorflow()
    seeds: list[int] = []
    monkeypatch.setattr(tf.random, "set_seed", seeds.append)
    before = random.getstate(), np.random.get_state()
    monkeypatch.setattr(library, "_available", False)
    keras.utils.set_random_seed(5)
    assert not seeds and not library.available
    monkeypatch.setattr(library, "_available", True)
    keras.utils.set_random_seed(5)
    assert seeds == [5]
    random.setstate(before[0])
    np.random.set_state(before[1])
