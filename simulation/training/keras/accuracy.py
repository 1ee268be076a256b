"""Which accuracy fits a model: the one it is compiled with, else by labels, output and loss.

Values and weights are those of Keras' own metrics, so that a saved model evaluated by Keras gives
the accuracy that was reported.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
from keras import ops

from simulation.training.keras import private
from simulation.training.keras.losses import resolved

BINARY = keras.metrics.binary_accuracy

SPARSE = keras.metrics.sparse_categorical_accuracy

ONE_HOT = keras.metrics.categorical_accuracy

PLAIN = ("accuracy", "acc")
"""Names that Keras itself resolves by the shapes of labels and output."""

_BINARY_LOSSES = (
    "binary_crossentropy", "binary_focal_crossentropy", "BinaryCrossentropy",
    "BinaryFocalCrossentropy",
)  # fmt: skip

_HINGES = ("hinge", "squared_hinge", "Hinge", "SquaredHinge")

_ONE_HOT_LOSSES = (
    "categorical_crossentropy", "categorical_focal_crossentropy", "categorical_hinge",
    "kl_divergence", "CategoricalCrossentropy", "CategoricalFocalCrossentropy", "CategoricalHinge",
    "CategoricalGeneralizedCrossEntropy", "KLDivergence",
)  # fmt: skip

_SPARSE_LOSSES = ("sparse_categorical_crossentropy", "SparseCategoricalCrossentropy")


@dataclass(frozen=True)
class Accuracy:
    """An accuracy.

    Args:
        name: as Keras calls it.
        function: from labels and output to 1 or 0, [n, ...].
        weighted: whether it goes by the examples' weights.
        alias: a further name under which a model reports it; empty for none.
    """

    name: str
    function: Callable[[Any, Any], Any]
    weighted: bool = False
    alias: str = ""

    @property
    def metric(self) -> keras.metrics.Metric | None:
        """A Keras metric that measures it, called ``accuracy``; None for that of hinge losses."""
        kinds = {
            BINARY: keras.metrics.BinaryAccuracy,
            SPARSE: keras.metrics.SparseCategoricalAccuracy,
            ONE_HOT: keras.metrics.CategoricalAccuracy,
        }
        function = getattr(self.function, "func", self.function)
        if function not in kinds:
            return None
        return kinds[function](name="accuracy", **getattr(self.function, "keywords", {}))

    def of(self, y: Any, output: Any, weights: Any) -> tuple[Any, Any]:
        """Return sums of what is right and of what counts for each example, float32 [n] each.

        Args:
            y: labels [n, ...].
            output: the model's output; positions that it masks do not count.
            weights: weights of the examples [n], or None.
        """
        values = ops.cast(self.function(y, output), "float32")
        mask, counts = private.mask_of(output), None
        if mask is not None:
            counts = ops.cast(mask, "float32")
        if self.weighted and weights is not None:
            shape = [-1] + [1] * (0 if counts is None else len(counts.shape) - 1)
            given = ops.reshape(weights, shape)
            counts = given if counts is None else counts * given
        if counts is None:
            return _means(values, 1), ops.ones([ops.shape(values)[0]], "float32")
        values = _means(values, len(counts.shape))
        return _means(values * counts, 1), _means(counts, 1)


def choose(model: keras.Model, y: Any, output: Any, classes: int | None) -> Accuracy | None:
    """Return the accuracy that fits a compiled model; None where there is none (a regression).

    Args:
        model: the model; its metrics are built.
        y: labels [n, ...], for shape and type.
        output: its output for them.
        classes: number of classes of the dataset, None where it has none.
    """
    compiled = _compiled(model)
    if compiled is not None:
        return compiled
    loss, _ = resolved(model, y, output)
    if loss is None:
        return None
    function = getattr(loss, "fn", None)
    names = {type(loss).__name__, getattr(function, "__name__", "")}
    if names & set(_BINARY_LOSSES):
        return _binary(0.0 if getattr(loss, "from_logits", False) else 0.5)
    if names & set(_HINGES) and output.shape[-1] == 1:
        # Hinge losses take labels of -1 and 1, or 0 and 1, and outputs of either sign.
        return Accuracy("binary_accuracy", _same_sign)
    if names & set(_ONE_HOT_LOSSES):
        return Accuracy("categorical_accuracy", ONE_HOT)
    if names & set(_SPARSE_LOSSES):
        return Accuracy("sparse_categorical_accuracy", SPARSE)
    return _by_shapes(loss, y, output, classes)


def _by_shapes(loss: Any, y: Any, output: Any, classes: int | None) -> Accuracy | None:
    """Return the accuracy for a loss that tells nothing: by labels and output alone."""
    last, rank = output.shape[-1], len(output.shape)
    kind = keras.backend.standardize_dtype(y.dtype)
    if classes is None and "int" not in kind and kind != "bool":
        return None
    if last == 1 or (len(y.shape) == rank and y.shape[-1] == last and classes is None):
        two = classes is None or classes <= 2
        return _binary(0.0 if getattr(loss, "from_logits", False) else 0.5) if two else None
    if len(y.shape) < rank or y.shape[-1] == 1:
        return Accuracy("sparse_categorical_accuracy", SPARSE)
    return Accuracy("categorical_accuracy", ONE_HOT) if y.shape[-1] == last else None


def _compiled(model: keras.Model) -> Accuracy | None:
    whole = private.compiled_metrics(model)
    if whole is None:
        return None
    weighted = private.weighted_metrics(whole)
    for metric in whole.metrics:
        function, options = private.metric_function(metric)
        if function in (BINARY, SPARSE, ONE_HOT):
            alias = "" if metric.name in PLAIN else metric.name
            chosen = partial(function, **options)
            return Accuracy(function.__name__, chosen, metric in weighted, alias)
    return None


def _binary(threshold: float) -> Accuracy:
    return Accuracy("binary_accuracy", partial(BINARY, threshold=threshold))


def _same_sign(y: Any, output: Any) -> Any:
    y = ops.cast(y, output.dtype)
    return BINARY(ops.cast(y > 0, output.dtype), output, threshold=0.0)


def _means(values: Any, rank: int) -> Any:
    """Return means over the axes from ``rank`` on."""
    extra = len(values.shape) - rank
    return values if extra <= 0 else ops.mean(values, axis=list(range(-extra, 0)))
