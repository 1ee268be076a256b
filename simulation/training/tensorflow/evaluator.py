"""Evaluation: a model measured on examples, without training it, alike on clients and server."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from simulation.datasets import inputs
from simulation.datasets.inputs import Inputs
from simulation.training.measured import Measured, segment_sums
from simulation.training.tensorflow.graph import Graph
from strategies.spec import Vector


class Evaluator:
    """Evaluate with the graphs of one model.

    Args:
        graph: the model's graphs.
        like: inputs, target and weights of an example, for their shape and type.
    """

    def __init__(self, graph: Graph, like: tuple[Any, Any, Any]) -> None:
        self.graph, self._like = graph, like
        self._measure: Any = None
        self._assign: Any = None

    def assign(self, model: Vector) -> None:
        """Give the Keras model these weights [P]."""
        if self._assign is None:
            self._assign = self.graph.compile_assign()
        self._assign(tf.constant(model))

    def evaluate(
        self,
        model: Vector,
        x: Inputs,
        y: NDArray[Any],
        rows: NDArray[Any],
        sizes: Sequence[int] | None = None,
        batch: int = 500,
        weights: NDArray[np.float32] | None = None,
    ) -> Measured:
        """Measure a model, without training it.

        Args:
            model: weights [P].
            x: all examples.
            y: all labels.
            rows: which of them, [n]; they are read batch by batch, never copied whole.
            sizes: how many of the rows each segment has, one after the other; one when None.
            batch: examples at a time. Where a batch's loss is no mean over examples, it counts
                as often as it has examples, as in Keras' ``evaluate``.
            weights: weights of all examples, where they have any.
        """
        self.assign(model)
        several = np.asarray([len(rows)] if sizes is None else sizes, np.int64)
        if self._measure is None:
            whole = self.graph.measures.by_batches
            self._measure = self.graph.compile_measure(*self._like, whole)
        read = partial(self._read, x, y, weights)
        if self.graph.measures.by_batches:
            return self._by_batches(read, rows, several, batch)
        found: tuple[list[Any], ...] = ([], [], [])
        for start in range(0, len(rows), batch):
            values = self._measure(*read(rows[start : start + batch]))
            for column, value in zip(found, values, strict=True):
                column.append(value.numpy())
        loss, right, count = (segment_sums(np.concatenate([[], *c]), several) for c in found)
        return Measured(loss, right, count, np.zeros((len(several), 0), np.float32))

    def _by_batches(
        self, read: Any, rows: NDArray[Any], sizes: NDArray[np.int64], batch: int
    ) -> Measured:
        """Measure batches that belong to one segment each."""
        ends = np.cumsum(sizes)
        sums = np.zeros((len(sizes), 3))
        kept = np.zeros((len(sizes), self.graph.metrics.size), np.float32)
        for k, end in enumerate(ends.tolist()):
            states = tf.constant(kept[k])
            for start in range(end - int(sizes[k]), end, batch):
                at = rows[start : min(start + batch, end)]
                loss, right, count, states = self._measure(*read(at), states)
                sums[k] += [float(loss) * len(at), float(right), float(count)]
            kept[k] = states.numpy()
        return Measured(sums[:, 0], sums[:, 1], sums[:, 2], kept)

    def _read(self, x: Inputs, y: NDArray[Any], weights: Any, at: NDArray[Any]) -> Any:
        given = {}
        if self._like[2]:  # Where only training weights examples, all count 1 here.
            ones = np.ones(len(at), np.float32)
            given = {"weights": ones if weights is None else weights[at]}
        return tf.nest.map_structure(tf.constant, (inputs.rows(x, at), y[at], given))
