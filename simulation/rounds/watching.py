"""What a run's figures have come to: whether it is to end, and which round was best.

All of it follows from the lines of ``rounds.jsonl``, so that a resumed run ends as one that was
never stopped. Round 0 does not count: nothing has been trained yet.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from simulation.config.ending import Where, figure, is_lower_better
from simulation.config.errors import ConfigError
from simulation.config.experiment import Experiment
from simulation.training.measured import Described
from strategies.client_rule import ClientRule


@dataclass
class Best:
    """The best of a figure so far.

    Args:
        name: of the figure, as in ``rounds.jsonl``.
        least: what counts as an improvement: more than this.
        value: the best one; None before any.
        round: when it was measured.
        waited: how often it was measured since then.
    """

    name: str
    least: float = 0.0
    value: float | None = None
    round: int = 0
    waited: int = 0

    def see(self, record: Mapping[str, Any]) -> bool:
        """Hear of a round; tell whether it is the best so far."""
        found = _plain(record.get(self.name))
        if found is None or record["round"] == 0:
            return False
        sign = -1.0 if is_lower_better(self.name) else 1.0
        if self.value is None or sign * (found - self.value) > self.least:
            self.value, self.round, self.waited = found, int(record["round"]), 0
            return True
        self.waited += 1
        return False


class Watch:
    """Follow a run's figures.

    Args:
        experiment: says when the run ends early, and whether the best model is kept.
    """

    def __init__(self, experiment: Experiment) -> None:
        stop, save = experiment.stop, experiment.save
        self.waits = stop.active
        """Whether a round waits until the one before is measured: it might have been the last."""
        self.reason: str | None = None
        """Why the run ends, in words; None while it goes on."""
        self.best = Best(figure(save.on, save.metric)) if save.best else None
        self._patience = stop.patience
        self._watched = Best(figure(stop.on, stop.by), stop.min_delta)
        self._targets = {figure(stop.on, name): value for name, value in stop.targets.items()}

    def see(self, record: Mapping[str, Any]) -> bool:
        """Hear of a round's line; tell whether its model is the best so far and is to be kept."""
        if self.reason is None and record["round"]:
            self.reason = self._reached(record) or self._waited(record)
        return self.best is not None and self.best.see(record)

    def see_all(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Hear of the rounds that a run goes on from."""
        for record in records:
            self.see(record)

    def _reached(self, record: Mapping[str, Any]) -> str | None:
        for name, target in self._targets.items():
            value, lower = _plain(record.get(name)), is_lower_better(name)
            if value is not None and (value <= target if lower else value >= target):
                return f"{name} {value:.6g} has reached {target:g} in round {record['round']}"
        return None

    def _waited(self, record: Mapping[str, Any]) -> str | None:
        watched = self._watched
        watched.see(record)
        if self._patience is None or watched.waited < self._patience:
            return None
        return (
            f"{watched.name} has not improved on {watched.value:.6g} of round {watched.round} "
            f"in {self._patience} measurements"
        )


def _plain(value: Any) -> float | None:
    # As rounds.jsonl has it: a run that goes on compares the same numbers.
    return None if value is None or not math.isfinite(value) else float(value)


def check(experiment: Experiment, rule: ClientRule, model: Described) -> None:
    """Check that a run has the figures that say when it ends and which round is best.

    Args:
        experiment: the experiment.
        rule: the strategy's client rule.
        model: what a worker says of its model.

    Raises:
        ConfigError: for a metric that the model does not have, or a model that is whole nowhere.
    """
    stop, save = experiment.stop, experiment.save
    known = ["loss", *(["accuracy"] if model.accuracy else []), *model.metrics]
    wanted: list[tuple[str, Where, set[str]]] = [("stop", stop.on, stop.metrics)]
    wanted.append(("save", save.on, {save.metric} if save.best else set()))
    for section, on, metrics in wanted:
        for name in sorted(metrics.difference(known)):
            raise ConfigError(
                f"{section} must go by what is measured of the model: {', '.join(known)}, "
                f"got {name!r}"
            )
        if metrics and on == "server" and rule.scattered and not experiment.evaluation.personal:
            raise ConfigError(
                f"{section}.on must be 'clients' for a strategy {_why_scattered(rule)}, as the "
                "server measures no model without evaluation.personal, got 'server'"
            )
    if rule.scattered and save.asked is not None:
        raise ConfigError(
            f"save must be left out for a strategy {_why_scattered(rule)}, whose model is whole "
            f"nowhere, got {save.asked!r}"
        )


def _why_scattered(rule: ClientRule) -> str:
    if rule.local:
        return "whose layers stay on the clients"
    return "of several models"
