"""A compiled Keras model, taken apart into what training changes and what it leaves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
from numpy.typing import NDArray

from simulation.config.experiment import Experiment
from simulation.datasets import inputs
from simulation.datasets.inputs import Inputs
from simulation.training.backend import ModelError
from simulation.training.jax import refused
from simulation.training.jax.initial_weights import as_on_tensorflow
from simulation.training.jax.measures import Measures
from simulation.training.jax.traced import divides_penalties, traced
from simulation.training.keras import default_loss, models, rescaling
from simulation.training.keras.keras_model import (
    compile_model,
    other_states,
    seed_states,
    statistics,
)
from simulation.training.keras.measuring import check_units
from simulation.training.keras.objectives import ModelObjective
from strategies.client_rule import ClientRule
from strategies.spec import Vector


class PreparedModel:
    """A model of an experiment, compiled.

    Args:
        experiment: the experiment.
        x: examples; their shape and type, and a few of them, count.
        y: labels likewise.
        classes: number of classes, None for regression.
        scale: inputs are multiplied by it; for several inputs one for each, in their structure.
        weighted: whether examples have weights.

    Raises:
        ModelError: when the model cannot be built, does not fit the data or is not for JAX.
    """

    def __init__(
        self, experiment: Experiment, x: Inputs, y: NDArray[Any], classes: int | None, scale: Any,
        weighted: bool,
    ) -> None:  # fmt: skip
        divides_penalties()
        self.like = one = inputs.rows(x, slice(1))
        self._build = (experiment.model, inputs.shapes(x), classes)
        self._init, self._seed = experiment.init, experiment.seed
        self._example = self._scaled(one, scale)
        self.keras = self.built(experiment.seed)
        self.scale = rescaling.effective(self.keras, scale)
        output = self._output(self._scaled(one, self.scale), one, y[:1], classes)
        self._like_output, self._weighted = output, weighted
        default = default_loss.loss_for(self.keras, experiment.training, y, output, classes)
        compile_model(self.keras, experiment.training, default)
        refused.check(self.keras)
        self.optimizer: Any = self.keras.optimizer
        self.trained = list(self.keras.trainable_variables)
        self.statistics = statistics(self.keras)
        self._initial: Vector = flat([*self.trained, *self.statistics])
        self.seeds, self.rest = seed_states(self.keras), other_states(self.keras)
        known = {id(v) for v in [*self.statistics, *self.seeds, *self.rest]}
        self.frozen = [v for v in self.keras.non_trainable_variables if id(v) not in known]
        rate, variables = self.optimizer.learning_rate, list(self.optimizer.variables)
        self._rate = next((i for i, v in enumerate(variables) if v is rate), None)
        self.slots = self.without_rate(variables)
        weights = np.ones(1, np.float32) if weighted else None
        self.measures = Measures(
            self.keras, y[:1], output, weights, classes, default is not None,
            experiment.evaluation.metrics, y,
        )  # fmt: skip
        self.metrics = self.measures.metrics

    def objective(self, rule: ClientRule) -> ModelObjective | None:
        """Return what a client rule adds to the loss, if anything; ModelError if it cannot."""
        if rule.objective is None:
            return None
        of = self.measures
        given = rule.objective, of.accuracy, of.loss, self._like_output, self._weighted
        return ModelObjective(self.keras, *given)

    def built(self, seed: int) -> keras.Model:
        """Return the model as built from a seed, with the weights that TensorFlow would give."""
        name, shape, classes = self._build
        with as_on_tensorflow():
            return models.build(name, shape, classes, seed, self._example, self._init)

    def inputs(self, x: Any) -> Any:
        """Return examples as the model takes them."""
        return inputs.each(
            lambda part, by: part if by == 1.0 else part.astype(jnp.float32) * np.float32(by),
            x, self.scale,
        )  # fmt: skip

    def initial(self, seed: int) -> Vector:
        """Return the initial weights [P]."""
        if seed == self._seed:  # The model itself holds what was saved last.
            return self._initial.copy()
        model = self.built(seed)
        return flat([*model.trainable_variables, *statistics(model)])

    def values(self, variables: Sequence[keras.Variable]) -> list[NDArray[Any]]:
        """Return variables' values as they are now."""
        return [np.asarray(v.value) for v in variables]

    def with_rate(self, slots: list[Any], rate: Any) -> list[Any]:
        """Return all variables of the optimiser: its slots, and a learning rate."""
        if self._rate is None:
            return slots
        return [*slots[: self._rate], rate, *slots[self._rate :]]

    def without_rate(self, variables: list[Any]) -> list[Any]:
        """Return the slots among all variables of the optimiser."""
        return [v for i, v in enumerate(variables) if i != self._rate]

    def scope(self, client: Any, frozen: list[Any], collect_losses: bool = False) -> Any:
        """Return Keras' scope in which the model has a client's values."""
        pairs = [
            *zip(self.trained, client.trained, strict=True),
            *zip(self.statistics, client.statistics, strict=True),
            *zip(self.rest, client.rest, strict=True),
            *zip(self.frozen, frozen, strict=True),
            *zip(self.metrics.variables, client.metrics, strict=True),
            *((v, client.seeds[i]) for i, v in enumerate(self.seeds)),
        ]
        return keras.StatelessScope(pairs, collect_losses, initialize_variables=False)

    def after(self, scope: Any, client: Any) -> dict[str, Any]:
        """Return a client's values as a scope leaves them."""

        def now(variables: Sequence[keras.Variable]) -> list[Any]:
            return [scope.get_current_value(v) for v in variables]

        seeds = jnp.stack(now(self.seeds)) if self.seeds else client.seeds
        return {
            "statistics": now(self.statistics),
            "rest": now(self.rest),
            "metrics": now(self.metrics.variables),
            "seeds": seeds,
        }

    @staticmethod
    def _scaled(x: Inputs, scale: Any) -> Any:
        return inputs.each(
            lambda part, by: part if by == 1.0 else part.astype(np.float32) * np.float32(by),
            x, scale,
        )  # fmt: skip

    def _output(self, like: Any, x: Inputs, y: NDArray[Any], classes: int | None) -> Any:
        """Return the shape and type of the model's output for one example."""

        def forward(taken: Any) -> Any:
            with keras.StatelessScope(), traced(self.keras):
                return self.keras(taken, training=False)

        try:
            out = jax.eval_shape(forward, like)
        except Exception as error:
            other = ModelError(
                f"model {self.keras.name!r} cannot take examples of shape {inputs.shapes(x)}: "
                f"{str(error).splitlines()[0]}"
            )
            raise refused.untraceable(self.keras, error) or other from error
        if not isinstance(out, jax.ShapeDtypeStruct):
            raise ModelError(
                f"model {self.keras.name!r} must have one output, got a {type(out).__name__}"
            )
        check_units(out.shape, y, classes)
        return np.zeros(out.shape, out.dtype)


def flat(variables: Sequence[Any]) -> Vector:
    """Return variables as one float32 vector."""
    parts = [np.ravel(np.asarray(getattr(v, "value", v))) for v in variables]
    return np.concatenate([np.zeros(0), *parts]).astype(np.float32)
