"""What measuring a Keras model is, whatever it computes on: what fits, what is told, how named."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import keras
from numpy.typing import NDArray

from simulation.config.libraries import LibraryError
from simulation.records.rows import STATES, Rows
from simulation.training.backend import ModelError
from simulation.training.keras import default_loss
from simulation.training.keras.accuracy import Accuracy
from simulation.training.measured import Described


@contextmanager
def fitting(model: keras.Model, output: Any, y: NDArray[Any]) -> Iterator[None]:
    """Say in one line what goes wrong where loss or metrics meet output and targets.

    Args:
        model: a compiled model.
        output: what it gives for an example [1, ...].
        y: the target of an example [1, ...].

    Raises:
        ModelError: instead of what Keras raises.
    """
    try:
        yield
    except (ModelError, LibraryError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split())
        raise ModelError(
            f"model {model.name!r} must have a loss and metrics that fit its output of shape "
            f"{tuple(output.shape[1:])} and targets of shape {tuple(y.shape[1:])} ({y.dtype}), "
            f"got {type(error).__name__}: {reason}"
        ) from error


def check_units(shape: Sequence[int], y: NDArray[Any], classes: int | None) -> None:
    """Raise ModelError for an output [1, ...] with fewer units than the dataset has classes."""
    if classes is None or classes <= 2 or y.dtype.kind not in "iu":
        return
    if 1 < shape[-1] < classes and y.shape[1:] != tuple(shape[1:]):
        raise ModelError(
            f"model output must have at least {classes} units (classes of the dataset), "
            f"got {shape[-1]}"
        )


def described(
    loss: Any, chosen: bool, accuracy: Accuracy | None, metrics: tuple[str, ...], scale: Any
) -> Described:
    """Return what a run says of its model (see :class:`~simulation.training.measured.Described`).

    Args:
        loss: what the model is trained with; None where it only adds losses by itself.
        chosen: whether Sunflower chose it.
        accuracy: what is measured as such.
        metrics: names of what else the model reports.
        scale: what inputs are multiplied by.
    """
    words = None if loss is None else default_loss.in_words(loss)
    name, alias = (accuracy.name, accuracy.alias) if accuracy is not None else (None, "")
    return Described(words, chosen, name, alias, metrics, scale)


class MetricColumns(ABC):
    """Metrics whose variables are one vector [S], as columns of a table."""

    names: tuple[str, ...]
    size: int

    @abstractmethod
    def results(self, states: NDArray[Any]) -> NDArray[Any]:
        """Return the values of :attr:`names` [K, M] for variables [K, S]."""

    def columns(self, states: NDArray[Any], prefix: str = "") -> Rows:
        """Return a column for each metric, and one of their variables [K, S]; {} without any."""
        if not self.size:
            return {}
        values = self.results(states)
        named = {f"{prefix}{n}": v for n, v in zip(self.names, values.T, strict=True)}
        return {**named, STATES: states}


def flattened(values: Mapping[str, Any], without: Collection[str]) -> dict[str, Any]:
    """Return numbers by name; of a metric with several, each with its place in its name."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if name in without:
            continue
        if isinstance(value, dict):
            flat |= flattened({f"{name}_{k}": v for k, v in value.items()}, without)
            continue
        value = keras.ops.convert_to_tensor(value)
        if len(value.shape) == 0:
            flat[name] = value
        else:
            parts = keras.ops.reshape(value, (-1,))
            flat |= {f"{name}_{i}": parts[i] for i in range(parts.shape[0])}
    return flat
