"""Types of the configuration's fields, and the base of its sections."""

from __future__ import annotations

import math
from numbers import Real
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def is_number(value: Any) -> bool:
    """Tell whether a value is a number; NumPy's are, true and false are not."""
    return isinstance(value, Real) and not isinstance(value, bool)


def _number(value: Any) -> Any:
    # Neither "1" nor true is a number; NumPy's numbers are.
    if not is_number(value):
        raise ValueError("must be a number")
    return float(value)


def _whole(value: Any) -> Any:
    if not is_number(value) or not math.isfinite(value) or value != int(value):
        raise ValueError("must be a whole number")
    return int(value)


Int = Annotated[int, BeforeValidator(_whole)]

Float = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]

Positive = Annotated[Float, Field(gt=0)]

NotNegative = Annotated[Float, Field(ge=0)]

Count = Annotated[Int, Field(ge=1)]


class Section(BaseModel):
    """A part of the configuration: immutable, and unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)
