"""Trainers that outlive a run: the next run of the same kind finds its graphs compiled.

Runs that differ in seed, partition, cohort or server rule alone train with the same graph. What a
trainer computes depends on its arguments alone, so that the bits are those of a fresh one.
"""

from __future__ import annotations

from collections import OrderedDict
from types import CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from simulation.config import plugins
from simulation.datasets import inputs
from simulation.training.backend import ModelError, Trainer, backend
from strategies.client_rule import ClientRule
from strategies.objective import Objective
from strategies.protocols import Reducer
from strategies.steps import needs_sgd, told_momentum

if TYPE_CHECKING:
    from simulation.config.experiment import Experiment
    from simulation.datasets.dataset import Dataset


KEPT_TRAINERS = 8
"""Kinds of trainers that a process keeps."""

_kept: OrderedDict[Any, Trainer] = OrderedDict()


def trainer_for(
    experiment: Experiment, rule: ClientRule, reducer: Reducer | None, data: Dataset
) -> Trainer:
    """Return a trainer for a run: a fresh one, or one that shares graphs with an earlier run's.

    Raises:
        ModelError: when the model cannot be built or does not fit the data.
    """
    key = kind_of(experiment, rule, data)
    if key in _kept:
        _kept.move_to_end(key)
        check_sgd(experiment, rule, reducer, _kept[key])
        check_decay(experiment, _kept[key])
        return _kept[key].of(experiment, rule)
    library = backend(experiment.resources.library)
    made = library.trainer(experiment, rule, data, weighted(experiment, data))
    check_sgd(experiment, rule, reducer, made)
    check_decay(experiment, made)
    _kept[key] = made
    while len(_kept) > KEPT_TRAINERS:
        _kept.popitem(last=False)
    return made


def check_sgd(
    experiment: Experiment, rule: ClientRule, reducer: Reducer | None, trainer: Trainer
) -> None:
    """Refuse an optimiser that a strategy's formulas do not hold for.

    Raises:
        ModelError: for another than SGD of one learning rate where the strategy needs that, or for
            a momentum that the strategy was told otherwise.
    """
    if not needs_sgd(rule, reducer) or experiment.mode != "federated":
        return
    name, optimizer = experiment.label, trainer.optimizer
    if trainer.sgd is None:
        if optimizer == "SGD":
            optimizer = "SGD that accumulates gradients or averages weights"
        raise ModelError(
            f"optimizer must be SGD with {name}, whose formulas are those of SGD, got {optimizer}"
        )
    if not trainer.learning_rate:
        raise ModelError(f"learning rate of SGD must be one number with {name}, got a schedule")
    told = told_momentum(reducer)
    if told is not None and told != trainer.sgd[0]:
        raise ModelError(
            f"strategy.client_momentum must be left out, or be the clients' ({trainer.sgd[0]:g}), "
            f"got {told:g}"
        )


def check_decay(experiment: Experiment, trainer: Trainer) -> None:
    """Refuse a decay by rounds of a learning rate that follows a schedule of its own.

    Raises:
        ModelError: for such an optimiser.
    """
    decay = experiment.training.decay
    if decay is not None and not trainer.learning_rate:
        raise ModelError(
            "training.decay must be left out for a model whose optimizer has a schedule for a "
            f"learning rate, got {decay.kind!r}"
        )


def rate_in(experiment: Experiment, usual: float | None, round: int) -> float | None:
    """Return the clients' learning rate in a round; None: the optimiser's own, in all rounds.

    Args:
        experiment: says how it decays.
        usual: the optimiser's own.
        round: the round, from 1.
    """
    decay = experiment.training.decay
    if decay is None:
        return None
    assert usual, "a schedule was refused when the trainer was made"
    return usual * decay.factors(experiment.rounds)(round)


def weighted(experiment: Experiment, data: Dataset) -> bool:
    """Tell whether examples have weights, of their own or by their class."""
    return data.sample_weight is not None or experiment.training.class_weight is not None


