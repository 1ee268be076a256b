"""Metrics by name, as counts that add up: over batches, clients and pieces of a test set.

What a batch adds is computed in ``keras.ops``, one text for all backends; the values of what has
been added up are computed with NumPy. So a value is that of all examples together, which no mean
of batches' or clients' values would be. What is counted is in
:mod:`metric_counts`, how targets and output are read in :mod:`metric_rows`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from simulation.config.metrics import OF_CLASSES, OF_NUMBERS, TOP
from simulation.training.backend import ModelError
from simulation.training.keras import default_loss, private
from simulation.training.keras.accuracy import BINARY, ONE_HOT, SPARSE, Accuracy
from simulation.training.keras.metric_counts import (
    Confusion,
    Counts,
    Curve,
    Errors,
    Floats,
    Table,
    Top,
)
from simulation.training.keras.metric_rows import (
    Reader,
    exclusive_classes,
    numbers,
    separate_classes,
)

UNFIT = {True: ("confusion", "balanced_accuracy"), False: ("per_class", "balanced_accuracy")}
"""What cannot be had where each class is there or not by itself: of several, and of one score."""


class NamedMetrics:
    """What ``evaluation.metrics`` names, for one model.

    Args:
        asked: the names.
        rows: from targets, output and what counts [n] to rows.
        counts: what is added up.
    """

    def __init__(self, asked: Sequence[str], rows: Reader, counts: Sequence[Counts]) -> None:
        self.asked, self._rows, self._counts = tuple(asked), rows, list(counts)
        self.size = sum(one.size for one in counts)
        self.names = tuple(self.values(np.zeros((1, self.size))))

    def of(self, y: Any, output: Any, valid: Any) -> Any:
        """Return what a batch adds, float32 [S].

        Args:
            y: targets [n, ...].
            output: the model's output; positions that it masks do not count.
            valid: which examples count [n]; None: all.
        """
        rows = self._rows(y, output, valid)
        return ops.concatenate([one.of(rows) for one in self._counts])

    def values(self, sums: NDArray[Any]) -> dict[str, Floats]:
        """Return the values [N] of what was asked for, by name, for sums [N, S]."""
        found: dict[str, Floats] = {}
        first = 0
        for one in self._counts:
            found |= one.values(np.asarray(sums[:, first : first + one.size], np.float64))
            first += one.size
        return {
            name: value
            for name, value in found.items()
            if any(name == asked or name.startswith(_several(asked)) for asked in self.asked)
        }


def _several(asked: str) -> tuple[str, ...]:
    return (f"{asked}_",) if asked in ("per_class", "confusion") else ()


def named_metrics(
    asked: Sequence[str],
    accuracy: Accuracy | None,
    logits: bool,
    output: Any,
    y: NDArray[Any],
    model: str,
) -> NamedMetrics | None:
    """Return metrics by name for a model; None where none are asked for.

    Args:
        asked: the names.
        accuracy: what tells how the output is read; None: it is numbers.
        logits: whether scores are logits.
        output: of an example [1, ...].
        y: all targets.
        model: the model's name, for errors.

    Raises:
        ModelError: for a metric that does not fit what the model tells.
    """
    if not asked:
        return None
    width = int(output.shape[-1]) if len(output.shape) > 1 else 1
    if accuracy is None:
        _check(asked, OF_NUMBERS, "numbers", model)
        centre = np.asarray(y, np.float64).reshape(-1, width).mean(0).astype(np.float32)
        return NamedMetrics(asked, numbers, [Errors(width, centre)])
    function = getattr(accuracy.function, "func", accuracy.function)
    one_class = function in (SPARSE, ONE_HOT)
    tops = [name for name in asked if TOP.fullmatch(name)]
    known = [name for name in OF_CLASSES if one_class or name not in UNFIT[width > 1]]
    what = f"{max(2, width)} classes" if one_class or width == 1 else f"{width} labels"
    _check(asked, [*known, *(t for t in tops if one_class and _k(t) < width)], what, model)
    counts: list[Counts] = []
    second = width == 1 or (one_class and width == 2)
    if set(asked) & {"f1", "precision", "recall", "balanced_accuracy", "per_class"}:
        counts.append(Table(width, second))
    if "confusion" in asked:
        counts.append(Confusion(width))
    if "auc" in asked:
        counts.append(Curve(width, second))
    counts += [Top(width, _k(name)) for name in tops]
    if one_class:
        return NamedMetrics(asked, exclusive_classes(function is ONE_HOT, logits), counts)
    options = getattr(accuracy.function, "keywords", {})
    threshold = float(options.get("threshold", 0.5)) if function is BINARY else 0.0
    least = 0.5 if function is BINARY else 0.0
    read = separate_classes(threshold, least, logits or function is not BINARY)
    return NamedMetrics(asked, read, counts)


def scores_are_logits(model: keras.Model, loss: Any) -> bool:
    """Tell whether a model's scores are logits, by its loss, else by what it ends in."""
    told = getattr(loss, "from_logits", None)
    if told is not None:
        return bool(told)
    function = None if loss is None else private.wrapped_function(loss)
    if getattr(function, "__name__", "").endswith("crossentropy"):
        return False  # As Keras takes them where nothing else is said.
    return default_loss.activation_of(model) not in ("softmax", "sigmoid")


def _k(name: str) -> int:
    return int(name.removeprefix("top"))


def _check(asked: Sequence[str], known: Sequence[str], what: str, model: str) -> None:
    for name in asked:
        if name not in known:
            raise ModelError(
                f"evaluation.metrics must fit model {model!r}, which tells {what} "
                f"({', '.join(known)}), got {name!r}"
            )


class Added:
    """Where named metrics are added up while a batch after the other is seen.

    Args:
        metrics: what is added up.
    """

    def __init__(self, metrics: NamedMetrics) -> None:
        self.metrics = metrics
        self.variable = keras.Variable(
            np.zeros(metrics.size, np.float32), trainable=False, name="named_metrics"
        )

    def see(self, y: Any, output: Any, valid: Any = None) -> None:
        """Add a batch."""
        self.variable.assign(self.variable + self.metrics.of(y, output, valid))


def joined_names(model: keras.Model, own: Sequence[str], named: NamedMetrics) -> tuple[str, ...]:
    """Return the names of what a model is compiled with and of what is named beside it.

    Raises:
        ModelError: for a name that is both.
    """
    for name in named.names:
        if name in own:
            raise ModelError(
                f"evaluation.metrics must name what model {model.name!r} is not compiled with, "
                f"got {name!r}"
            )
    return (*own, *named.names)


def beside(own: Floats, named: NamedMetrics | None, sums: NDArray[Any]) -> Floats:
    """Return the values of what a model is compiled with [N, M], and beside them what is named.

    Args:
        own: of the first.
        named: the second, if any.
        sums: of the second [N, S].
    """
    if named is None:
        return own
    return np.concatenate([own, *(v[:, None] for v in named.values(sums).values())], axis=1)
