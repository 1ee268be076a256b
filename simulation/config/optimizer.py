"""The key ``training.optimizer``: a Keras optimizer by name, or a table with its options too.

Which options there are only Keras knows, whose optimizers a worker looks at.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict

VALUES = (bool, int, float, str, list, tuple)
"""What an option may be."""

ELSEWHERE = {"learning_rate": "training.learning_rate"}
"""Options that have a key of their own."""


class Optimizer(BaseModel):
    """An optimizer by name, with its options as further keys."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str

    @property
    def options(self) -> dict[str, Any]:
        """Return the options given for the optimizer."""
        return dict(self.model_extra or {})


def _optimizer(value: Any) -> Any:
    if not isinstance(value, Mapping):
        if value is None or isinstance(value, str | Optimizer):
            return value
        raise ValueError("must be a name, or a table with a name and options")
    if not isinstance(value.get("name"), str):
        raise ValueError("must be a name, or a table with a name and options")
    for key, option in value.items():
        if key in ELSEWHERE:
            raise ValueError(
                f"training.optimizer.{key} must be left out: it is {ELSEWHERE[key]}, got {option!r}"
            )
        if not isinstance(option, VALUES):
            raise ValueError(
                f"training.optimizer.{key} must be a number, true or false, text or a list, "
                f"got {option!r}"
            )
    return Optimizer(**value) if len(value) > 1 else value["name"]


def without_momentum(training: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of training with the momentum of ``optimizer`` in its own key.

    Raises:
        ValueError: where both are given, and differ.
    """
    data, optimizer = dict(training), training.get("optimizer")
    if isinstance(optimizer, Optimizer):
        optimizer = optimizer.model_dump()
    if not isinstance(optimizer, Mapping) or optimizer.get("momentum") is None:
        return data
    rest = dict(optimizer)
    momentum = rest.pop("momentum")
    if data.get("momentum") not in (None, momentum):
        raise ValueError(
            f"training.momentum must be left out where training.optimizer has one ({momentum}), "
            f"got {data['momentum']!r}"
        )
    return data | {"optimizer": rest, "momentum": momentum}


OptimizerField = Annotated[str | Optimizer | None, BeforeValidator(_optimizer)]
