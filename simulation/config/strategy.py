"""What is to run: the experiment as it was asked for, and its strategy as a Flower strategy."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import replace
from typing import Any

from flwr.serverapp.strategy import Strategy

from simulation.config import flower_sampling, plugins
from simulation.config.attack import COLLUDING
from simulation.config.compression import compressed
from simulation.config.errors import ConfigError, RunError
from simulation.config.experiment import Experiment
from simulation.config.privacy import check_sampling
from simulation.config.sampling import BY_DEVICES
from simulation.config.sections import StrategyConfig
from strategies import Algorithm, Cohort, Federated, WeightedMean, average, catalog
from strategies.personal import alone
from strategies.phases import EVERYTHING
from strategies.steps import needs_sgd
from strategies.weights import weighed


def asked(experiment: Experiment, **given: str | Callable[..., Any] | None) -> Experiment:
    """Return an experiment with what was given beside it: names or functions, by key.

    Raises:
        RunError: while a module of the user's is being imported, by a worker or by the driver.
    """
    if plugins.importing.get():
        raise RunError(
            "simulate must not be called while its module is imported: "
            "put it under if __name__ == '__main__':"
        )
    changes = {key: value for key, value in given.items() if value is not None}
    named = (experiment.model, experiment.dataset)
    # A script's functions are looked up now, where they were not there yet.
    late = any(name.startswith("__main__:") and "@" not in name for name in named)
    return experiment.replace(**changes) if changes or late else experiment


def make_strategy(experiment: Experiment, strategy: Strategy | Algorithm | None = None) -> Strategy:
    """Return the Flower strategy to run: given, by ``module:name``, or from the catalogue."""
    plan = experiment.strategy
    if experiment.mode == "local":
        if strategy is not None or plan != StrategyConfig():
            raise ConfigError(
                "strategy must be left out in the mode 'local', whose clients train alone, "
                f"got {plan.name if strategy is None else type(strategy).__name__!r}"
            )
        if experiment.resources.engine == "flower":
            raise ConfigError("engine must be 'ray' or 'inline' in the mode 'local', got 'flower'")
        strategy = Algorithm("Local", alone(), WeightedMean(), average())
    if strategy is None and ":" in plan.name:
        found = plugins.find("strategy", plan.name)
        strategy = found(**plan.options) if callable(found) else found
    if strategy is None:
        strategy = catalog.build(plan.name, **plan.options)
    if isinstance(strategy, Algorithm):
        one = experiment.mode != "federated"
        size = None if one or experiment.cohort is None else experiment.cohort_size
        how = experiment.sampling
        _check_sgd(experiment, strategy)
        _check_steps(experiment, strategy)
        _check_pooled(experiment, strategy)
        _check_kept(experiment, strategy)
        _check_candidates(experiment, strategy)
        if strategy.client.personal and experiment.evaluation.personal:
            _check_personal(experiment, strategy)
        cohort = Cohort(size, seed=experiment.seed)
        if not one:
            strategy = weighed(strategy, how.kind)
            # Those that go by devices are the driver's, which alone knows them.
            kind = None if how.kind in BY_DEVICES else how.kind
            cohort = replace(cohort, sampling=kind, candidates=how.candidates)
        return _prepared(experiment, Federated(strategy, cohort))
    if not isinstance(strategy, Strategy):
        raise ConfigError(
            f"strategy must be an Algorithm or a Flower Strategy, got {type(strategy).__name__}"
        )
    if experiment.sampling.kind not in (None, "uniform"):
        raise ConfigError(
            "sampling must be left out for a Flower strategy, which samples by itself, "
            f"got {experiment.sampling.kind!r}"
        )
    if isinstance(strategy, Federated):
        return _prepared(experiment, strategy)
    flower_sampling.check(strategy, experiment)
    return compressed(experiment, strategy)


def _prepared(experiment: Experiment, strategy: Federated) -> Federated:
    """Check who takes part, and get noise for differential privacy ready, if there is any."""
    check_sampling(experiment, strategy)
    strategy = compressed(experiment, strategy)
    if strategy.algorithm.noise is not None:
        strategy = copy(strategy)  # The noise that is found for these rounds is of this run alone.
        strategy.prepare(experiment.rounds, experiment.clients)
    return strategy


def _check_sgd(experiment: Experiment, algorithm: Algorithm) -> None:
    """Raise ConfigError for an optimiser, as far as it is known here, that the formulas exclude."""
    if experiment.mode != "federated" or not needs_sgd(algorithm.client, algorithm.reducer):
        return
    name = experiment.training.optimizer_name
    if name is not None and name.lower() != "sgd":
        raise ConfigError(
            f"training.optimizer must be 'sgd' with {algorithm.name}, whose formulas are those of "
            f"SGD, got {name!r}"
        )


def _check_steps(experiment: Experiment, algorithm: Algorithm) -> None:
    """Raise ConfigError for a number of steps where clients take one, on all that they have."""
    steps = experiment.training.local_steps
    if steps is not None and algorithm.client.full_batch:
        raise ConfigError(
            f"training.local_steps must be left out with {algorithm.name}, whose clients take one "
            f"step on all of their examples, got {steps}"
        )


def _check_candidates(experiment: Experiment, algorithm: Algorithm) -> None:
    """Raise ConfigError for what makes one model of updates, where clients train one of several."""
    if not algorithm.client.candidates:
        return
    kind, plan = experiment.attack.kind, experiment.schedule
    if kind in COLLUDING:
        raise ConfigError(
            f"attack.kind must be that of clients which act alone with {algorithm.name}, whose "
            f"clients' updates are of several models, got {kind!r}"
        )
    if plan.kind == "hierarchical" or plan.one_by_one:
        raise ConfigError(
            f"schedule must be one of rounds without edges with {algorithm.name}, whose clients' "
            f"updates are of several models, got {plan.kind!r}"
        )


def _check_kept(experiment: Experiment, algorithm: Algorithm) -> None:
    """Raise ConfigError for what changes updates, where clients send none."""
    kind = experiment.attack.kind
    if experiment.mode != "federated" or algorithm.client.local != (EVERYTHING,):
        return
    if kind not in (None, "label-flip"):
        raise ConfigError(
            f"attack.kind must be 'label-flip' with {algorithm.name}, whose clients send no "
            f"updates, got {kind!r}"
        )


def _check_pooled(experiment: Experiment, algorithm: Algorithm) -> None:
    """Raise ConfigError for models of clients' own where one client has all data."""
    rule = algorithm.client
    if experiment.mode == "centralised" and (
        rule.second or rule.phases or rule.tuned or rule.candidates or rule.local == (EVERYTHING,)
    ):
        raise ConfigError(
            "strategy must be one whose clients have no models of their own in the mode "
            f"'centralised', whose one client has all data, got {algorithm.name!r}"
        )


def _check_personal(experiment: Experiment, algorithm: Algorithm) -> None:
    """Raise ConfigError where the clients' models cannot be measured on the server's test set."""
    if experiment.resources.engine == "flower":
        raise ConfigError(
            "evaluation.personal must be false with the engine 'flower', which does not give out "
            "what clients keep, got True"
        )
    if algorithm.client.candidates:
        raise ConfigError(
            f"evaluation.personal must be false with {algorithm.name}, whose clients choose among "
            "the server's models, got True"
        )
    if algorithm.client.tuned is not None:
        raise ConfigError(
            f"evaluation.personal must be false with {algorithm.name}, whose clients' models are "
            "made where they are measured, each on its client's data, got True"
        )
