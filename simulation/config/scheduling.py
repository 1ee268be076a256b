"""The section ``schedule``: when the server steps, on the clock that ``devices`` gives a run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from simulation.config.attack import COLLUDING
from simulation.config.fields import Count, Float, Int, Positive, Section, is_number
from simulation.config.sections import StrategyConfig
from strategies import catalog

if TYPE_CHECKING:
    from simulation.config.experiment import Experiment

PERCENTILE = re.compile(r"(\d+(?:\.\d+)?)%")


def _deadline(value: Any) -> Any:
    if is_number(value) and value > 0:
        return float(value)
    found = PERCENTILE.fullmatch(value) if isinstance(value, str) else None
    if found and 0 < float(found[1]) <= 100:
        return value
    raise ValueError("must be seconds (> 0) or a percentile such as '80%'")


def _cloud(value: Any) -> Any:
    if value is None:
        return None
    found = StrategyConfig(name=value) if isinstance(value, str) else value
    if isinstance(found, Mapping):
        found = StrategyConfig.model_validate(found)
    if not isinstance(found, StrategyConfig):
        raise ValueError("must be a strategy by name, or a table with a name and options")
    try:
        catalog.build(found.name, **found.options)
    except ValueError as error:
        raise ValueError(f"schedule.cloud: {error}") from None
    return found


class Schedule(Section):
    """When the server steps (see :mod:`simulation.rounds.clocked`).

    ``kind``: ``synchronous`` waits for all that count; ``deadline`` until the deadline at most;
    ``buffered`` steps at every so many updates (FedBuff), ``asynchronous`` at every one (FedAsync),
    ``semi-synchronous`` at every interval; ``hierarchical`` when all edges have sent the models
    that they made with their clients (HierFAVG).
    ``concurrency``: clients at work at a time; the cohort's size by default.
    ``buffer``: updates of a step of ``buffered``; 10, or the concurrency where that is less.
    ``interval``: virtual seconds between the steps of ``semi-synchronous``.
    ``staleness``: how the weight of an update falls with the steps s that its model is behind:
    ``constant`` (1), ``polynomial`` ((1 + s)^-exponent, the default), ``hinge`` (1 up to
    hinge_from, then 1 / (hinge_slope (s - hinge_from) + 1)).
    ``exponent``: of ``polynomial``.
    ``hinge_slope``: of ``hinge``.
    ``hinge_from``: of ``hinge``.
    ``max_staleness``: steps that a model may be behind; older updates do not count.
    ``mixing``: for ``asynchronous``, how far the model moves towards a client's that is not stale.
    ``deadline``: seconds from the round's start, or a percentile of the durations of those asked,
    such as ``"80%"``.
    ``late``: what is done with clients that come after it: ``drop``, or ``partial``, which counts
    what they had done by then.
    ``edges``: servers between clients and cloud, of ``hierarchical``.
    ``edge_rounds``: rounds of an edge with its clients in one of the cloud; 2 by default.
    ``group_by``: which clients an edge has. Equally many: dealt at ``random``, in the ``order`` of
    their numbers, by the ``labels`` that most of their examples have, or by ``speed``, the time for
    a step. ``tier`` and ``time-zone`` are the devices', ``column`` is ``edge`` in their file.
    ``edge_up``: bytes a second that an edge sends to the cloud, without limit by default.
    ``edge_down``: bytes a second that it receives from there, likewise.
    ``edge_latency``: seconds that a message between them takes besides.
    ``cloud``: a strategy that moves the cloud's model by what edges moved it by, each like a
    client; by default the new model is the edges' mean, weighed by their clients' examples.
    """

    kind: Literal[
        "synchronous", "deadline", "buffered", "asynchronous", "semi-synchronous", "hierarchical"
    ] = "synchronous"
    deadline: Annotated[float | str, BeforeValidator(_deadline)] | None = None
    late: Literal["drop", "partial"] = "drop"
    concurrency: Count | None = None
    buffer: Count | None = None
    interval: Positive | None = None
    staleness: Literal["constant", "polynomial", "hinge"] | None = None
    exponent: Positive = 0.5
    hinge_slope: Positive = 10.0
    hinge_from: Annotated[Float, Field(ge=0)] = 4.0
    max_staleness: Annotated[Int, Field(ge=0)] | None = None
    mixing: Annotated[Float, Field(gt=0, le=1)] = 0.6
    edges: Count | None = None
    edge_rounds: Count = 2
    group_by: Literal["random", "order", "labels", "speed", "tier", "time-zone", "column"] = (
        "random"
    )
    edge_up: Positive | None = None
    edge_down: Positive | None = None
    edge_latency: Annotated[Float, Field(ge=0)] = 0.0
    cloud: Annotated[StrategyConfig | None, BeforeValidator(_cloud)] = None

    @model_validator(mode="after")
    def _keys_have_a_use(self) -> Schedule:
        for name, kinds in _ONLY.items():
            value = getattr(self, name)
            if value != type(self).model_fields[name].default and self.kind not in kinds:
                raise ValueError(
                    f"schedule.{name} must be left out for the schedule {self.kind!r}, "
                    f"got {value!r}"
                )
        law = self.staleness or "polynomial"
        for name, which in (
            ("exponent", "polynomial"),
            ("hinge_slope", "hinge"),
            ("hinge_from", "hinge"),
        ):
            value = getattr(self, name)
            if value != type(self).model_fields[name].default and law != which:
                raise ValueError(
                    f"schedule.{name} must be left out unless schedule.staleness is {which!r}, "
                    f"got {value!r}"
                )
        for name in _NEEDED.get(self.kind, ()):
            if getattr(self, name) is None:
                raise ValueError(
                    f"schedule.{name} must be given for the schedule {self.kind!r}, got none"
                )
        return self._edges_are_said_once()

    def _edges_are_said_once(self) -> Schedule:
        given = self.group_by in GIVEN_GROUPS
        if given and self.edges is not None:
            raise ValueError(
                "schedule.edges must be left out where schedule.group_by is "
                f"{self.group_by!r}, which says how many there are, got {self.edges}"
            )
        if self.kind == "hierarchical" and not given and self.edges is None:
            raise ValueError(
                "schedule.edges must be given where schedule.group_by is "
                f"{self.group_by!r}, got none"
            )
        return self

    @property
    def one_by_one(self) -> bool:
        """Whether clients are sent out one by one, not round by round."""
        return self.kind in _ONE_BY_ONE

    @property
    def in_cohorts(self) -> bool:
        """Whether a round of the server is one cohort, of clients with one model."""
        return self.kind in ("synchronous", "deadline")

    def weight(self, staleness: int) -> float:
        """Return the weight of an update whose model is so many steps behind."""
        if self.staleness == "constant":
            return 1.0
        if self.staleness == "hinge":
            over = staleness - self.hinge_from
            return 1.0 if over <= 0 else 1.0 / (self.hinge_slope * over + 1.0)
        return float((1.0 + staleness) ** -self.exponent)


_ONE_BY_ONE = ("buffered", "asynchronous", "semi-synchronous")

GIVEN_GROUPS = ("tier", "time-zone", "column")
"""Ways of grouping clients that say by themselves how many groups there are."""

_EDGES = ("edges", "edge_rounds", "group_by", "edge_up", "edge_down", "edge_latency", "cloud")

_ONLY = {
    "deadline": ("deadline",),
    "late": ("deadline",),
    "buffer": ("buffered",),
    "interval": ("semi-synchronous",),
    "mixing": ("asynchronous",),
    **dict.fromkeys(
        ("concurrency", "staleness", "exponent", "hinge_slope", "hinge_from", "max_staleness"),
        _ONE_BY_ONE,
    ),
    **dict.fromkeys(_EDGES, ("hierarchical",)),
}
"""Keys that have a use for some schedules alone."""

_NEEDED = {"deadline": ("deadline",), "semi-synchronous": ("interval",)}
"""Keys that a schedule cannot do without."""


def check(experiment: Experiment) -> None:
    """Raise ValueError where an experiment's schedule does not fit the rest of it."""
    plan, devices = experiment.schedule, experiment.devices
    if plan.kind != "synchronous" and devices is None:
        raise ValueError(
            "schedule must be 'synchronous' without devices, which say how long clients take, "
            f"got {plan.kind!r}"
        )
    if devices is None:
        return
    if experiment.resources.engine == "flower":
        raise ValueError(
            "devices must be left out with the engine 'flower', whose rounds have no clock, "
            f"got {devices.kind!r}"
        )
    if experiment.sampling.kind == "round-robin" and devices.availability != "always":
        raise ValueError(
            "sampling must be another than 'round-robin' where devices.availability is not "
            "'always': who is away at its turn would miss it, "
            f"got {devices.availability!r}"
        )
    if plan.one_by_one and experiment.mode == "federated":
        _check_one_by_one(experiment)
    if plan.kind == "hierarchical" and experiment.mode == "federated":
        _check_hierarchical(experiment)


