"""What arrays must be to make a dataset: their shapes, types and values, rule by rule."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import inf
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulation.datasets import inputs, targets
from simulation.datasets.arrays import numbers, require, warn_once
from simulation.datasets.inputs import Inputs

PARTS = ("x_train", "y_train", "x_test", "y_test")

WEIGHTS = ("sample_weight", "sample_weight_test")

EXTRAS = ("classes", "scale", "owners", *WEIGHTS, "owner_names")

TOLD = ("notes", "target")
"""What the readers of files say besides."""

ORDINARY = 16.0
"""Inputs of images beyond this are told, since models train badly on them as they are."""


def arrays(name: str, made: Any, scaled: bool = False) -> dict[str, Any]:
    """Return what was made as the fields of a Dataset, checked and in its types.

    Args:
        name: the dataset's, for messages.
        made: ``(x_train, y_train), (x_test, y_test)``, each perhaps with a third array of sample
            weights, or a mapping with these names and perhaps those of :data:`EXTRAS`.
        scaled: whether the caller knows the scale; inputs of an odd range are told otherwise.

    Raises:
        DataError: naming the array, the rule and what was received.
    """
    parts = _parts(name, made)
    x = {part: _inputs(name, part, parts[part]) for part in ("x_train", "x_test")}
    y = {part: targets.checked(name, part, parts[part]) for part in ("y_train", "y_test")}
    for side in ("train", "test"):
        lengths = [len(part) for part in (*inputs.arrays(x[f"x_{side}"]), y[f"y_{side}"])]
        require(
            len(set(lengths)) == 1 and lengths[0] > 0,
            name,
            f"x_{side} and y_{side} must have the same length, at least 1",
            " and ".join(map(str, lengths)),
        )
    for kind, pair in (("x", x), ("y", y)):
        train, test = (_kinds(pair[f"{kind}_{side}"]) for side in ("train", "test"))
        given = parts[f"{kind}_train"]
        joined = isinstance(given, list) and bool(given) and isinstance(given[0], np.ndarray)
        hint = " (a list of arrays is one array: join those of several clients)" if joined else ""
        require(
            train == test,
            name,
            f"{kind}_train and {kind}_test must have examples of the same shape and type",
            f"{train} and {test}{hint}",
        )
    notes = [*parts.get("notes", ())]
    if parts.get("scale") is None and not scaled:
        lines = [f"dataset {name}: {line}" for line in far_ranges(x["x_train"])]
        for line in lines:
            warn_once(line)
        notes += lines
    owners = _owners(name, len(y["y_train"]), parts.get("owners"))
    return {
        **x,
        **y,
        "target": parts.get("target", "y_train"),
        "notes": tuple(notes),
        "classes": targets.number_of_classes(name, y["y_train"], y["y_test"], parts.get("classes")),
        "scale": factors(name, x["x_train"], parts.get("scale")),
        "owners": owners,
        "owner_names": _owner_names(name, owners, parts.get("owner_names")),
        **{
            key: _weights(name, key, len(y[f"y_{side}"]), parts.get(key))
            for key, side in zip(WEIGHTS, ("train", "test"), strict=True)
        },
    }


def _parts(name: str, made: Any) -> dict[str, Any]:
    if isinstance(made, Mapping):
        missing = [part for part in PARTS if part not in made]
        unknown = [key for key in made if key not in (*PARTS, *EXTRAS, *TOLD)]
        rule = f"the mapping must have the keys {', '.join(PARTS)}"
        if len(missing) == len(PARTS) and unknown:
            keys = ", ".join(map(str, unknown[:3])) + (", ..." if len(unknown) > 3 else "")
            hint = "if they are clients, join their rows and say in owners whose each row is"
            require(False, name, rule, f"{keys} ({hint})")
        require(not missing, name, rule, f"no {', '.join(missing)}")
        rule = f"the mapping may have the keys {', '.join((*PARTS, *EXTRAS))}"
        require(not unknown, name, rule, repr(unknown[0]) if unknown else "")
        return dict(made)

    def is_row(value: Any, *lengths: int) -> bool:
        return isinstance(value, list | tuple) and len(value) in lengths

    rule = "the function must return (x_train, y_train), (x_test, y_test), a mapping or Dataset"
    whole = is_row(made, 2) and all(is_row(side, 2, 3) for side in made)
    require(whole, name, rule, _kind(made))
    train, test = made
    of_train, of_test = PARTS[:2] + WEIGHTS[:1], PARTS[2:] + WEIGHTS[1:]
    return dict(zip(of_train, train, strict=False)) | dict(zip(of_test, test, strict=False))


def _kind(made: Any) -> str:
    """Return what a function returned instead, for the message, and how to make arrays of it."""
    several = made if isinstance(made, list | tuple) else (made,)
    if any(hasattr(one, "as_numpy_iterator") for one in several):
        batches = "x, y = map(np.concatenate, zip(*dataset.as_numpy_iterator()))"
        return f"a tf.data.Dataset, of whose batches {batches} makes arrays"
    if isinstance(made, Iterator):
        return f"a {type(made).__name__}: return whole arrays and yield nothing"
    kinds = ", ".join(type(one).__name__ for one in several)
    return f"{type(made).__name__} of {kinds}" if several is made else type(made).__name__


def _kinds(value: Any) -> str:
    described = inputs.each(lambda array: f"{array.shape[1:]} {array.dtype}", value)
    return described if isinstance(described, str) else str(described).replace("'", "")


def _inputs(name: str, part: str, value: Any) -> Inputs:
    if isinstance(value, Mapping):
        kept = bool(value) and all(isinstance(key, str) for key in value)
        require(kept, name, f"{part} must name its inputs by text", repr(list(value)))
        return {key: _input(name, f"{part}[{key!r}]", value[key]) for key in sorted(value)}
    # A list is an array written out; a tuple of arrays is several inputs.
    if isinstance(value, tuple) and value and all(isinstance(v, np.ndarray) for v in value):
        return tuple(_input(name, f"{part}[{i}]", v) for i, v in enumerate(value))
    return _input(name, part, value)


def _input(name: str, part: str, value: Any) -> NDArray[Any]:
    array = numbers(name, part, value)
    rule = f"{part} must have one row per example, [N, ...]"
    require(array.ndim >= 2, name, rule, f"shape {array.shape}")
    return array


def factors(name: str, x: Inputs, given: Any) -> Any:
    """Return what inputs are multiplied by, in their structure: given, or by their types.

    Raises:
        DataError: when there is not one number above 0 for each of the inputs.
    """
    if given is None:
        return inputs.each(lambda a: 1 / 255 if a.dtype == np.uint8 and a.ndim >= 3 else 1.0, x)
    if isinstance(x, np.ndarray):
        return _factor(name, given)
    alike = type(given) is type(x) and len(given) == len(x)
    alike = alike and (not isinstance(x, dict) or set(given) == set(x))
    require(alike, name, "scale must have a number for each of the inputs", repr(given))
    return inputs.each(lambda _, by: _factor(name, by), x, given)


def _factor(name: str, given: Any) -> float:
    kept = not isinstance(given, bool) and isinstance(given, Real) and 0 < float(given) < inf
    require(kept, name, "scale must be a number above 0", repr(given))
    return float(given)


def _owners(name: str, rows: int, given: Any) -> NDArray[np.int32] | None:
    if given is None:
        return None
    array = np.asarray(given)
    rule = f"owners must hold a whole number for each of the {rows} training examples"
    kept = array.shape == (rows,) and array.dtype.kind in "iu"
    require(kept, name, rule, f"{array.dtype} of shape {array.shape}")
    found = np.unique(array)
    rule = "owners must be numbered from 0 without gaps"
    got = f"{len(found)} from {found[0]} to {found[-1]}"
    require(bool(found[0] == 0 and found[-1] == len(found) - 1), name, rule, got)
    return array.astype(np.int32)


def _weights(name: str, part: str, rows: int, given: Any) -> NDArray[np.float32] | None:
    if given is None:
        return None
    weights = numbers(name, part, given).astype(np.float32)
    rule = f"{part} must hold a number for each of the {rows} examples"
    require(weights.shape == (rows,), name, rule, f"shape {weights.shape}")
    lowest = float(weights.min())
    require(lowest >= 0, name, f"{part} must hold numbers >= 0", f"{lowest:g}")
    return weights


def far_ranges(x: Inputs) -> list[str]:
    """Return a line for each array of images or the like whose values are far from [-1, 1]."""
    named = x if isinstance(x, dict) else dict(enumerate(inputs.arrays(x)))
    lines = []
    for key, array in named.items():
        if array.ndim < 3 or array.dtype == np.uint8:
            continue
        low, high = float(array.min()), float(array.max())
        most = max(abs(low), abs(high))
        if most <= ORDINARY:
            continue
        part = "x_train" if isinstance(x, np.ndarray) else f"x_train[{key!r}]"
        shape = ", ".join(["N", *map(str, array.shape[1:])])
        factor = 1 / 255 if ORDINARY < most <= 255 else 1 / most
        lines.append(
            f"{part} holds {array.dtype} values from {low:g} to {high:g} in [{shape}], and only "
            f"uint8 images are scaled by themselves: unless the model scales them, set data.scale, "
            f"such as {factor:.6g}"
        )
    return lines


def _owner_names(
    name: str, owners: NDArray[np.int32] | None, given: Any
) -> tuple[str | int, ...] | None:
    if given is None:
        return None
    require(owners is not None, name, "owner_names must come with owners", "no owners")
    names = [v.item() if isinstance(v, np.generic) else v for v in given]
    number = 0 if owners is None else int(owners.max()) + 1
    rule = f"owner_names must hold a text or whole number for each of the {number} owners"
    require(len(names) == number, name, rule, f"{len(names)}")
    odd = next((v for v in names if not isinstance(v, str | int)), None)
    require(odd is None, name, rule, repr(odd))
    return tuple(names)
