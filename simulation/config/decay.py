"""The section ``training.decay``: how the clients' learning rate changes from round to round."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from simulation.config.fields import Count, Float, Int, Positive, Section
from strategies.schedules import Constant, Cosine, Exponential, InverseSqrt, Schedule, Step, WarmUp

if TYPE_CHECKING:
    from simulation.config.experiment import Experiment

_ONLY = {
    "factor": ("exponential", "step"),
    "every": ("step",),
    "scale": ("inverse-sqrt",),
    "end": ("cosine",),
    "rounds": ("cosine",),
}
"""Keys that have a use for some kinds alone."""

_NEEDED = {"exponential": ("factor",), "step": ("factor", "every"), "inverse-sqrt": ("scale",)}
"""Keys that a kind cannot do without."""


class Decay(Section):
    """How the clients' learning rate changes from round to round.

    With eta the learning rate of ``training`` and r the round, from 1, counted after the warm-up::

        exponential   eta * factor^(r - 1)
        step          eta * factor^floor((r - 1) / every)
        cosine        eta * (end + (1 - end) (1 + cos(pi (r - 1) / rounds)) / 2)
        inverse-sqrt  eta / sqrt(1 + (r - 1) / scale)

    In the rounds of the warm-up, w of them, it is ``eta * r / (w + 1)``.

    ``kind``: one of these; ``constant`` for a warm-up alone.
    ``factor``: what the rate is multiplied by; for ``exponential`` every round, for ``step`` after
    ``every`` rounds. ``every``: rounds between two changes, for ``step``.
    ``scale``: rounds after which the rate has fallen by the root of 2, for ``inverse-sqrt``.
    ``end``: which part of the rate is left in the end, for ``cosine``.
    ``rounds``: over which a ``cosine`` falls; by default those of the run after the warm-up.
    ``warmup``: rounds in which the rate rises.
    """

    kind: Literal["constant", "exponential", "step", "cosine", "inverse-sqrt"] = "constant"
    factor: Positive | None = None
    every: Count | None = None
    scale: Positive | None = None
    end: Annotated[Float, Field(ge=0, le=1)] = 0.0
    rounds: Count | None = None
    warmup: Annotated[Int, Field(ge=0)] = 0

    @model_validator(mode="before")
    @classmethod
    def _kind_alone(cls, data: Any) -> Any:
        return {"kind": data} if isinstance(data, str) else data

    @model_validator(mode="after")
    def _keys_have_a_use(self) -> Decay:
        for name, kinds in _ONLY.items():
            value = getattr(self, name)
            if value != type(self).model_fields[name].default and self.kind not in kinds:
                raise ValueError(
                    f"training.decay.{name} must be left out for the decay {self.kind!r}, "
                    f"got {value!r}"
                )
        for name in _NEEDED.get(self.kind, ()):
            if getattr(self, name) is None:
                raise ValueError(
                    f"training.decay.{name} must be given for the decay {self.kind!r}, got none"
                )
        if self.kind == "constant" and not self.warmup:
            raise ValueError(
                "training.decay must have a kind (exponential, step, cosine, inverse-sqrt) or a "
                "warmup, got neither"
            )
        return self

    def factors(self, rounds: int) -> Schedule:
        """Return what the learning rate is multiplied by in each round of a run.

        Args:
            rounds: of the run.
        """
        return WarmUp(self._after_warmup(rounds), self.warmup)

    def _after_warmup(self, rounds: int) -> Schedule:
        if self.kind == "exponential":
            return Exponential(1.0, self.factor or 1.0)
        if self.kind == "step":
            return Step(1.0, self.every or 1, self.factor or 1.0)
        if self.kind == "cosine":
            # The round after the last one would be the first at the end: no round trains at 0.
            over = self.rounds or max(1, rounds - self.warmup)
            return Cosine(1.0, over + 1, self.end)
        if self.kind == "inverse-sqrt":
            return InverseSqrt(1.0, self.scale or 1.0)
        return Constant(1.0)

    @property
    def needs_rounds(self) -> bool:
        """Whether it depends on how many rounds the run has."""
        return self.kind == "cosine" and self.rounds is None


def check(experiment: Experiment) -> None:
    """Raise ValueError for a warm-up that never ends, or a rate that is not kept in bounds."""
    decay = experiment.training.decay
    if decay is None:
        return
    if decay.warmup >= experiment.rounds:
        raise ValueError(
            f"training.decay.warmup must be less than rounds ({experiment.rounds}), "
            f"got {decay.warmup}"
        )
    last = experiment.rounds
    try:
        factor = decay.factors(last)(last)
    except OverflowError:
        factor = math.inf
    if not 0 < factor < math.inf:
        raise ValueError(
            "training.decay must leave the clients a finite learning rate > 0 in every round, got "
            f"{factor:g} times it in round {last}"
        )