def _check_one_by_one(experiment: Experiment) -> None:
    plan, most = experiment.schedule, concurrency_of(experiment)
    if experiment.cohort is not None and most != experiment.cohort_size:
        raise ValueError(
            f"cohort must be left out, or as many as schedule.concurrency ({most}), which says how "
            f"many clients are at work, got {experiment.cohort_size}"
        )
    if most > experiment.clients:
        raise ValueError(
            f"schedule.concurrency must be at most clients ({experiment.clients}), got {most}"
        )
    if plan.buffer is not None and plan.buffer > most:
        raise ValueError(
            f"schedule.buffer must be at most the concurrency ({most}), got {plan.buffer}"
        )
    if experiment.realism.active:
        raise ValueError(
            f"realism must be left out with the schedule {plan.kind!r}: devices say who is slow "
            "or away, got one"
        )
    if experiment.attack.kind in COLLUDING:
        raise ValueError(
            f"attack.kind must be another with the schedule {plan.kind!r}, which has no rounds "
            "whose honest updates attackers could agree on, got "
            f"{experiment.attack.kind!r}"
        )
    if experiment.sampling.kind not in (None, "uniform", "by-size"):
        raise ValueError(
            f"sampling must be 'uniform' or 'by-size' with the schedule {plan.kind!r}, which has "
            f"no cohorts, got {experiment.sampling.kind!r}"
        )


