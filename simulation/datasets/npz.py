"""Datasets from ``.npz`` archives: pooled, or one for each client.

Nothing is unpickled: an archive with Python objects in it is refused. Arrays may be called x and y,
or as people call them: ``X_train``, ``train_images`` and ``train_labels``, ``data`` and ``target``.
"""

from __future__ import annotations

import re
import zlib
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from simulation.datasets import inputs
from simulation.datasets.errors import DataError

Arrays = dict[str, NDArray[Any]]

Parts = dict[str, Any]
"""``x_train`` to ``y_test``, and where given ``classes``, ``scale``, ``owners`` and the like."""

INPUTS = ("x", "images", "image", "data", "features", "inputs", "input")

TARGETS = ("y", "labels", "label", "targets", "target")
"""What inputs and targets are called, in any case."""

SIDES = {
    "train": ("train", "training"),
    "test": ("test", "testing"),
    "validation": ("val", "valid", "validation"),
}
"""Words before or after such a name that say for what the rows are."""


def single(name: str, path: Path) -> Parts:
    """Return the parts of one archive."""
    arrays = _read(path)
    parts = _side(name, path, arrays, "train", True) | _extras(arrays)
    if _has(arrays, "test"):
        parts = _with_test(parts, _side(name, path, arrays, "test", False))
    return parts


def pooled(name: str, train: Path, test: Path | None) -> Parts:
    """Return the parts of ``train.npz`` and, if there is one, ``test.npz``."""
    arrays = _read(train)
    parts = _side(name, train, arrays, "train", True) | _extras(arrays)
    if test is not None:
        parts = _with_test(parts, _side(name, test, _read(test), "test", True))
    return parts


def of_clients(name: str, files: list[Path], test: Path | None) -> Parts:
    """Return the parts of one archive for each client, in the order of their names' numbers."""
    files = sorted(files, key=lambda file: _natural(file.name))
    found = [(file, _read(file)) for file in files]
    own = [_side(name, file, arrays, "train", True) for file, arrays in found]
    for file, part in zip(files, own, strict=True):
        if not len(part["y_train"]):
            raise DataError(
                f"dataset {name}: every client must have examples, but {file.name} has no examples"
            )
        _alike(name, file, own[0]["x_train"], part["x_train"])
    parts = _joined(name, files, own, "train")
    parts["owners"] = np.repeat(np.arange(len(own)), [len(p["y_train"]) for p in own])
    parts["owner_names"] = [file.stem for file in files]
    if test is not None:
        return _with_test(parts, _side(name, test, _read(test), "test", True))
    tested = [file for file, arrays in found if _has(arrays, "test")]
    if tested and len(tested) < len(files):
        without = next(file for file in files if file not in tested)
        raise DataError(f"dataset {name}: all clients or none must have y_test, got {without}")
    if tested:
        tests = [_side(name, file, arrays, "test", False) for file, arrays in found]
        parts = _with_test(parts, _joined(name, files, tests, "test"))
    return parts


def _joined(name: str, files: list[Path], own: list[Parts], side: str) -> Parts:
    x, y = f"x_{side}", f"y_{side}"
    parts: Parts = {
        x: inputs.each(lambda *several: np.concatenate(several), *(part[x] for part in own)),
        y: np.concatenate([part[y] for part in own]),
        "notes": own[0]["notes"],
    }
    key = _weight(side)
    weighted = [key in part for part in own]
    if any(weighted) and not all(weighted):
        without = files[weighted.index(False)].name
        raise DataError(f"dataset {name}: all clients or none must have {key}, got {without}")
    if all(weighted):
        parts[key] = np.concatenate([part[key] for part in own])
    return parts


def _with_test(parts: Parts, test: Parts) -> Parts:
    return {**parts, **test, "notes": list(dict.fromkeys([*parts["notes"], *test["notes"]]))}


def _read(path: Path) -> Arrays:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except (OSError, EOFError, AttributeError, ValueError, BadZipFile, zlib.error) as error:
        raise DataError(
            f"dataset: {path} must be an .npz file of arrays without Python objects, got {error}"
        ) from None


