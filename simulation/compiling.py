"""What training needs to know of a Keras model: its optimiser, its loss, what of it travels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras

from simulation.experiment import Training
from simulation.models import ModelError


def compile_model(model: keras.Model, training: Training) -> None:
    """Compile a model: what the experiment says, else what the model was compiled with.

    Raises:
        ModelError: for an optimiser that Keras does not have.
    """
    given = model.optimizer if model.compiled else None
    if training.optimizer is not None or given is None:
        optimizer = make_optimizer(
            training.optimizer or "sgd", training.learning_rate or 0.05, training.momentum
        )
    else:
        # A fresh one of the same settings: the user's may carry steps already taken.
        optimizer = type(given).from_config(given.get_config())
        if training.learning_rate is not None:
            optimizer.learning_rate = training.learning_rate
    if type(model).compile is not keras.Model.compile:
        if given is None:
            raise ModelError(
                f"model {model.name!r} must be compiled by its function, as it has a compile of "
                "its own"
            )
        if training.loss is not None:
            raise ModelError(
                f"training.loss must be left out for model {model.name!r}, which has a compile of "
                f"its own, got {training.loss!r}"
            )
    loss = training.loss or (model.loss if model.compiled else None) or default_loss(model)
    kept = getattr(model, "_compile_config", None)
    kept = {} if kept is None else kept.config
    names = ("loss_weights", "metrics", "weighted_metrics")
    # Keras' own compile: one of the user's may want more arguments, which it has had already.
    keras.Model.compile(
        model, optimizer=optimizer, loss=loss, **{name: kept.get(name) for name in names}
    )
    # Mixed precision may have put a loss scale around it.
    model.optimizer.build(model.trainable_variables)


def make_optimizer(name: str, learning_rate: float, momentum: float = 0.0) -> keras.Optimizer:
    """Return a Keras optimiser by name; ``momentum`` goes to those that know it."""
    config: dict[str, Any] = {"learning_rate": learning_rate}
    if momentum:
        config["momentum"] = momentum
    try:
        return keras.optimizers.get({"class_name": name, "config": config})
    except (ValueError, TypeError) as error:
        raise ModelError(
            f"training.optimizer must be a Keras optimizer that takes {', '.join(config)}, "
            f"got {name!r}"
        ) from error


def default_loss(model: keras.Model) -> keras.losses.Loss:
    """Return sparse cross-entropy, on logits or on probabilities as the last layer says."""
    activation = getattr(model.layers[-1], "activation", None) if model.layers else None
    logits = activation is not keras.activations.softmax and not isinstance(
        model.layers[-1], keras.layers.Softmax
    )
    return keras.losses.SparseCategoricalCrossentropy(from_logits=logits)


def plain_learning_rate(optimizer: keras.Optimizer) -> float | None:
    """Return an optimiser's learning rate, None when it is a schedule."""
    rate = optimizer.learning_rate
    return float(rate.numpy()) if isinstance(rate, keras.Variable) else None


def sgd_of(optimizer: keras.Optimizer) -> tuple[float, bool] | None:
    """Return momentum of an SGD and whether it is Nesterov's; None for every other optimiser.

    One that takes a step for several batches, or puts averages in the place of the weights, is
    another; so is a subclass.
    """
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    plain = type(inner) is keras.optimizers.SGD and not inner.use_ema
    if not plain or inner.gradient_accumulation_steps:
        return None
    return float(inner.momentum), bool(inner.nesterov)


@contextmanager
def at_rate(optimizer: keras.Optimizer, rate: float | None) -> Iterator[float | None]:
    """Let an optimiser step at another learning rate meanwhile; None leaves it as it is.

    Graphs read the rate from its variable: nothing is compiled again.

    Yields:
        The rate as the variable holds it.

    Raises:
        ValueError: when the rate is a schedule.
    """
    if rate is None:
        yield None
        return
    variable = optimizer.learning_rate
    if not isinstance(variable, keras.Variable):
        raise ValueError(
            f"lr must be left out for an optimizer whose learning rate is a schedule, got {rate!r}"
        )
    before = variable.numpy()
    variable.assign(rate)
    try:
        yield float(variable.numpy())
    finally:
        variable.assign(before)


def statistics(model: keras.Model) -> list[keras.Variable]:
    """Return the float weights that training changes without gradients: moving statistics.

    Weights of frozen layers stay as built on every worker and do not travel.
    """
    frozen = {
        id(v) for layer in model._flatten_layers() if not layer.trainable for v in layer.weights
    }
    return [
        v
        for v in model.non_trainable_weights
        if id(v) not in frozen and str(v.dtype).startswith(("float", "bfloat"))
    ]


def other_states(model: keras.Model) -> list[keras.Variable]:
    """Return the weights that neither travel nor are frozen: counters and the like.

    A client that found them as the last one left them would depend on who trained before it.
    """
    travelling = {id(v) for v in [*model.trainable_variables, *statistics(model)]}
    frozen = {
        id(v) for layer in model._flatten_layers() if not layer.trainable for v in layer.weights
    }
    return [v for v in model.weights if id(v) not in travelling | frozen]


def seed_states(model: keras.Model) -> list[keras.Variable]:
    """Return the states of the model's seed generators (dropout and its like)."""
    weights = {id(v) for v in model.weights}
    return [v for v in model.variables if id(v) not in weights and tuple(v.shape) == (2,)]