def _check_hierarchical(experiment: Experiment) -> None:
    plan, devices = experiment.schedule, experiment.devices
    assert devices is not None
    for what, most, why in (
        ("clients", experiment.clients, ""),
        ("the cohort", experiment.cohort_size, ", of which every edge asks somebody"),
    ):
        if plan.edges is not None and plan.edges > most:
            raise ValueError(
                f"schedule.edges must be at most {what} ({most}){why}, got {plan.edges}"
            )
    if plan.group_by == "time-zone" and devices.availability != "diurnal":
        raise ValueError(
            "schedule.group_by must be another than 'time-zone' unless devices.availability is "
            f"'diurnal', got {devices.availability!r}"
        )
    if plan.group_by == "column" and devices.kind != "file":
        raise ValueError(
            "schedule.group_by must be another than 'column' for devices that are not of a file, "
            f"got {devices.kind!r}"
        )
    if experiment.sampling.kind == "power-of-choice":
        raise ValueError(
            "sampling must be another with the schedule 'hierarchical', whose edges do not wait "
            "for each other's losses, got 'power-of-choice'"
        )


def rounds_within(experiment: Experiment) -> int:
    """Return how many rounds of clients are one of the server: those of edges, or one."""
    plan = experiment.schedule
    within = plan.kind == "hierarchical" and experiment.mode == "federated"
    return plan.edge_rounds if within else 1


def server_round(experiment: Experiment, round: int) -> int:
    """Return the server's round of a round of clients, both from 1."""
    return (round - 1) // rounds_within(experiment) + 1


def concurrency_of(experiment: Experiment) -> int:
    """Return how many clients are at work at a time, where they are sent out one by one."""
    return experiment.schedule.concurrency or experiment.cohort_size


def buffer_of(experiment: Experiment) -> int | None:
    """Return how many updates a step takes; None where it takes what has come."""
    plan = experiment.schedule
    if plan.kind == "semi-synchronous":
        return None
    return 1 if plan.kind == "asynchronous" else plan.buffer or min(10, concurrency_of(experiment))


def updates_of(experiment: Experiment) -> int:
    """Return how many clients a server step hears, at most or in the mean.

    With intervals that is a matter of time: as many as are at work, at most. A client that trains
    in several rounds of its edge counts in each.
    """
    if not experiment.schedule.one_by_one or experiment.mode != "federated":
        return experiment.cohort_size * rounds_within(experiment)
    return buffer_of(experiment) or concurrency_of(experiment)


def percentile_of(deadline: float | str) -> float | None:
    """Return the percentile that a deadline is given as; None for one in seconds."""
    found = PERCENTILE.fullmatch(deadline) if isinstance(deadline, str) else None
    return float(found[1]) if found else None
