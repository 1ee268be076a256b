"""What this version computes otherwise than an earlier one, which gives a run a new identity.

A run is known by the hash of its settings. Where the same settings now mean another computation,
a run made before must not pass for one made now: the names of such changes are hashed as well.
Settings whose computation has stayed keep the identity that they had.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulation.config.cohorts import adds_noise
from strategies import catalog
from strategies.weights import BY_SIZE

if TYPE_CHECKING:
    from simulation.config.experiment import Experiment


def revised(experiment: Experiment) -> list[str]:
    """Return the names of the changes that a run of this experiment meets, in alphabetical order.

    ::

        client momentum    SCAFFOLD and FedNova allow for the momentum of the clients' SGD
        converged median   RFA's geometric median goes on until it has converged
        deadline           stragglers are no longer taken for the fastest of an over-selection
        exact stragglers   an exact share of each round's cohort straggles
        personal models    the server measures no model of which layers stay on the clients
        private cohorts    with noise, poisson cohorts over a fixed number of clients, and an
                           account that goes by how cohorts are drawn
        smoothed loss      adaptive mu goes by the loss of several rounds where not all take part
        uniform weights    cohorts drawn by size are weighed alike, unless weights are given
    """
    if experiment.mode != "federated":
        return []
    return sorted(name for name, meets in CHANGES.items() if meets(experiment))


def _uniform_weights(experiment: Experiment) -> bool:
    plan = experiment.strategy
    if experiment.sampling.kind not in BY_SIZE or "weights" in plan.options:
        return False
    # Only one's own function can tell whether it leaves the weights open.
    return ":" in plan.name or "weights" in catalog.entry(plan.name).options


def _client_momentum(experiment: Experiment) -> bool:
    plan = experiment.strategy
    if plan.name not in ("scaffold", "fednova") or plan.options.get("client_momentum") is not None:
        return False
    # A model of one's own may be compiled with momentum, which only a worker sees.
    return bool(experiment.training.momentum) or ":" in experiment.model


def _converged_median(experiment: Experiment) -> bool:
    plan = experiment.strategy
    return plan.name == "rfa" and plan.options.get("iterations") is None


def _smoothed_loss(experiment: Experiment) -> bool:
    plan = experiment.strategy
    some = experiment.cohort_size < experiment.clients or experiment.realism.active
    return plan.name == "fedprox-adaptive" and some and plan.options.get("window") != 1


def _personal_models(experiment: Experiment) -> bool:
    plan, wanted = experiment.strategy, experiment.evaluation
    if ":" in plan.name or not wanted.server or wanted.personal:
        return False
    return bool(catalog.build(plan.name, **plan.options).client.local)


def _deadline(experiment: Experiment) -> bool:
    plan = experiment.realism
    dropped = plan.drops(experiment.strategy.name)
    return bool(plan.stragglers and plan.over_selection) and not dropped


def _exact_stragglers(experiment: Experiment) -> bool:
    plan = experiment.realism
    return 0 < plan.stragglers < 1 and plan.straggler_draws == "exact"


def _private_cohorts(experiment: Experiment) -> bool:
    return adds_noise(experiment)


CHANGES = {
    "client momentum": _client_momentum,
    "converged median": _converged_median,
    "deadline": _deadline,
    "exact stragglers": _exact_stragglers,
    "personal models": _personal_models,
    "private cohorts": _private_cohorts,
    "smoothed loss": _smoothed_loss,
    "uniform weights": _uniform_weights,
}
