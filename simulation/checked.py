"""What arrays must be to make a dataset: their shapes, types and values, rule by rule."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulation import inputs
from simulation.inputs import Inputs
from simulation.sources import DataError

PARTS = ("x_train", "y_train", "x_test", "y_test")
EXTRAS = ("classes", "scale", "owners")


def arrays(name: str, made: Any) -> dict[str, Any]:
    """Return what was made as the fields of a Dataset, checked and in its types.

    Args:
        name: the dataset's, for messages.
        made: ``(x_train, y_train), (x_test, y_test)``, or a mapping with these names and perhaps
            ``classes``, ``scale`` and ``owners``.

    Raises:
        DataError: naming the array, the rule and what was received.
    """
    parts = _parts(name, made)
    x = {part: _inputs(name, part, parts[part]) for part in ("x_train", "x_test")}
    y = {part: _labels(name, part, parts[part]) for part in ("y_train", "y_test")}
    for side in ("train", "test"):
        lengths = [len(part) for part in (*inputs.arrays(x[f"x_{side}"]), y[f"y_{side}"])]
        _require(
            len(set(lengths)) == 1 and lengths[0] > 0,
            name,
            f"x_{side} and y_{side} must have the same length, at least 1",
            " and ".join(map(str, lengths)),
        )
    for kind, pair in (("x", x), ("y", y)):
        train, test = (_kinds(pair[f"{kind}_{side}"]) for side in ("train", "test"))
        _require(
            train == test,
            name,
            f"{kind}_train and {kind}_test must have examples of the same shape and type",
            f"{train} and {test}",
        )
    return {
        **x,
        **y,
        "classes": _classes(name, y["y_train"], y["y_test"], parts.get("classes")),
        "scale": _scale(name, x["x_train"], parts.get("scale")),
        "owners": _owners(name, len(y["y_train"]), parts.get("owners")),
    }


def _require(kept: bool, name: str, rule: str, got: str) -> None:
    if not kept:
        raise DataError(f"dataset {name}: {rule}, got {got}")


def _parts(name: str, made: Any) -> dict[str, Any]:
    if isinstance(made, Mapping):
        missing = [part for part in PARTS if part not in made]
        unknown = [key for key in made if key not in (*PARTS, *EXTRAS)]
        rule = f"the mapping must have the keys {', '.join(PARTS)}"
        _require(not missing, name, rule, f"no {', '.join(missing)}")
        rule = f"the mapping may have the keys {', '.join((*PARTS, *EXTRAS))}"
        _require(not unknown, name, rule, repr(unknown[0]) if unknown else "")
        return dict(made)
    try:
        (x_train, y_train), (x_test, y_test) = made
    except (TypeError, ValueError):
        rule = "the function must return (x_train, y_train), (x_test, y_test), a mapping or Dataset"
        raise DataError(f"dataset {name}: {rule}, got {type(made).__name__}") from None
    return dict(zip(PARTS, (x_train, y_train, x_test, y_test), strict=True))


def _array(name: str, part: str, value: Any) -> NDArray[Any]:
    try:
        array = np.asarray(value)
    except ValueError as error:  # rows of unequal length
        raise DataError(f"dataset {name}: {part} must be an array, got {error}") from None
    kept = array.dtype.kind in "biuf"
    _require(kept, name, f"{part} must be an array of numbers", f"dtype {array.dtype}")
    if array.dtype.kind == "f":
        # Half the memory, and what Keras computes in.
        with np.errstate(over="ignore"):
            array = array.astype(np.float32)
        bad = array.size - int(np.isfinite(array).sum())
        _require(bad == 0, name, f"{part} must be finite", f"{bad} values that are not")
    return np.ascontiguousarray(array)


def _kinds(value: Any) -> str:
    described = inputs.each(lambda array: f"{array.shape[1:]} {array.dtype}", value)
    return described if isinstance(described, str) else str(described).replace("'", "")


def _inputs(name: str, part: str, value: Any) -> Inputs:
    if isinstance(value, Mapping):
        kept = bool(value) and all(isinstance(key, str) for key in value)
        _require(kept, name, f"{part} must name its inputs by text", repr(list(value)))
        return {key: _input(name, f"{part}[{key!r}]", value[key]) for key in sorted(value)}
    # A list is an array written out; a tuple of arrays is several inputs.
    if isinstance(value, tuple) and value and all(isinstance(v, np.ndarray) for v in value):
        return tuple(_input(name, f"{part}[{i}]", v) for i, v in enumerate(value))
    return _input(name, part, value)


def _input(name: str, part: str, value: Any) -> NDArray[Any]:
    array = _array(name, part, value)
    rule = f"{part} must have one row per example, [N, ...]"
    _require(array.ndim >= 2, name, rule, f"shape {array.shape}")
    return array


def _labels(name: str, part: str, value: Any) -> NDArray[Any]:
    array = _array(name, part, value)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.dtype.kind == "f":
        rule = f"{part} must hold a target per example, [N, ...]"
        _require(array.ndim >= 1, name, rule, f"shape {array.shape}")
        return np.ascontiguousarray(array)
    rule = f"{part} must hold class numbers, [N] (floats for a regression)"
    _require(array.ndim == 1, name, rule, f"{array.dtype} of shape {array.shape}")
    lowest = int(array.min(initial=0))
    _require(lowest >= 0, name, f"{part} must hold class numbers from 0 upwards", str(lowest))
    return np.ascontiguousarray(array, np.int64)


def _classes(name: str, y_train: NDArray[Any], y_test: NDArray[Any], given: Any) -> int | None:
    if y_train.dtype.kind == "f":
        _require(given is None, name, "classes must be None for a regression", repr(given))
        return None
    highest = int(max(y_train.max(), y_test.max()))
    if given is not None:
        kept = not isinstance(given, bool) and isinstance(given, Integral) and int(given) > highest
        _require(kept, name, f"classes must be a whole number above {highest}", repr(given))
        return int(given)
    examples = len(y_train) + len(y_test)
    # A label such as 20240131 is no class number, and a model would get an output for each.
    rule = f"labels must be class numbers below the number of examples ({examples})"
    _require(highest < examples, name, rule, str(highest))
    return highest + 1


def _scale(name: str, x: Inputs, given: Any) -> Any:
    if given is None:
        return inputs.each(lambda a: 1 / 255 if a.dtype == np.uint8 and a.ndim >= 3 else 1.0, x)
    if isinstance(x, np.ndarray):
        return _factor(name, given)
    alike = type(given) is type(x) and len(given) == len(x)
    alike = alike and (not isinstance(x, dict) or set(given) == set(x))
    _require(alike, name, "scale must have a number for each of the inputs", repr(given))
    return inputs.each(lambda _, by: _factor(name, by), x, given)


def _factor(name: str, given: Any) -> float:
    kept = not isinstance(given, bool) and isinstance(given, Real) and 0 < float(given) < inf
    _require(kept, name, "scale must be a number above 0", repr(given))
    return float(given)


def _owners(name: str, rows: int, given: Any) -> NDArray[np.int32] | None:
    if given is None:
        return None
    array = np.asarray(given)
    rule = f"owners must hold a whole number for each of the {rows} training examples"
    kept = array.shape == (rows,) and array.dtype.kind in "iu"
    _require(kept, name, rule, f"{array.dtype} of shape {array.shape}")
    found = np.unique(array)
    rule = "owners must be numbered from 0 without gaps"
    got = f"{len(found)} from {found[0]} to {found[-1]}"
    _require(bool(found[0] == 0 and found[-1] == len(found) - 1), name, rule, got)
    return array.astype(np.int32)
