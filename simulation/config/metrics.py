"""The key ``evaluation.metrics``: names of what is measured beyond loss and accuracy."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator

from strategies import checks

OF_CLASSES = ("f1", "precision", "recall", "balanced_accuracy", "auc", "per_class", "confusion")
"""Where a model tells classes; besides, ``top5`` and the like."""

OF_NUMBERS = ("mae", "mse", "rmse", "r2")
"""Where a model predicts numbers."""

TOP = re.compile(r"top([1-9]\d*)")


def _names(value: Any) -> Any:
    given = [value] if isinstance(value, str) else value
    if not isinstance(given, list | tuple) or not all(isinstance(name, str) for name in given):
        raise ValueError("must be a list of names")
    names = tuple(name.lower().replace("-", "_") for name in given)
    for name in names:
        if not TOP.fullmatch(name):
            checks.one_of("evaluation.metrics", name, [*OF_CLASSES, "top5", *OF_NUMBERS])
        if names.count(name) > 1:
            raise ValueError(f"evaluation.metrics must name nothing twice, got {list(names)}")
    return names


MetricNames = Annotated[tuple[str, ...], BeforeValidator(_names)]
