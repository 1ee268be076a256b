"""Compiled functions for models that are built anew in every message.

Clients of Flower apps build and compile their Keras model in every message, and Keras traces its
functions for each new model: seconds, for milliseconds of training. Here, ``fit``, ``evaluate`` and
``predict`` of a model whose architecture and compilation equal those of an earlier one run on a
*twin*, whose functions exist already: the model's variables, those of its optimizer and the states
of its random generators go into the twin, and come back afterwards. The numbers are those that the
model itself would give.

Only what a configuration describes completely has a twin: functional and sequential models of
Keras' own layers, optimizers, losses and metrics, without callbacks. All else runs as it is.
"""

from __future__ import annotations

import functools
import hashlib
import json
import random
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from simulation.training.keras import private

KEPT_TWINS = 8
"""Twins that a process keeps: those used last."""

OWN = ("train_step", "test_step", "predict_step", "compute_loss", "compute_metrics", "call")
"""Methods that a user may have put on a model object."""

MOST_ARGUMENTS = 4
"""Arguments by position that a call may have: callbacks come later in all methods."""

Method = Callable[..., Any]


class Twins:
    """The twins of a process, by what they are made of.

    The first model of a kind runs as it is: an app that keeps its model needs no twin.
    """

    def __init__(self) -> None:
        self._seen: dict[str, weakref.ref[Any]] = {}
        self._twins: OrderedDict[str, Twin] = OrderedDict()

    def of(self, model: Any) -> Twin | None:
        """Return the twin of a model; None if it has none."""
        key = key_of(model)
        if key is None:
            return None
        if key in self._twins:
            self._twins.move_to_end(key)
            found = self._twins[key]
            return found if found.fits(model) else None
        first = self._seen.get(key)
        if key not in self._seen:
            self._seen[key] = weakref.ref(model)
        if first is None or first() is model:
            return None
        self._twins[key] = Twin(model)
        if len(self._twins) > KEPT_TWINS:
            self._twins.popitem(last=False)
        return self._twins[key] if self._twins[key].fits(model) else None


class Twin:
    """A model that lends its compiled functions to others of its kind.

    Args:
        model: one of them.
    """

    def __init__(self, model: Any) -> None:
        with _same_randomness():
            self.model = type(model).from_config(model.get_config())
            self.model.compile_from_config(model.get_compile_config())
        self.model.__dict__["_is_twin"] = True
        optimizer = self.model.optimizer
        self._fresh = [] if optimizer is None else [np.array(v) for v in optimizer.variables]

    def fits(self, model: Any) -> bool:
        """Tell whether a model's variables have their places in the twin."""
        mine, given = _shapes(self.model.variables), _shapes(model.variables)
        slots, taken = (_shapes(getattr(m.optimizer, "variables", ())) for m in (self.model, model))
        return mine == given and slots[: len(taken)] == taken

    def lend(self, name: str, original: Method, model: Any, *args: Any, **options: Any) -> Any:
        """Run a method on the twin, in the state of a model; give that the state it comes to."""
        twin, trains = self.model, name == "fit"
        _copy(model.variables, twin.variables)
        if trains:
            self._take(model.optimizer)
        result = original(twin, *args, **options)
        if trains:
            _copy(twin.variables, model.variables)
            if not model.optimizer.built:
                model.optimizer.build(model.trainable_variables)
            _copy(twin.optimizer.variables, model.optimizer.variables)
            result.set_model(model)
            model.history, model.stop_training = result, twin.stop_training
        return result

    def _take(self, optimizer: Any) -> None:
        """Put the twin's optimizer into another's state; slots that it lacks begin afresh."""
        mine, given = self.model.optimizer.variables, optimizer.variables
        _copy(given, mine[: len(given)])
        for variable, value in zip(mine[len(given) :], self._fresh[len(given) :], strict=True):
            variable.assign(value)


def _shapes(variables: Any) -> list[Any]:
    return [tuple(v.shape) for v in variables]


def _copy(source: Any, target: Any) -> None:
    for a, b in zip(source, target, strict=True):
        b.assign(a.value)


@contextmanager
def _same_randomness() -> Iterator[None]:
    """Leave the global random generators as they were: a twin must not shift an app's numbers."""
    python, numpy = random.getstate(), np.random.get_state()
    shared = private.global_seed()
    state = None if shared is None else np.array(shared)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        if shared is not None:
            shared.assign(state)


def key_of(model: Any) -> str | None:
    """Return what a model is made of, as a digest; None where a configuration does not say it."""
    if type(model) not in (keras.Sequential, keras.Model, private.functional()):
        return None
    if not (model.built and model.compiled) or model.run_eagerly or set(OWN) & set(vars(model)):
        return None
    try:
        parts = {"model": model.get_config(), "compile": model.get_compile_config()}
        text = json.dumps(parts, sort_keys=True)
    except (TypeError, ValueError, NotImplementedError):
        return None
    if not _is_plain(parts) or any(map(_keeps_more, _layers(model))):
        return None
    # Names are numbered through in a process; they say nothing about what is computed.
    for place, layer in enumerate(_layers(model)):
        text = text.replace(json.dumps(layer.name), f'"layer {place}"')
    text = text.replace(json.dumps(getattr(model.optimizer, "name", None)), '"optimizer"')
    trainable = [[v.trainable for v in layer.variables] for layer in _layers(model)]
    return hashlib.sha256(f"{text}{trainable}".encode()).hexdigest()


def _layers(model: Any) -> list[Any]:
    return [model, *private.layers_of(model, include_self=False)]


def _keeps_more(layer: Any) -> bool:
    """Tell whether a layer keeps what is no variable: what preprocessing layers have learned."""
    module = type(layer).__module__
    return private.PREPROCESSING in module and type(layer) is not keras.layers.Rescaling


def _is_plain(value: Any) -> bool:
    """Tell whether a configuration names nothing but Keras' own classes."""
    if isinstance(value, Mapping):
        name = value.get("class_name")
        if name in ("function", "__lambda__", "__tensor__", "__numpy__", "Lambda"):
            return False
        if name is not None and not str(value.get("module") or "builtins").startswith(
            ("keras", "builtins")
        ):
            return False
        if value.get("registered_name") not in (None, name):
            return False
        return all(map(_is_plain, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return True


def install() -> None:
    """Let every Keras model of this process use twins; done again, it changes nothing."""
    if getattr(keras.Model.fit, "_lends", False) or keras.backend.backend() != "tensorflow":
        return
    twins = Twins()
    for name in ("fit", "evaluate", "predict"):
        setattr(keras.Model, name, _lending(twins, name, getattr(keras.Model, name)))


def _lending(twins: Twins, name: str, original: Method) -> Method:
    @functools.wraps(original)
    def method(self: Any, *args: Any, **options: Any) -> Any:
        plain = vars(self).get("_is_twin") or options.get("callbacks") or len(args) > MOST_ARGUMENTS
        twin = None if plain else twins.of(self)
        if twin is None:
            return original(self, *args, **options)
        return twin.lend(name, original, self, *args, **options)

    method.__dict__["_lends"] = True
    return method
