"""The sections ``stop`` and ``save``: when a run ends before its last round, which models stay."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from simulation.config.fields import Count, Float, Section

if TYPE_CHECKING:
    from simulation.config.experiment import Experiment

Where = Literal["server", "clients"]
"""Whose figures: on the server's test set, or over the clients' validation examples."""

LOWER_IS_BETTER = (
    "loss", "error", "mae", "mse", "crossentropy", "divergence", "poisson", "log_cosh", "logcosh",
    "huber", "hinge", "perplexity",
)  # fmt: skip
"""Words in the names of metrics of which less is better; ``analysis`` has them too."""


def is_lower_better(metric: str) -> bool:
    """Tell whether smaller values of a metric are better."""
    return any(word in metric for word in LOWER_IS_BETTER)


def figure(on: Where, metric: str) -> str:
    """Return what a metric is called in ``rounds.jsonl``."""
    return f"{on.removesuffix('s')}_{metric}"


class Stop(Section):
    """When a run ends before its last round (see :mod:`simulation.rounds.watching`).

    ``accuracy``: a target: the run ends with the first round that is measured with so much or more.
    ``loss``: likewise, with so much or less. ``target``: likewise, of ``metric``.
    ``patience``: measured rounds in a row after which it ends if ``metric`` has not improved.
    ``min_delta``: what counts as an improvement: more than this.
    ``metric``: what ``target`` and ``patience`` go by; by default the accuracy, or the loss where
    that alone has a target. ``on``: whose figures these are, ``server`` or ``clients``.
    """

    accuracy: Annotated[Float, Field(gt=0, le=1)] | None = None
    loss: Float | None = None
    target: Float | None = None
    patience: Count | None = None
    min_delta: Annotated[Float, Field(ge=0)] = 0.0
    metric: str | None = None
    on: Where = "server"

    @model_validator(mode="after")
    def _keys_have_a_use(self) -> Stop:
        if self.target is not None and self.metric is None:
            raise ValueError(
                f"stop.metric must be given with stop.target, which is one of it, got {self.target}"
            )
        if self.metric is not None and self.target is None and self.patience is None:
            raise ValueError(
                "stop.metric must be left out without stop.target or stop.patience, which go by "
                f"it, got {self.metric!r}"
            )
        if self.min_delta and self.patience is None:
            raise ValueError(
                f"stop.min_delta must be left out without stop.patience, got {self.min_delta:g}"
            )
        if self.on != "server" and not self.active:
            raise ValueError(
                "stop.on must be left out where no target and no patience is given, "
                f"got {self.on!r}"
            )
        return self

    @property
    def active(self) -> bool:
        """Whether a run may end early."""
        return self.patience is not None or bool(self.targets)

    @property
    def targets(self) -> dict[str, float]:
        """Targets by metric."""
        given = {"accuracy": self.accuracy, "loss": self.loss, self.metric or "": self.target}
        return {name: value for name, value in given.items() if value is not None}

    @property
    def by(self) -> str:
        """The metric that patience goes by."""
        if self.metric is not None:
            return self.metric
        return "loss" if self.loss is not None and self.accuracy is None else "accuracy"

    @property
    def metrics(self) -> set[str]:
        """All metrics that a run must have for it."""
        return {*self.targets} | ({self.by} if self.patience is not None else set())


class Save(Section):
    """Which models stay in the run folder beside the last one.

    ``best``: that of the round with the best ``metric``, as ``best.keras``.
    ``every``: rounds between two models that are kept in the folder ``models``.
    ``metric``: what is best: the highest, or of losses and errors the lowest. ``on``: whose
    figures these are, ``server`` or ``clients``.
    """

    best: bool = False
    every: Count | None = None
    metric: str = "accuracy"
    on: Where = "server"

    @model_validator(mode="after")
    def _keys_have_a_use(self) -> Save:
        for name in ("metric", "on"):
            value = getattr(self, name)
            if not self.best and value != type(self).model_fields[name].default:
                raise ValueError(f"save.{name} must be left out without save.best, got {value!r}")
        return self

    @property
    def asked(self) -> str | None:
        """The first key that keeps a model; None where none does."""
        return "best" if self.best else None if self.every is None else "every"


def check(experiment: Experiment) -> None:
    """Raise ValueError where what is measured does not say when to stop, or what is best."""
    stop, save = experiment.stop, experiment.save
    for name, on, used in (("stop", stop.on, stop.active), ("save", save.on, save.best)):
        if used:
            _check_measured(experiment, name, on)
    if save.every is not None and save.every > experiment.rounds:
        raise ValueError(
            f"save.every must be at most rounds ({experiment.rounds}), got {save.every}"
        )
    if experiment.mode == "local" and save.asked is not None:
        raise ValueError(
            "save must be left out with the mode 'local', which has no model but the clients', "
            f"got {save.asked!r}"
        )


def _check_measured(experiment: Experiment, name: str, on: Where) -> None:
    plan = experiment.evaluation
    if on == "server" and not plan.server:
        raise ValueError(
            f"{name}.on must be 'clients' where evaluation.server is false, got 'server'"
        )
    held = experiment.partition.validation > 0 and experiment.mode != "centralised"
    if on == "clients" and not (plan.clients and held):
        raise ValueError(
            f"{name}.on must be 'server' where clients measure nothing (evaluation.clients, "
            "partition.validation, mode), got 'clients'"
        )