def example_weights(experiment: Experiment, data: Dataset) -> NDArray[np.float32] | None:
    """Return the training examples' weights [N], of their own or by class; None where all count 1.

    Classes are weighted while training alone, as in Keras' ``fit``.
    """
    given = experiment.training.class_weight
    if given is None:
        return data.sample_weight
    if data.sample_weight is not None:
        raise ModelError(
            "training.class_weight must be left out for a dataset whose examples have weights, "
            f"got {given}"
        )
    if data.labels is None:
        raise ModelError(
            f"training.class_weight must be left out for targets that are no classes, got {given}"
        )
    by_class = np.ones(max(int(data.labels.max()), *given) + 1, np.float32)
    by_class[list(given)] = list(given.values())
    return by_class[data.labels]


def kind_of(experiment: Experiment, rule: ClientRule, data: Dataset) -> Any:
    """Return what decides a trainer's graphs: equal for runs that may share them."""
    y = data.y_train
    x = [(part.shape[1:], str(part.dtype)) for part in inputs.arrays(data.x_train)]
    names = tuple(data.x_train) if isinstance(data.x_train, dict) else len(x)
    model: Any = experiment.model
    if ":" in model:
        # One's own function may put random constants into its model, which the seed decides.
        model = (plugins.resolve("model", model), experiment.seed)
    target = (y.shape[1:], str(y.dtype), data.classes, weighted(experiment, data))
    arrays = (tuple(x), names, target, repr(data.scale))
    numbers = {"local_epochs", "local_steps", "batch_size", "decay"}
    init = None if experiment.init is None else experiment.init.sha256
    computing: Any = experiment.resources.library
    if computing == "jax":  # Its programs are made for a number of lanes.
        computing = (computing, experiment.resources.lanes, experiment.mode)
        if experiment.training.learning_rate is not None:  # It is a number that they are given.
            numbers.add("learning_rate")
    training = experiment.training.model_dump_json(exclude=numbers)
    named = experiment.evaluation.metrics
    changes = changes_of(rule)
    return model, init, arrays, training, changes, computing, named


def changes_of(rule: ClientRule) -> Any:
    """Return what a client rule makes of the graphs, hashable (see :func:`essence`)."""
    phases = tuple((essence(phase.hook), phase.frozen) for phase in rule.phases)
    way = rule.direction
    along = None
    if way is not None:
        along = essence(way.step), way.second, way.lasts, tuple(way.numbers), way.inner
    return essence(rule.hook), rule.own, terms(rule.objective), rule.frozen, phases, along


def terms(objective: Objective | None) -> Any:
    """Return what an objective is made of, hashable (see :func:`essence`)."""
    if objective is None:
        return None
    flags = objective.received, objective.last, objective.held, objective.entropy, objective.means
    return essence(objective.term), flags


def essence(value: Any, depth: int = 5) -> Any:
    """Return what a function is made of, hashable: equal only for functions that do the same.

    Functions that travel to a worker are copies each time: identity does not tell. What cannot be
    seen through counts as different from everything else.
    """
    if value is None or isinstance(value, bool | int | float | str | bytes):
        return type(value).__name__, value
    if isinstance(value, tuple) and depth:
        return "tuple", tuple(essence(part, depth - 1) for part in value)
    if isinstance(value, ModuleType):
        return "module", value.__name__
    if isinstance(value, FunctionType) and depth:
        cells = tuple(c.cell_contents for c in value.__closure__ or ())
        used = {n: value.__globals__[n] for n in _names(value.__code__) if n in value.__globals__}
        outside = tuple((name, essence(found, depth - 1)) for name, found in sorted(used.items()))
        within = essence((cells, value.__defaults__ or ()), depth)
        keywords = tuple(sorted((value.__kwdefaults__ or {}).items()))
        return "function", value.__code__, within, essence(keywords, depth), outside
    return _Held(value)


def _names(code: CodeType) -> set[str]:
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= _names(constant)
    return names


class _Held:
    """Equal only to itself, and alive as long as a key that it is part of."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Held) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)
