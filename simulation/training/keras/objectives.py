"""A client rule's objective for one Keras model: what it sees of a batch, on any backend."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import keras
from keras import ops

from simulation.training.backend import ModelError
from simulation.training.keras import private
from simulation.training.keras.accuracy import ONE_HOT, SPARSE, Accuracy
from simulation.training.keras.metric_rows import exclusive_classes
from simulation.training.keras.named_metrics import scores_are_logits
from strategies.objective import KNOWN, MEANS, Objective, Outputs, Seen

Values = Sequence[tuple[keras.Variable, Any]]
"""Values that variables have in another model."""


class ModelObjective:
    """An objective for one model.

    Args:
        model: a compiled model.
        objective: what is added to its loss.
        accuracy: what tells how the output is read.
        loss: its loss.
        output: of an example [1, ...].
        weighted: whether examples have weights.

    Raises:
        ModelError: for a model that does not tell one class of an example, or that makes its loss
            by itself, or has another loss than the objective is for.
    """

    def __init__(
        self, model: keras.Model, objective: Objective, accuracy: Accuracy | None, loss: Any,
        output: Any, weighted: bool,
    ) -> None:  # fmt: skip
        function = None if accuracy is None else getattr(accuracy.function, "func", None)
        function = function or getattr(accuracy, "function", None)
        if function not in (SPARSE, ONE_HOT) or len(output.shape) != 2:
            raise ModelError(
                f"strategy must be one without an objective of its own for model {model.name!r}, "
                "which does not tell one of several classes for each example"
            )
        if type(model).train_step is not keras.Model.train_step:
            raise ModelError(
                f"strategy must be one without an objective of its own for model {model.name!r}, "
                "whose own train_step makes its loss"
            )
        if objective.entropy and (weighted or not is_entropy(loss)):
            raise ModelError(
                f"strategy must be one without an objective of its own for model {model.name!r}, "
                "whose loss is not the cross-entropy of examples without weights, which that is for"
            )
        self.model, self.objective, self.classes = model, objective, int(output.shape[-1])
        self._logits = scores_are_logits(model, loss)
        self._rows = exclusive_classes(function is ONE_HOT, self._logits)
        self._last = last_layer(model)

    @contextmanager
    def watched(self) -> Iterator[list[Any]]:
        """Note what the model's last layer with weights takes, while the model is called."""
        seen: list[Any] = []
        plain, held = self._last.call, vars(self._last)
        before = held.get("call")

        def call(inputs: Any, *args: Any, **options: Any) -> Any:
            seen.append(inputs)
            return plain(inputs, *args, **options)

        held["call"] = call
        try:
            yield seen
        finally:
            if before is None:
                del held["call"]
            else:
                held["call"] = before

    def term(
        self, x: Any, y: Any, output: Any, features: Sequence[Any], valid: Any,
        received: Values, last: Values | None, numbers: Mapping[str, Any], held: Any = None,
    ) -> Any:  # fmt: skip
        """Return what is added to a batch's loss.

        Args:
            x: the batch, as the model takes it.
            y: its targets.
            output: of the model under way.
            features: what :meth:`watched` noted on the way there.
            valid: which rows count [n]; None: all.
            received: the received model's values.
            last: those of the client's last one, where the objective sees it.
            numbers: what the server shares that is no vector of weights.
            held: the client's counts of classes, where the objective sees them.
        """
        rows = self._rows(y, output, valid)
        seen = Seen(
            rows.truth, rows.weight, self._outputs(output, features),
            self._of(x, received) if self.objective.received else None,
            None if last is None else self._of(x, last), held, *self._shared(numbers),
        )  # fmt: skip
        return self.objective.term(ops, seen, numbers)

    def sums(self, x: Any, y: Any, valid: Any, values: Values) -> tuple[Any, Any]:
        """Return sums of features or logits by class [K, D], and how many rows each has [K].

        Args:
            x: a batch, as the model takes it.
            y: its targets.
            valid: which rows count [n].
            values: of the model.
        """
        with keras.StatelessScope(values), self.watched() as features:
            output = self.model(x, training=False)
        found = self._outputs(output, features)
        told = found.features if self.objective.means == "features" else found.logits
        rows = self._rows(y, output, valid)
        truth = ops.transpose(rows.truth * rows.weight[:, None])
        return ops.matmul(truth, told), ops.sum(truth, axis=-1)

    def of_classes(self, x: Any) -> tuple[int, int]:
        """Return of how many classes how many numbers are told each, by an example."""
        if self.objective.means is None:
            return 0, 0
        with self.watched() as features:
            self.model(x, training=False)
        width = self.classes if self.objective.means == "logits" else _width(features[-1])
        return self.classes, width

    def _shared(self, numbers: Mapping[str, Any]) -> tuple[Any, Any]:
        """Return what is shared of the classes: means [K, D], and of which [K]."""
        if self.objective.means is None:
            return None, None
        return ops.reshape(numbers[MEANS], (self.classes, -1)), numbers[KNOWN]

    def _of(self, x: Any, values: Values) -> Outputs:
        """Return what a model of other values makes of a batch; nothing of it is differentiated."""
        with keras.StatelessScope(values), self.watched() as features:
            output = self.model(x, training=False)
        found = self._outputs(output, features)
        return Outputs(ops.stop_gradient(found.logits), ops.stop_gradient(found.features))

    def _outputs(self, output: Any, features: Sequence[Any]) -> Outputs:
        raw = ops.cast(output, "float32")
        if not self._logits:
            raw = ops.log(ops.maximum(raw, keras.config.epsilon()))
        taken = ops.cast(features[-1], "float32")
        return Outputs(raw, ops.reshape(taken, (-1, _width(taken))))


@contextmanager
def watching(objective: ModelObjective | None) -> Iterator[list[Any]]:
    """Note what an objective must see while the model is called; nothing where there is none."""
    if objective is None:
        yield []
        return
    with objective.watched() as seen:
        yield seen


def is_entropy(loss: Any) -> bool:
    """Tell whether a loss is the cross-entropy of classes, as it is."""
    kinds = keras.losses.SparseCategoricalCrossentropy, keras.losses.CategoricalCrossentropy
    if type(loss) in kinds:
        return not getattr(loss, "label_smoothing", 0.0)
    function = None if loss is None else private.wrapped_function(loss)
    return getattr(function, "__name__", "").endswith("categorical_crossentropy")


def last_layer(model: keras.Model) -> keras.layers.Layer:
    """Return the layer that the last trained weight is of."""
    last = model.trainable_variables[-1]
    for layer in reversed(private.layers_of(model)):
        inner = private.layers_of(layer, include_self=False)
        if not inner and any(variable is last for variable in layer.trainable_variables):
            return layer
    raise ModelError(
        f"strategy must be one without an objective of its own for model {model.name!r}, whose "
        f"last trained weight {last.path!r} is of no layer"
    )


def _width(taken: Any) -> int:
    width = 1
    for size in taken.shape[1:]:
        width *= int(size)
    return width
