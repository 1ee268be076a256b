"""Datasets from files: what a path holds, and which rows are held out for testing.

Tables (:mod:`~simulation.datasets.tables`), ``.npz`` archives (:mod:`~simulation.datasets.npz`),
LEAF's JSON (:mod:`~simulation.datasets.leaf_json`) and folders of pictures
(:mod:`~simulation.datasets.image_folder`). Nothing is unpickled. Files tell which client owns a row
by a column, an array ``owners``, LEAF's users, or by there being one archive for each client.
"""

from __future__ import annotations

from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from simulation.config.sections import Data
from simulation.datasets import columns, delimited, image_folder, inputs, leaf_json, npz, tables
from simulation.datasets.arrays import warn_once
from simulation.datasets.errors import DataError
from strategies.random_streams import stream

HELD = 0x4845
"""Purpose of the random stream that chooses the rows held out for testing."""

SIDES = ("train", "test")

TABLES = (".parquet", *delimited.ENDINGS)

ENDINGS = (".npz", ".json", *TABLES)
"""How the names of files end that are read."""

REFUSED = (".npy", ".pkl", ".pickle", ".joblib", ".h5", ".hdf5", ".mat", ".xlsx", ".txt")
"""Names that are meant as files too, but of a kind that is not read."""

Parts = dict[str, Any]
"""``x_train`` to ``y_test``, where given ``classes``, ``scale``, ``owners``, ``owner_names`` and
sample weights, and lines for the log in ``notes``."""


def is_meant(name: str) -> bool:
    """Tell whether a dataset's name is meant as a path: it ends so, or has a separator in it."""
    return name.lower().endswith(ENDINGS + REFUSED) or "/" in name or Path(name).is_dir()


def read(name: str, how: Data) -> Parts:
    """Read a file, or a folder of files.

    Args:
        name: a table, an ``.npz``, LEAF's JSON, or a folder of such files or of pictures.
        how: columns, and which part is held out where there is no test part.

    Raises:
        DataError: when nothing is there, or it cannot be read as a dataset.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        parts = _folder(name, path, how)
    elif not path.is_file():
        raise DataError(f"dataset must be a file or a folder that exists, got {name!r}")
    elif tables.is_meant(path):
        parts = tables.read(name, path, None, how)
    elif path.suffix == ".npz":
        parts = npz.single(name, path)
    elif path.suffix == ".json":
        parts = leaf_json.of_file(name, path)
    else:
        raise DataError(
            f"dataset must be a file that ends in {', '.join(ENDINGS)}, or a folder, got {name!r} "
            "(np.savez makes an .npz of arrays)"
        )
    if "target" not in parts:
        parts = _without_columns(name, parts, how)
    return parts if "y_test" in parts else held_out(name, parts, how.test)


def _without_columns(name: str, parts: Parts, how: Data) -> Parts:
    """Return parts that are of no table, with their labels as asked for."""
    for key in ("features", "label", "owner", "weight", "encode"):
        if getattr(how, key) is not None:
            raise DataError(f"data.{key} must be left out for data without columns, got {name!r}")
    labels = {side: parts[f"y_{side}"] for side in SIDES if f"y_{side}" in parts}
    made = columns.targets(name, "y_train", labels, how.label_type, parts["notes"])
    return {**parts, **made}


def _folder(name: str, path: Path, how: Data) -> Parts:
    for ending in TABLES:
        named = {side: path / f"{side}{ending}" for side in SIDES}
        if named["train"].is_file():
            test = named["test"] if named["test"].is_file() else None
            return tables.read(name, named["train"], test, how)
    files = sorted(path.glob("*.npz"))
    named = {side: path / f"{side}.npz" for side in SIDES}
    test = named["test"] if named["test"] in files else None
    clients = [file for file in files if file not in named.values()]
    if named["train"] in files and clients:
        raise DataError(
            f"dataset {name}: beside train.npz only test.npz is read, got {clients[0].name}"
        )
    if named["train"] in files:
        return npz.pooled(name, named["train"], test)
    if clients:
        return npz.of_clients(name, clients, test)
    parts = leaf_json.of_folder(name, path) or image_folder.of_folder(name, path)
    if parts is None:
        held = sorted(file.name for file in path.iterdir())[:3]
        raise DataError(
            f"dataset {name}: the folder must hold .npz files, one for each client, or "
            "train.npz, train.parquet, train.csv, LEAF's JSON, or a folder of pictures for each "
            f"class, got {', '.join(held) or 'nothing'}"
        )
    return parts


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
        whose = (
            "" if owners is None else f" of {len(sizes)} clients, none of more than {sizes.max()}"
        )
        raise DataError(
            f"dataset {name}: data.test must leave rows for training and for testing, "
            f"got {fraction:g} of {len(y)}{whose}"
        )
    notes = list(parts.get("notes", ()))
    few = int((fraction * sizes < 1).sum())
    if few:
        notes.append(
            f"dataset {name}: {few} of {len(sizes)} clients have fewer than "
            f"{ceil(1 / fraction)} rows, of which data.test = {fraction:g} holds out none"
        )
        warn_once(notes[-1])
    made = {
        **parts,
        "notes": notes,
        "x_train": inputs.rows(parts["x_train"], train),
        "y_train": y[train],
    }
    made |= {"x_test": inputs.rows(parts["x_train"], test), "y_test": y[test]}
    if parts.get("sample_weight") is not None:
        weight = np.asarray(parts["sample_weight"])
        made |= {"sample_weight": weight[train], "sample_weight_test": weight[test]}
    return made if owners is None else {**made, "owners": groups[train]}
