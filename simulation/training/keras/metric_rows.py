"""How a batch's targets and output are read: which classes are there, which are predicted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from keras import ops

from simulation.training.keras import private


@dataclass(frozen=True)
class Rows:
    """What a batch says, a row for each example or position.

    Args:
        truth: 1 for the classes that a row is of [R, K]; for numbers the targets [R, D].
        score: of each class, from 0 to 1; for numbers the predictions.
        chosen: 1 for the classes that are predicted.
        weight: how much a row counts [R].
    """

    truth: Any
    score: Any
    chosen: Any
    weight: Any


Reader = Callable[[Any, Any, Any], Rows]
"""From targets, output and what counts [n] (None: all) to rows."""


def _weight(output: Any, valid: Any) -> Any:
    """Return how much each row of an output [n, ..., K] counts [R]."""
    ones = ops.ones_like(ops.cast(output[..., 0], "float32"))
    if valid is not None:
        rank = len(ones.shape)
        ones = ones * ops.reshape(ops.cast(valid, "float32"), [-1] + [1] * (rank - 1))
    mask = private.mask_of(output)
    if mask is not None:
        missing = [1] * (len(ones.shape) - len(mask.shape))
        ones = ones * ops.reshape(ops.cast(mask, "float32"), [*ops.shape(mask), *missing])
    return ops.reshape(ones, (-1,))


def exclusive_classes(one_hot: bool, logits: bool) -> Reader:
    """Return what reads classes of which an example has one: the highest score is chosen."""

    def rows(y: Any, output: Any, valid: Any) -> Rows:
        width = output.shape[-1]
        weight = _weight(output, valid)
        score = ops.reshape(ops.cast(output, "float32"), (-1, width))
        score = ops.softmax(score) if logits else score
        if one_hot:
            number = ops.argmax(ops.reshape(y, (-1, width)), -1)
        else:
            number = ops.reshape(ops.cast(y, "int32"), (-1,))
        return Rows(
            ops.one_hot(number, width, dtype="float32"), score,
            ops.one_hot(ops.argmax(score, -1), width, dtype="float32"), weight,
        )  # fmt: skip

    return rows


def separate_classes(threshold: float, least: float, logits: bool) -> Reader:
    """Return what reads classes that are there or not, each by itself."""

    def rows(y: Any, output: Any, valid: Any) -> Rows:
        width = output.shape[-1]
        weight = _weight(output, valid)
        raw = ops.reshape(ops.cast(output, "float32"), (-1, width))
        truth = ops.reshape(ops.cast(y, "float32"), (-1, width)) > least
        return Rows(
            ops.cast(truth, "float32"), ops.sigmoid(raw) if logits else raw,
            ops.cast(raw > threshold, "float32"), weight,
        )  # fmt: skip

    return rows


def numbers(y: Any, output: Any, valid: Any) -> Rows:
    """Read numbers."""
    width = output.shape[-1] if len(output.shape) > 1 else 1
    weight = _weight(output if len(output.shape) > 1 else output[..., None], valid)
    score = ops.reshape(ops.cast(output, "float32"), (-1, width))
    truth = ops.reshape(ops.cast(y, "float32"), (-1, width))
    return Rows(truth, score, score, weight)
