"""What training needs to know of a Keras model: its optimiser, its loss, what of it travels."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import keras

from simulation.config.fields import is_number
from simulation.config.sections import Training
from simulation.training.backend import ModelError
from simulation.training.keras import private
from strategies import checks

DEFAULT_RATE = 0.05
"""Learning rate of the default optimiser, plain SGD."""


def compile_model(model: keras.Model, training: Training, loss: Any = None) -> None:
    """Compile a model: what the experiment says, else what the model was compiled with.

    Args:
        model: the model; what it was compiled with holds, but for its optimiser's state.
        training: what the experiment overrides.
        loss: the loss of a model that has none.

    Raises:
        ModelError: for an optimiser or loss that Keras does not have, and for an override that
            the model's own optimiser could not follow.
    """
    given = model.optimizer if model.compiled else None
    optimizer = optimizer_for(model, given, training)
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
    own = private.compile_arguments(model)
    if training.loss is not None:
        own |= {"loss": named_loss(training.loss), "loss_weights": None}
    elif private.compiled_loss(model) is None:
        own["loss"] = loss
    # Keras' own compile: one of the user's may want more arguments, which it has had already.
    keras.Model.compile(model, optimizer=optimizer, **own)
    # Mixed precision may have put a loss scale around it.
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)


def optimizer_for(
    model: keras.Model, given: keras.Optimizer | None, training: Training
) -> keras.Optimizer:
    """Return a fresh optimiser: what the experiment says, else the model's own.

    Raises:
        ModelError: for one that Keras does not have, or an override that it cannot follow.
    """
    if given is None:
        return make_optimizer(
            training.optimizer_name or "sgd", training.learning_rate, training.momentum,
            training.optimizer_options,
        )  # fmt: skip
    rate: Any = training.learning_rate
    inner = getattr(given, "inner_optimizer", given)
    setting = private.rate_setting(inner)
    schedule = not isinstance(setting, keras.Variable)
    if rate is not None and schedule:
        raise ModelError(
            f"training.learning_rate must be left out for model {model.name!r}, whose optimizer "
            f"follows {type(setting).__name__}, got {rate!r}"
        )
    if training.optimizer_name is not None:
        # The model's own learning rate still holds: only the optimiser is another.
        own = setting if schedule else float(inner.learning_rate.numpy())
        return make_optimizer(
            training.optimizer_name, own if rate is None else rate, training.momentum,
            training.optimizer_options,
        )  # fmt: skip
    return fresh(model, given, rate, training.momentum)


def fresh(
    model: keras.Model, given: keras.Optimizer, rate: float | None, momentum: float
) -> keras.Optimizer:
    """Return an optimiser of the settings of one that may carry steps already taken.

    Args:
        model: whose it is, for the message.
        given: the model's own.
        rate: the learning rate, if another.
        momentum: the momentum, if above 0.

    Raises:
        ModelError: when it has no momentum to set.
    """
    inner = getattr(given, "inner_optimizer", None)
    if inner is not None:
        config = {k: v for k, v in given.get_config().items() if k != "inner_optimizer"}
        return type(given)(fresh(model, inner, rate, momentum), **config)
    config = given.get_config()
    if momentum:
        if "momentum" not in config:
            raise ModelError(
                f"training.momentum must be left out for model {model.name!r}, whose optimizer "
                f"{type(given).__name__} has none, got {momentum!r}"
            )
        config["momentum"] = momentum
    made = type(given).from_config(config)
    if rate is not None:
        made.learning_rate = rate
    # Weights without decay are no part of the settings that an optimiser tells.
    for name, value in private.exclusions(given).items():
        setattr(made, name, value)
    return made


def make_optimizer(
    name: str, learning_rate: Any, momentum: float = 0.0, options: Mapping[str, Any] | None = None
) -> keras.Optimizer:
    """Return a Keras optimiser by name; ``momentum`` goes to those that know it.

    Args:
        name: as Keras knows it.
        learning_rate: a number or a schedule; None: 0.05 for SGD, else the optimiser's own.
        momentum: above 0 for optimisers that have one.
        options: further ones of the optimiser's class.

    Raises:
        ModelError: for an optimiser or an option that Keras does not have.
    """
    config: dict[str, Any] = {}
    if learning_rate is not None:
        config["learning_rate"] = learning_rate
    elif name.lower() == "sgd":
        config["learning_rate"] = DEFAULT_RATE
    if momentum:
        config["momentum"] = momentum
    try:
        kind = type(keras.optimizers.get(name))
        made = kind(**config)
    except (ValueError, TypeError) as error:
        raise ModelError(
            f"training.optimizer must be a Keras optimizer that takes "
            f"{', '.join(config) or 'no options'}, got {name!r}"
        ) from error
    if not options:
        return made
    _check_options(kind, options)
    try:
        return kind(**config, **options)
    except (ValueError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise ModelError(
            f"training.optimizer must have options that {kind.__name__} takes together ({reason}), "
            f"got {dict(options)}"
        ) from error


_OURS = ("self", "learning_rate", "momentum", "name", "kwargs")
"""Arguments of an optimiser that are no options, or go by other keys."""


def _check_options(kind: type[keras.Optimizer], options: Mapping[str, Any]) -> None:
    """Raise ModelError for an option that an optimiser's class does not have, or of another type.

    Its signature tells which there are, and their defaults what they are; those without one are
    numbers, but for lists of names.
    """
    signature = inspect.signature(kind.__init__).parameters
    known = [name for name in signature if name not in _OURS]
    if "momentum" in signature:
        known = ["momentum", *known]
    for name, value in options.items():
        field = f"training.optimizer: option of {kind.__name__}"
        try:
            checks.one_of(field, name, known)
        except ValueError as error:
            raise ModelError(str(error)) from None
        default = signature[name].default
        if isinstance(default, bool):
            fits, rule = isinstance(value, bool), "true or false"
        elif isinstance(default, int | float) or (default is None and name != "exclude_layers"):
            fits, rule = is_number(value), "a number"
        else:
            fits, rule = isinstance(value, list | tuple), "a list"
        if not fits:
            raise ModelError(f"training.optimizer.{name} must be {rule}, got {value!r}")


def named_loss(name: str) -> Any:
    """Return a name of a loss if Keras has such a loss.

    Raises:
        ModelError: when it does not.
    """
    if name.lower() in ("crossentropy", "ce"):
        return name
    try:
        keras.losses.get(name)
    except (ValueError, TypeError) as error:
        raise ModelError(
            f"training.loss must be a Keras loss by name, such as 'mse' or "
            f"'sparse_categorical_crossentropy', got {name!r}"
        ) from error
    return name


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
        id(v) for layer in private.layers_of(model) if not layer.trainable for v in layer.weights
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
        id(v) for layer in private.layers_of(model) if not layer.trainable for v in layer.weights
    }
    return [v for v in model.weights if id(v) not in travelling | frozen]


def seed_states(model: keras.Model) -> list[keras.Variable]:
    """Return the states of the model's seed generators (dropout and its like)."""
    weights = {id(v) for v in model.weights}
    return [v for v in model.variables if id(v) not in weights and tuple(v.shape) == (2,)]
