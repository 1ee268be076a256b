"""The section ``schedule``: when the server steps, on the clock that ``devices`` gives a run."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, model_validator

from simulation.config.fields import Section, is_number

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


class Schedule(Section):
    """When the server steps (see :mod:`simulation.rounds.clocked`).

    ``kind``: ``synchronous`` waits for all that count; ``deadline`` until the deadline at most.
    ``deadline``: seconds from the round's start, or a percentile of the durations of those asked,
    such as ``"80%"``.
    ``late``: what is done with clients that come after it: ``drop``, or ``partial``, which counts
    what they had done by then.
    """

    kind: Literal["synchronous", "deadline"] = "synchronous"
    deadline: Annotated[float | str, BeforeValidator(_deadline)] | None = None
    late: Literal["drop", "partial"] = "drop"

    @model_validator(mode="after")
    def _keys_have_a_use(self) -> Schedule:
        for name, kinds in _ONLY.items():
            value = getattr(self, name)
            if value != type(self).model_fields[name].default and self.kind not in kinds:
                raise ValueError(
                    f"schedule.{name} must be left out for the schedule {self.kind!r}, "
                    f"got {value!r}"
                )
        for name in _NEEDED.get(self.kind, ()):
            if getattr(self, name) is None:
                raise ValueError(
                    f"schedule.{name} must be given for the schedule {self.kind!r}, got none"
                )
        return self


_ONLY = {"deadline": ("deadline",), "late": ("deadline",)}
"""Keys that have a use for some schedules alone."""

_NEEDED = {"deadline": ("deadline",)}
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


def percentile_of(deadline: float | str) -> float | None:
    """Return the percentile that a deadline is given as; None for one in seconds."""
    found = PERCENTILE.fullmatch(deadline) if isinstance(deadline, str) else None
    return float(found[1]) if found else None
