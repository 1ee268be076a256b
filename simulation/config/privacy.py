"""Differential privacy of a run: who may take part, and what its record says of the guarantee."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from simulation.config.errors import ConfigError
from simulation.config.experiment import Experiment
from simulation.config.sampling import BY_DEVICES
from strategies import Federated, GaussianNoise
from strategies.privacy import check_model, relative_length
from strategies.spec import Spec


@dataclass(frozen=True)
class Privacy:
    """What a run guarantees.

    Args:
        record: that of :meth:`strategies.GaussianNoise.guarantee`, and ``noise_to_clip``, the
            expected norm of a round's noise in units of the clipping norm; empty without noise.
    """

    record: Mapping[str, Any]

    @property
    def notes(self) -> list[str]:
        """What is told before the run starts: a line where there is noise."""
        said = self.record
        if not said:
            return []
        return [
            f"privacy: epsilon {said['epsilon']:.3g} at delta {said['delta']:.3g} after "
            f"{said['rounds']} rounds, to {said['neighbours']} ({said['sampling']} sampling); "
            f"the noise is {said['noise_to_clip']:.3g} times as long as the clipping norm"
        ]

    @property
    def settings(self) -> dict[str, Any]:
        """What ``config.json`` says of it."""
        return {"privacy": self.record} if self.record else {}

    def spent(self, lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return what ``summary.json`` says of it after the rounds of ``rounds.jsonl``."""
        if not self.record:
            return {}
        last = lines[-1] if lines else {"round": 0}
        spent = {"rounds": last["round"], "epsilon": last.get("epsilon", 0.0)}
        return {"privacy": {**self.record, **spent}}


def privacy_of(strategy: Any, spec: Spec) -> Privacy:
    """Return what a run guarantees: nothing without noise for differential privacy of ours.

    Raises:
        ValueError: for a model that noise would spoil.
    """
    if not isinstance(strategy, Federated):
        return Privacy({})
    algorithm = strategy.algorithm
    check_model(algorithm, spec)
    noise = algorithm.noise
    if not isinstance(noise, GaussianNoise) or noise.account is None:
        return Privacy({})
    length = relative_length(algorithm, spec.size)
    return Privacy({**noise.guarantee(), "noise_to_clip": length})


def check_sampling(experiment: Experiment, strategy: Federated) -> None:
    """Raise ConfigError when clients take part in another way than the sampling says.

    Args:
        experiment: the experiment.
        strategy: what it runs: noise for differential privacy is accounted for by its cohort.
    """
    plan, kind = experiment.realism, strategy.cohort.kind
    if strategy.algorithm.noise is None:
        if kind == "poisson" and plan.over_selection:
            raise ConfigError(
                "realism.over_selection must be 0 with the sampling 'poisson', whose cohorts have "
                f"no fixed size, got {plan.over_selection:g}"
            )
        return
    if experiment.sampling.kind in BY_DEVICES:
        raise ConfigError(
            "sampling must be 'poisson' or 'uniform' with noise for differential privacy, whose "
            f"account takes every client as equally likely, got {experiment.sampling.kind!r}"
        )
    if experiment.mode != "federated":
        raise ConfigError(
            f"mode must be 'federated' with noise for differential privacy, got {experiment.mode!r}"
        )
    if strategy.seeded_noise is False and experiment.resources.engine != "flower":
        raise ConfigError(
            "seeded_noise must be left out in a simulation, whose rounds can be repeated, got False"
        )
    usual = type(plan)()
    given = {name: getattr(plan, name) for name in ("dropout", "availability", "over_selection")}
    if plan.stragglers and plan.drops(experiment.strategy.name):
        given["drop_stragglers"] = plan.drop_stragglers
    if 0 < plan.stragglers < 1 and plan.straggler_draws != "independent":
        raise ConfigError(
            "realism.straggler_draws must be 'independent' with noise for differential privacy, as "
            f"a client changes who else is in an exact share, got {plan.straggler_draws!r}"
        )
    for name, value in given.items():
        if value != getattr(usual, name):
            raise ConfigError(
                f"realism.{name} must be left out with noise for differential privacy, whose "
                f"account takes every client as equally likely to take part, got {value!r}"
            )
