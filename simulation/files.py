"""Datasets from files: ``.npz`` archives (pooled, or one for each client) and Parquet tables.

Nothing is unpickled: an archive with Python objects in it is refused. Files tell which client owns
a row by a column, by an array ``owners``, or by there being one archive for each client.
"""

from __future__ import annotations

import re
import zlib
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from simulation import inputs, tables
from simulation.sections import Data
from simulation.sources import DataError
from strategies.core import stream

HELD = 0x4845
"""Purpose of the random stream that chooses the rows held out for testing."""

SIDES = ("train", "test")

Parts = dict[str, Any]
"""``x_train`` to ``y_test``, and where given ``classes``, ``scale`` and ``owners``."""


def is_meant(name: str) -> bool:
    """Tell whether a dataset's name is meant as a path: it ends so, or has a separator in it."""
    return name.endswith((".npz", ".parquet")) or "/" in name or Path(name).is_dir()


def read(name: str, how: Data) -> Parts:
    """Read a file, or a folder of files.

    Args:
        name: an ``.npz`` or Parquet file, or a folder of such files.
        how: columns, and which part is held out where there is no test part.

    Raises:
        DataError: when nothing is there, or it cannot be read as a dataset.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        parts = _folder(name, path, how)
    elif not path.is_file():
        raise DataError(f"dataset must be a file or a folder that exists, got {name!r}")
    elif path.suffix == ".parquet":
        parts = tables.read(name, path, None, how)
    elif path.suffix == ".npz":
        parts = _archive(name, path)
    else:
        raise DataError(f"dataset must be an .npz or .parquet file, got {name!r}")
    if path.suffix != ".parquet" and not (path / "train.parquet").is_file():
        given = [key for key in ("features", "label", "owner") if getattr(how, key) is not None]
        if given:
            raise DataError(f"data.{given[0]} must be left out for .npz files, got {name!r}")
    return parts if "y_test" in parts else held_out(name, parts, how.test)


def held_out(name: str, parts: Parts, fraction: float) -> Parts:
    """Move a part of the training rows to the test set; of each owner alike, at random.

    The same rows for every experiment's seed: what is tested belongs to the dataset.

    Args:
        name: the dataset's, for the message.
        parts: without a test part.
        fraction: which part of the rows, rounded down for each owner.

    Raises:
        DataError: when that is no row at all.
    """
    y, owners = parts["y_train"], parts.get("owners")
    groups = np.zeros(len(y), np.int32) if owners is None else np.asarray(owners)
    order = stream(0, HELD).permutation(len(y))
    order = order[np.argsort(groups[order], kind="stable")]
    sizes = np.bincount(groups)
    rank = np.arange(len(y)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    chosen = rank < np.repeat((fraction * sizes).astype(np.int64), sizes)
    test, train = np.sort(order[chosen]), np.sort(order[~chosen])
    if not len(test) or not len(train):
        raise DataError(
            f"dataset {name}: data.test must leave rows for training and for testing, "
            f"got {fraction:g} of {len(y)}"
        )
    made = {**parts, "x_train": inputs.rows(parts["x_train"], train), "y_train": y[train]}
    made |= {"x_test": inputs.rows(parts["x_train"], test), "y_test": y[test]}
    if parts.get("sample_weight") is not None:
        weight = np.asarray(parts["sample_weight"])
        made |= {"sample_weight": weight[train], "sample_weight_test": weight[test]}
    return made if owners is None else {**made, "owners": groups[train]}


def _folder(name: str, path: Path, how: Data) -> Parts:
    if (path / "train.parquet").is_file():
        test = path / "test.parquet"
        return tables.read(name, path / "train.parquet", test if test.is_file() else None, how)
    files = sorted(path.glob("*.npz"), key=lambda file: _natural(file.name))
    named = {side: path / f"{side}.npz" for side in SIDES}
    if named["train"] in files:
        return _pooled(name, named, files)
    clients = [file for file in files if file not in named.values()]
    if not clients:
        raise DataError(
            f"dataset {name}: the folder must hold .npz files, one for each client, or "
            "train.npz or train.parquet, got none of them"
        )
    found = [(file, _read(file)) for file in clients]
    own = [_side(name, file, arrays, "train") for file, arrays in found]
    for file, other in zip(clients, own, strict=True):
        _alike(name, file, own[0][0], other[0])
    parts: Parts = {
        "x_train": _joined([x for x, _ in own]),
        "y_train": np.concatenate([y for _, y in own]),
        "owners": np.repeat(np.arange(len(own)), [len(y) for _, y in own]).astype(np.int32),
    }
    if named["test"] in files:
        tests = [_side(name, named["test"], _read(named["test"]), "test")]
    else:
        tests = [_side(name, file, a, "test") for file, a in found if "y_test" in a]
        if tests and len(tests) < len(clients):
            without = next(file for file, a in found if "y_test" not in a)
            raise DataError(f"dataset {name}: all clients or none must have y_test, got {without}")
    if tests:
        parts |= {
            "x_test": _joined([x for x, _ in tests]),
            "y_test": np.concatenate([y for _, y in tests]),
        }
    return parts


def _pooled(name: str, named: dict[str, Path], files: list[Path]) -> Parts:
    surplus = [file for file in files if file not in named.values()]
    if surplus:
        raise DataError(
            f"dataset {name}: beside train.npz only test.npz is read, got {surplus[0].name}"
        )
    arrays = _read(named["train"])
    x, y = _side(name, named["train"], arrays, "train")
    parts = {"x_train": x, "y_train": y, **_extras(arrays)}
    if named["test"] in files:
        x, y = _side(name, named["test"], _read(named["test"]), "test")
        parts |= {"x_test": x, "y_test": y}
    return parts


def _archive(name: str, path: Path) -> Parts:
    arrays = _read(path)
    x, y = _side(name, path, arrays, "train")
    parts: Parts = {"x_train": x, "y_train": y, **_extras(arrays)}
    if "y_test" in arrays:
        x, y = _side(name, path, arrays, "test")
        parts |= {"x_test": x, "y_test": y}
    return parts


def _read(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except (OSError, EOFError, AttributeError, ValueError, BadZipFile, zlib.error) as error:
        raise DataError(
            f"dataset: {path} must be an .npz file of arrays without Python objects, got {error}"
        ) from None


def _extras(arrays: dict[str, NDArray[Any]]) -> Parts:
    found: Parts = {"owners": arrays["owners"]} if "owners" in arrays else {}
    return found | {key: arrays[key].item() for key in ("classes", "scale") if key in arrays}


def _side(
    name: str, path: Path, arrays: dict[str, NDArray[Any]], side: str
) -> tuple[inputs.Inputs, NDArray[Any]]:
    """Return one side's inputs and labels: ``x_train`` or plain ``x``, or ``x.NAME`` of several."""
    for key in (f"_{side}", ""):
        if f"y{key}" not in arrays:
            continue
        several = {k.partition(".")[2]: v for k, v in arrays.items() if k.startswith(f"x{key}.")}
        if f"x{key}" in arrays or several:
            return arrays.get(f"x{key}", several), arrays[f"y{key}"]
    raise DataError(
        f"dataset {name}: {path.name} must hold x and y, x_{side} and y_{side}, or x.NAME for "
        f"each of several inputs, got {', '.join(arrays) or 'nothing'}"
    )


def _alike(name: str, path: Path, first: inputs.Inputs, other: inputs.Inputs) -> None:
    def kind(x: inputs.Inputs) -> str:
        return str(inputs.each(lambda array: f"{array.shape[1:]} {array.dtype}", x))

    if kind(first) != kind(other):
        raise DataError(
            f"dataset {name}: all clients must have examples of the same shape and type, "
            f"got {kind(first)} and {kind(other)} in {path.name}"
        )


def _joined(several: list[inputs.Inputs]) -> inputs.Inputs:
    joined: inputs.Inputs = inputs.each(lambda *parts: np.concatenate(parts), *several)
    return joined


def _natural(name: str) -> list[tuple[int, str]]:
    """Return a sorting key under which ``client2`` stands before ``client10``."""
    pieces = re.split(r"(\d+)", name)
    return [(int(piece), "") if piece.isdigit() else (-1, piece) for piece in pieces]
