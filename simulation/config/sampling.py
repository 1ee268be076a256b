"""The section ``sampling``: who takes part in a round."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from simulation.config.fields import Count, Float, Int, NotNegative, Section

if TYPE_CHECKING:
    from simulation.config.experiment import Experiment

Share = Annotated[Float, Field(gt=0, le=1)]

BY_DEVICES = ("oort", "tifl")
"""Kinds that go by how long clients take, on the clock that devices give a run."""

BY_LOSSES = ("oort", "tifl", "power-of-choice")
"""Kinds that go by what clients reported, so that a cohort is known only after the one before."""


class Sampling(Section):
    """Who takes part in a round (see :class:`strategies.Cohort`).

    ``kind``: None for ``poisson`` where the strategy adds noise for differential privacy, and for
    ``uniform`` elsewhere. ``oort`` and ``tifl`` are in :mod:`simulation.population.guided`.
    ``candidates``: clients that ``power-of-choice`` asks for their loss.
    ``exploration``: for ``oort``, the part of the first cohort that has not taken part before.
    ``exploration_decay``: what that part is multiplied by from round to round.
    ``exploration_least``: what it does not fall below.
    ``penalty``: of clients that take longer than is preferred, t instead of T: (T / t)^penalty.
    ``preferred``: T, the percentile of all clients' durations that a round is to take at first.
    ``pace``: rounds after which T is looked at again.
    ``pace_step``: what the percentile grows by where clients told less of use than before.
    ``tiers``: groups of clients that take about equally long, for ``tifl``.
    ``credits``: rounds that a tier may have; by default as many as there are.
    ``adapt``: rounds between looks at whether the model still improves for the tier at hand.
    """

    kind: (
        Literal["uniform", "poisson", "by-size", "round-robin", "power-of-choice", "oort", "tifl"]
        | None
    ) = None
    candidates: Count | None = None
    exploration: Share = 0.9
    exploration_decay: Share = 0.98
    exploration_least: Share = 0.2
    penalty: NotNegative = 2.0
    preferred: Annotated[Float, Field(gt=0, le=100)] = 30.0
    pace: Count = 20
    pace_step: Annotated[Float, Field(ge=0, le=100)] = 5.0
    tiers: Annotated[Int, Field(ge=2)] = 5
    credits: Count | None = None
    adapt: Count = 20

    @model_validator(mode="after")
    def _keys_have_a_use(self) -> Sampling:
        for name, kind in _ONLY.items():
            value = getattr(self, name)
            if value != type(self).model_fields[name].default and self.kind != kind:
                raise ValueError(
                    f"sampling.{name} must be left out for the sampling "
                    f"{self.kind or 'uniform'!r}, got {value!r}"
                )
        if self.exploration_least > self.exploration:
            raise ValueError(
                f"sampling.exploration_least must be at most sampling.exploration "
                f"({self.exploration:g}), got {self.exploration_least:g}"
            )
        return self


_OORT = (
    "exploration", "exploration_decay", "exploration_least", "penalty", "preferred", "pace",
    "pace_step",
)  # fmt: skip

_ONLY = {
    "candidates": "power-of-choice",
    **dict.fromkeys(_OORT, "oort"),
    **dict.fromkeys(("tiers", "credits", "adapt"), "tifl"),
}
"""Keys that have a use for one kind alone."""


def check(experiment: Experiment) -> None:
    """Raise ValueError where who takes part cannot be decided as an experiment says."""
    plan, kind = experiment.sampling, experiment.sampling.kind
    if kind not in BY_DEVICES or experiment.mode != "federated":
        return
    if experiment.devices is None:
        raise ValueError(
            "sampling must be another without devices, which say how long clients take, "
            f"got {kind!r}"
        )
    if not experiment.schedule.in_cohorts:
        raise ValueError(
            f"sampling must be another with the schedule {experiment.schedule.kind!r}, which does "
            f"not wait for what a cohort reports, got {kind!r}"
        )
    if kind == "tifl" and plan.tiers * experiment.cohort_size > experiment.clients:
        raise ValueError(
            "sampling.tiers must leave each tier as many clients as a cohort has "
            f"({experiment.cohort_size}): at most {experiment.clients // experiment.cohort_size} "
            f"of {experiment.clients} clients, got {plan.tiers}"
        )
    credits = plan.credits
    if credits is not None and credits * plan.tiers < experiment.rounds:
        raise ValueError(
            f"sampling.credits must be enough for all rounds, at least "
            f"{-(-experiment.rounds // plan.tiers)} for each of {plan.tiers} tiers, got {credits}"
        )
