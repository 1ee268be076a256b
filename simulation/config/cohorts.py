"""How large an experiment's cohorts are: always the same, or only in the mean."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from strategies import catalog

if TYPE_CHECKING:
    from simulation.config.experiment import Experiment


def adds_noise(experiment: Experiment) -> bool:
    """Tell whether the strategy adds noise for differential privacy, as far as its name tells."""
    plan = experiment.strategy
    if ":" in plan.name or experiment.mode != "federated":
        return False
    return catalog.build(plan.name, **plan.options).noise is not None


def varies(experiment: Experiment) -> bool:
    """Tell whether the cohort has its size only in the mean (poisson sampling)."""
    usual = "poisson" if adds_noise(experiment) else "uniform"
    return (experiment.sampling.kind or usual) == "poisson"


def at_most(experiment: Experiment) -> int:
    """Return how many clients train in a round at most: six deviations more where that varies."""
    size = experiment.cohort_size
    spread = 6 * math.sqrt(size) if varies(experiment) else 0.0
    return min(experiment.clients, size + math.ceil(spread))


def unsaid(experiment: Experiment) -> set[str]:
    """Return the tables that say what is done where nothing is said: that of uniform cohorts."""
    uniform = experiment.sampling.kind == "uniform" and not adds_noise(experiment)
    return {"sampling"} if uniform else set()
