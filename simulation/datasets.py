"""The datasets: Fashion-MNIST in full or in part, synthetic users, or the user's own.

The driver loads a dataset once; its arrays then go into Ray's object store and are read from
there without copies.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from numbers import Integral, Real
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from simulation import plugins, sources, synthetic
from simulation.sources import DataError
from strategies import checks

__all__ = ["DataError", "Dataset", "load", "names"]

log = logging.getLogger("sunflower.data")

MINI = Path(__file__).parent / "data" / "fashion_mnist_mini.npz"
"""6,000 + 1,000 images of Fashion-MNIST, made by ``simulation/data/make_mini.py``."""

_DESCRIPTIONS = {
    "fashion-mnist": "Fashion-MNIST: 60,000 + 10,000 images of clothes, 28x28 grey, 10 classes",
    "fashion-mnist-mini": "6,000 + 1,000 of them, class-balanced; part of Sunflower, no network",
    synthetic.NAME: "30 users, 60 features, 10 classes, as in the FedProx paper: synthetic(1,1)",
}
_PARTS = ("x_train", "y_train", "x_test", "y_test")
_EXTRAS = ("classes", "scale", "owners")


@dataclass(frozen=True)
class Dataset:
    """Examples for training, held by the clients, and for testing, held by the server.

    Args:
        name: as given to :func:`load`.
        x_train: inputs [N, ...]; images are uint8 [N, height, width, channels].
        y_train: class numbers, int64 [N], or the targets of a regression, float32 [N, ...].
        x_test: inputs of the test set [M, ...].
        y_test: its labels, as for training.
        classes: number of classes; None for a regression.
        scale: what the inputs are multiplied by on their way into the model.
        source: which source served the data.
        owners: the client that each training example belongs to by its origin, int32 [N], numbered
            from 0 without gaps; None where nothing tells. The partition ``natural`` follows it.
    """

    name: str
    x_train: NDArray[Any]
    y_train: NDArray[Any]
    x_test: NDArray[Any]
    y_test: NDArray[Any]
    classes: int | None
    scale: float
    source: str
    owners: NDArray[np.int32] | None = None


def names() -> list[tuple[str, str]]:
    """Return the name and a one-line description of every built-in dataset."""
    return list(_DESCRIPTIONS.items())


def load(name: str, data_dir: Path | None = None) -> Dataset:
    """Load a dataset.

    Args:
        name: ``fashion-mnist``, ``fashion-mnist-mini``, ``synthetic(1,1)`` with any two numbers,
            ``synthetic(iid)`` or ``module:function``. The function takes no arguments and returns
            ``(x_train, y_train), (x_test, y_test)``, a mapping with these four names (and
            optionally ``classes``, ``scale`` and ``owners``) or a Dataset.
        data_dir: a folder that holds the files of Fashion-MNIST; nothing else is tried then.

    Raises:
        DataError: if the name is unknown, the data cannot be had, or the user's arrays do not
            fit together.

    Example:
        >>> load("fashion-mnist-mini").x_train.shape
        (6000, 28, 28, 1)
    """
    if ":" in name:
        dataset = _load_own(name)
    elif synthetic.is_meant(name):
        dataset = _load_synthetic(name)
    elif name in _DESCRIPTIONS:
        dataset = _load_mini() if name == "fashion-mnist-mini" else _load_full(data_dir)
    else:
        try:
            checks.one_of("dataset", name, [*_DESCRIPTIONS, "module:function"])
        except ValueError as error:
            raise DataError(str(error)) from None
        raise DataError(f"dataset must name a function of yours, got {name!r}")
    if data_dir is not None and name != "fashion-mnist":
        log.warning("%s: data_dir is of no use here, got %s", name, data_dir)
    return dataset


def _load_full(data_dir: Path | None) -> Dataset:
    files, source = sources.fashion_mnist(data_dir)

    def images(name: str) -> NDArray[Any]:
        # An IDX file is a header (4 bytes and 4 for each dimension) and the bytes of the array.
        return np.frombuffer(files[name], np.uint8, offset=16).reshape(-1, 28, 28, 1)

    def labels(name: str) -> NDArray[Any]:
        return np.frombuffer(files[name], np.uint8, offset=8).astype(np.int64)

    return Dataset(
        "fashion-mnist",
        images("train-images-idx3-ubyte"),
        labels("train-labels-idx1-ubyte"),
        images("t10k-images-idx3-ubyte"),
        labels("t10k-labels-idx1-ubyte"),
        classes=10,
        scale=1 / 255,
        source=source,
    )


def _load_mini() -> Dataset:
    try:
        with np.load(MINI, allow_pickle=False) as archive:
            arrays = {part: archive[part] for part in _PARTS}
    except (OSError, EOFError, KeyError, ValueError, BadZipFile, zlib.error) as error:
        raise DataError(
            f"fashion-mnist-mini must be a whole file, got {MINI} ({error}); "
            "install sunflower-fl again"
        ) from None
    for part in ("y_train", "y_test"):
        arrays[part] = arrays[part].astype(np.int64)
    return Dataset(
        "fashion-mnist-mini", **arrays, classes=10, scale=1 / 255, source="shipped with Sunflower"
    )


def _load_synthetic(name: str) -> Dataset:
    try:
        given = synthetic.parameters(name)
    except ValueError as error:
        raise DataError(str(error)) from None
    drawn = synthetic.draw(*(given or (0.0, 0.0)), iid=given is None)
    return Dataset(
        name, **vars(drawn), classes=synthetic.CLASSES, scale=1.0, source="drawn by Sunflower"
    )


def _load_own(name: str) -> Dataset:
    try:
        function = plugins.resolve("dataset", name)
    except ValueError as error:
        raise DataError(str(error)) from error
    try:
        made = function()
    except Exception as error:  # the user's code may raise anything
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise DataError(f"dataset {name}: the function must return arrays, got {reason}") from error
    parts = _parts(name, made)
    x = {part: _inputs(name, part, parts[part]) for part in ("x_train", "x_test")}
    y = {part: _labels(name, part, parts[part]) for part in ("y_train", "y_test")}
    for side in ("train", "test"):
        lengths = len(x[f"x_{side}"]), len(y[f"y_{side}"])
        _require(
            lengths[0] == lengths[1] > 0,
            name,
            f"x_{side} and y_{side} must have the same length, at least 1",
            f"{lengths[0]} and {lengths[1]}",
        )
    for kind, pair in (("x", x), ("y", y)):
        train, test = pair[f"{kind}_train"], pair[f"{kind}_test"]
        _require(
            train.shape[1:] == test.shape[1:] and train.dtype == test.dtype,
            name,
            f"{kind}_train and {kind}_test must have examples of the same shape and type",
            f"{train.shape[1:]} {train.dtype} and {test.shape[1:]} {test.dtype}",
        )
    return Dataset(
        name,
        **x,
        **y,
        classes=_classes(name, y["y_train"], y["y_test"], parts.get("classes")),
        scale=_scale(name, x["x_train"], parts.get("scale")),
        source=name,
        owners=_owners(name, len(x["x_train"]), parts.get("owners")),
    )


def _require(kept: bool, name: str, rule: str, got: str) -> None:
    if not kept:
        raise DataError(f"dataset {name}: {rule}, got {got}")


def _parts(name: str, made: Any) -> dict[str, Any]:
    if isinstance(made, Dataset):
        return {part: getattr(made, part) for part in (*_PARTS, *_EXTRAS)}
    if isinstance(made, Mapping):
        missing = [part for part in _PARTS if part not in made]
        unknown = [key for key in made if key not in (*_PARTS, *_EXTRAS)]
        rule = f"the mapping must have the keys {', '.join(_PARTS)}"
        _require(not missing, name, rule, f"no {', '.join(missing)}")
        rule = f"the mapping may have the keys {', '.join((*_PARTS, *_EXTRAS))}"
        _require(not unknown, name, rule, repr(unknown[0]) if unknown else "")
        return dict(made)
    try:
        (x_train, y_train), (x_test, y_test) = made
    except (TypeError, ValueError):
        rule = "the function must return (x_train, y_train), (x_test, y_test), a mapping or Dataset"
        raise DataError(f"dataset {name}: {rule}, got {type(made).__name__}") from None
    return dict(zip(_PARTS, (x_train, y_train, x_test, y_test), strict=True))


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


def _inputs(name: str, part: str, value: Any) -> NDArray[Any]:
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


def _scale(name: str, x: NDArray[Any], given: Any) -> float:
    if given is None:
        return 1 / 255 if x.dtype == np.uint8 and x.ndim >= 3 else 1.0
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
