"""What is measured of a model: its loss, which accuracy, which further metrics; decided once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from simulation.training.backend import ModelError
from simulation.training.keras import accuracy, losses, private
from simulation.training.keras.accuracy import PLAIN, Accuracy
from simulation.training.keras.measuring import MetricColumns, described, fitting, flattened
from simulation.training.keras.named_metrics import (
    Added,
    NamedMetrics,
    beside,
    joined_names,
    named_metrics,
    scores_are_logits,
)
from simulation.training.measured import Described


class Measures:
    """Accuracy and metrics of a compiled model.

    Args:
        model: the model.
        y: the target of an example [1, ...].
        output: zeros of the shape and type of the model's output for it.
        weights: the example's weight [1], where examples have one.
        classes: number of classes of the dataset, None where it has none.
        chosen: whether Sunflower chose the loss.
        asked: names of metrics beside those that it is compiled with.
        targets: those of all examples.

    Raises:
        ModelError: when loss or metrics do not fit output and targets.
    """

    def __init__(
        self, model: keras.Model, y: NDArray[Any], output: NDArray[Any], weights: Any,
        classes: int | None, chosen: bool, asked: Sequence[str] = (),
        targets: NDArray[Any] | None = None,
    ) -> None:  # fmt: skip
        self.chosen = chosen
        target, given = jnp.asarray(y), jnp.asarray(output)
        with fitting(model, given, y):
            compiled = private.compiled_metrics(model)
            if compiled is not None and not compiled.built:
                compiled.build(target, given)
            self.loss, _ = losses.resolved(model, target, given)
            self.accuracy = accuracy.choose(model, target, given, classes)
            named = named_metrics(
                asked, self.accuracy, scores_are_logits(model, self.loss), given,
                y if targets is None else targets, model.name,
            )  # fmt: skip
            self.metrics = Metrics(model, self.accuracy, named)
            each = self._try(model, target, given, weights)
        self.by_batches = not each or self.metrics.size > 0
        """Whether evaluation takes batch by batch of one client, as Keras' ``evaluate`` does."""

    def _try(self, model: keras.Model, y: Any, output: Any, weights: Any) -> bool:
        """Compute what is measured once; tell whether a batch's loss is a mean over examples."""
        found: list[bool] = []

        def measure(y: Any, output: Any) -> Any:
            values = [(v, v.value) for v in model.variables]
            with keras.StatelessScope(values, collect_losses=True):
                losses.total(model, None, y, output, weights, training=False)
                self.metrics.update(y, output, weights, jnp.ones(1, bool))
                found.append(losses.by_example(model, y, output, weights))
                return self.right(y, output, weights, jnp.ones(1, bool))

        jax.eval_shape(measure, y, output)
        # What layers have added was computed, and so is known, in another trace than this.
        return found[0] and not any(private.added_losses(one) for one in private.layers_of(model))

    def right(self, y: Any, output: Any, weights: Any, counts: Any) -> tuple[Any, Any]:
        """Return what is right of each example and what counts [n]; NaN without an accuracy."""
        if self.accuracy is not None:
            return self.accuracy.of(y, output, weights)
        return jnp.full(counts.shape, jnp.nan), counts.astype(jnp.float32)

    def described(self, scale: Any) -> Described:
        """Return what a run says of its model."""
        return described(self.loss, self.chosen, self.accuracy, self.metrics.names, scale)


class Metrics(MetricColumns):
    """The metrics that a model is compiled with, beside the accuracy; variables as one vector [S].

    What a Keras metric has seen is in its variables, and those of two sets of examples add up.

    Args:
        model: a compiled model whose metrics are built.
        accuracy: the one that is measured anyway.
        named: those that an experiment names, if any.

    Raises:
        ModelError: for metrics of the model's or its layers' own, or one that the model is compiled
            with and that is named too.
    """

    def __init__(
        self, model: keras.Model, accuracy: Accuracy | None, named: NamedMetrics | None = None
    ) -> None:
        compiled, mean = private.compiled_metrics(model), private.loss_tracker(model)
        others = [m for m in model.metrics if m is not mean and m is not compiled]
        if others:
            raise ModelError(
                f"model {model.name!r} must have no metrics but those it is compiled with on the "
                f"backend jax, got {others[0].name!r}: use the backend tensorflow"
            )
        known = {*PLAIN, accuracy.alias or "accuracy"} if accuracy is not None else set()
        plain = compiled is None or {m.name for m in compiled.metrics} <= known
        self._whole = None if plain else compiled
        self._known = {"loss", *known}
        self._own: list[Any] = [] if plain else list(compiled.variables)
        self._added = None if named is None else Added(named)
        self.variables = [*self._own, *([] if self._added is None else [self._added.variable])]
        self.size = sum(int(np.prod(v.shape)) for v in self.variables)
        self.names: tuple[str, ...] = ()
        self._results: Any = None
        if self._whole is not None:
            size = sum(int(np.prod(v.shape)) for v in self._own)
            flat = jax.ShapeDtypeStruct((size,), jnp.float32)
            self.names = tuple(jax.eval_shape(self._values, flat))
        if named is not None:
            self.names = joined_names(model, self.names, named)

    def update(self, y: Any, output: Any, weights: Any, counts: Any) -> None:
        """Let the metrics see a batch, of whose rows those count that ``counts`` says."""
        if self._added is not None:
            seen = jax.lax.stop_gradient(output)
            mask = private.mask_of(output)
            if mask is not None:
                private.set_mask(seen, mask)
            self._added.see(y, seen, counts)
        if self._whole is None:
            return
        by_weight = private.weighted_metrics(self._whole) if weights is not None else []
        valid, bare = counts.astype(jnp.float32), jax.lax.stop_gradient(output)
        for metric in self._whole.metrics:
            if any(metric is one for one in by_weight):
                metric.update_state(y, output, sample_weight=weights * valid)
            else:  # Keras leaves a mask of the output out where nothing is weighted.
                metric.update_state(y, bare, sample_weight=valid)

    @override
    def results(self, states: NDArray[Any]) -> NDArray[np.float64]:
        size = sum(int(np.prod(v.shape)) for v in self._own)
        named = None if self._added is None else self._added.metrics
        return beside(self._compiled(states[:, :size]), named, states[:, size:])

    def _compiled(self, states: NDArray[Any]) -> NDArray[np.float64]:
        """Return the values of the metrics that the model is compiled with."""
        if self._whole is None:
            return np.zeros((len(states), 0))
        if self._results is None:
            self._results = jax.jit(lambda flat: jnp.asarray([*self._values(flat).values()]))
        rows = [np.asarray(self._results(np.asarray(row, np.float32))) for row in states]
        return np.array(rows, np.float64).reshape(len(states), -1)

    def _values(self, flat: Any) -> dict[str, Any]:
        pairs, at = [], 0
        for variable in self._own:
            size = int(np.prod(variable.shape))
            part = flat[at : at + size].reshape(variable.shape).astype(variable.dtype)
            pairs.append((variable, part))
            at += size
        with keras.StatelessScope(pairs):
            assert self._whole is not None
            return flattened(self._whole.result(), self._known)
