"""Evaluation: a model measured on examples, batch by batch, all batches of one shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from simulation.datasets import inputs
from simulation.datasets.inputs import Inputs
from simulation.training.jax.lanes import Lanes
from simulation.training.jax.placed import placed, rows_of
from simulation.training.jax.prepared import PreparedModel
from simulation.training.jax.step import Client
from simulation.training.jax.traced import mask_rows, traced
from simulation.training.keras import losses
from simulation.training.measured import Measured, segment_sums

AHEAD = 8
"""Batches that the device may have before it, at most."""


class Evaluator:
    """Evaluate with the programs of one model.

    Args:
        model: the model.
        lanes: cuts flat vectors.
        weighted: whether examples have weights.
    """

    def __init__(self, model: PreparedModel, lanes: Lanes, weighted: bool) -> None:
        self.model, self.lanes, self.weighted = model, lanes, weighted
        self._client = jax.tree.map(
            np.asarray,
            Client(
                trained=[],
                statistics=[],
                slots=[],
                rest=model.values(model.rest),
                seeds=np.array(model.values(model.seeds), np.uint32).reshape(-1, 2),
                metrics=model.values(model.metrics.variables),
                sums=np.zeros(3, np.float32),
            ),
        )
        self._frozen = model.values(model.frozen)
        self._fresh = [np.zeros(v.shape, v.dtype) for v in model.metrics.variables]
        self._measure = jax.jit(self._by_example)
        self._measure_batch = jax.jit(self._batch)

    def evaluate(
        self, model: Any, x: Inputs, y: NDArray[Any], rows: NDArray[Any],
        sizes: Sequence[int] | None = None, batch: int = 500,
        weights: NDArray[np.float32] | None = None, lasting: bool = False,
    ) -> Measured:  # fmt: skip
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
            lasting: whether the examples will be asked for again, so that they may stay on the
                device.
        """
        several = np.asarray([len(rows)] if sizes is None else sizes, np.int64)
        there = placed().of(x) if lasting else None
        examples = (None if there is not None else x, y, weights)
        if self.model.measures.by_batches:
            return self._by_batches(model, there, examples, rows, several, batch)
        measured: list[Any] = []
        for start in range(0, len(rows), batch):
            read = self._read(examples, rows[start : start + batch], batch)
            measured.append(self._measure(model, there, *read))  # While this computes, go on,
            jax.block_until_ready(measured[-AHEAD:][0])  # but not too far: batches take memory.
        loss, right, count = (
            segment_sums(np.concatenate([[], *column])[: len(rows)], several)
            for column in (zip(*measured, strict=True) if measured else ([], [], []))
        )
        return Measured(loss, right, count, np.zeros((len(several), 0), np.float32))

    def _by_batches(
        self, model: Any, there: Any, examples: Any, rows: NDArray[Any],
        sizes: NDArray[np.int64], batch: int,
    ) -> Measured:  # fmt: skip
        """Measure batches that belong to one segment each."""
        ends = np.cumsum(sizes)
        sums = np.zeros((len(sizes), 3))
        kept = np.zeros((len(sizes), self.model.metrics.size), np.float32)
        for k, end in enumerate(ends.tolist()):
            states: Any = self._fresh
            for start in range(end - int(sizes[k]), end, batch):
                at = rows[start : min(start + batch, end)]
                read = self._read(examples, at, batch)
                loss, right, count, states = self._measure_batch(
                    model, there, *read, len(at), states
                )
                sums[k] += [float(loss) * len(at), float(right), float(count)]
            kept[k] = np.concatenate([np.zeros(0), *(np.ravel(s) for s in states)])
        return Measured(sums[:, 0], sums[:, 1], sums[:, 2], kept)

    def _read(self, examples: Any, at: NDArray[Any], batch: int) -> Any:
        """Return examples, the last one repeated until the batch is full.

        Their inputs are rows of the data where that is on the device.
        """
        x, y, weights = examples
        full = at[np.minimum(np.arange(batch), len(at) - 1)]
        given = None
        if self.weighted:  # Where only training weights examples, all count 1 here.
            given = np.ones(batch, np.float32) if weights is None else weights[full]
        return full.astype(np.int32) if x is None else inputs.rows(x, full), y[full], given

    def _client_of(self, flat: Any, metrics: Any = None) -> Client:
        parts = self.lanes.parts(flat)
        count = self.lanes.spec.trainable
        cast = [
            p.astype(v.dtype)
            for p, v in zip(parts, [*self.model.trained, *self.model.statistics], strict=True)
        ]
        client = self._client._replace(trained=cast[:count], statistics=cast[count:])
        return client if metrics is None else client._replace(metrics=metrics)

    def _by_example(self, flat: Any, there: Any, x: Any, y: Any, weights: Any) -> Any:
        """Return each example's loss, whether it is right, and how much it counts, [n] each."""
        model, x = self.model, rows_of(there, x)
        with model.scope(self._client_of(flat), self._frozen), traced(model.keras):
            output = model.keras(model.inputs(x), training=False)
            loss = losses.per_example(model.keras, y, output, weights)
            counts = jnp.ones(loss.shape[0], bool)
            return loss, *model.measures.right(y, output, weights, counts)

    def _batch(
        self, flat: Any, there: Any, x: Any, y: Any, weights: Any, count: Any, metrics: Any
    ) -> Any:
        """Measure a batch as Keras' ``evaluate`` does: its loss, what is right, what counts."""
        model, client, x = self.model, self._client_of(flat, metrics), rows_of(there, x)
        scope = model.scope(client, self._frozen, collect_losses=True)
        counts = jnp.arange(y.shape[0]) < count
        given = model.inputs(x)
        with scope, traced(model.keras, counts):
            output = model.keras(given, training=False)
            mask_rows(output, counts)
            loss = losses.total(model.keras, given, y, output, weights, training=False)
            model.metrics.update(y, output, weights, counts)
            right, counted = model.measures.right(y, output, weights, counts)
        loss = jnp.asarray(loss, jnp.float32)
        if loss.ndim:
            loss = loss.sum() / (loss.size / counts.size * count)
        right = jnp.where(counts, right, 0).sum() if right.shape == counts.shape else right.sum()
        return loss, right, counted.sum(), model.after(scope, client)["metrics"]