def _extras(arrays: Arrays) -> Parts:
    found: Parts = {key: arrays[key] for key in ("owners", "owner_names") if key in arrays}
    return found | {key: arrays[key].item() for key in ("classes", "scale") if key in arrays}


def _has(arrays: Arrays, side: str) -> bool:
    return any(_meaning(key) == (kind, side) for key in arrays for kind in ("x", "y"))


def _side(name: str, path: Path, arrays: Arrays, side: str, plain: bool) -> Parts:
    """Return one side: ``x_train`` (``x_train.NAME`` of several) and ``y_train``, or their like.

    Args:
        name: the dataset's, for messages.
        path: the archive.
        arrays: what it holds.
        side: ``train`` or ``test``.
        plain: whether names that say no side count for this one.
    """
    for where in (side, "") if plain else (side,):
        x, y = _named(name, path, arrays, "x", where), _named(name, path, arrays, "y", where)
        if x and y:
            break
    else:
        raise DataError(
            f"dataset {name}: {path.name} must hold x and y, x_{side} and y_{side}, or x.NAME for "
            f"each of several inputs, got {', '.join(arrays) or 'nothing'}"
        )
    several = {key.partition(".")[2]: arrays[key] for key in x}
    part: Parts = {f"x_{side}": several if "." in x[0] else arrays[x[0]], f"y_{side}": arrays[y[0]]}
    ordinary = {f"{kind}{end}" for kind in "xy" for end in ("", f"_{side}")}
    part["notes"] = []
    if not ordinary.issuperset([*(key.partition(".")[0] for key in x), *y]):
        part["notes"] = [f"for {side}ing: inputs {', '.join(x)}, targets {y[0]}"]
    keys = (_weight(side), "sample_weight") if where == "" else (_weight(side),)
    key = next((key for key in keys if key in arrays), None)
    return part if key is None else {**part, _weight(side): arrays[key]}


def _weight(side: str) -> str:
    return "sample_weight" if side == "train" else "sample_weight_test"


def _named(name: str, path: Path, arrays: Arrays, kind: str, side: str) -> list[str]:
    """Return the arrays that are a side's inputs or targets: those named so exactly, or alike."""
    plain = f"{kind}_{side}".rstrip("_")
    exact = [key for key in arrays if key == plain]
    exact = exact or [key for key in arrays if key.startswith(f"{plain}.") and kind == "x"]
    alike = exact or [key for key in arrays if _meaning(key) == (kind, side)]
    if len(alike) > 1 and not exact:
        what = "inputs" if kind == "x" else "targets"
        raise DataError(
            f"dataset {name}: {path.name} must hold one array of {what}, got {', '.join(alike)}"
        )
    return alike


def _meaning(key: str) -> tuple[str, str] | None:
    """Return what an array's name says: ``("x", "train")`` of ``trainImages``; None for others."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", key.partition(".")[0]).lower().replace("-", "_")
    sides = {word: side for side, several in SIDES.items() for word in several}
    found, side = [], ""
    for word in words.split("_"):
        if word in sides and not side:
            side = sides[word]
        else:
            found.append(word)
    kinds = dict.fromkeys(INPUTS, "x") | dict.fromkeys(TARGETS, "y")
    kind = kinds.get("_".join(found))
    return None if kind is None else (kind, side)


def _alike(name: str, path: Path, first: inputs.Inputs, other: inputs.Inputs) -> None:
    def kind(x: inputs.Inputs) -> str:
        return str(inputs.each(lambda array: f"{array.shape[1:]} {array.dtype}", x))

    if kind(first) != kind(other):
        raise DataError(
            f"dataset {name}: all clients must have examples of the same shape and type, "
            f"got {kind(first)} and {kind(other)} in {path.name}"
        )


def _natural(name: str) -> list[tuple[int, str]]:
    """Return a sorting key under which ``client2`` stands before ``client10``."""
    pieces = re.split(r"(\d+)", name)
    return [(int(piece), "") if piece.isdigit() else (-1, piece) for piece in pieces]
