"""The datasets: built-in ones, synthetic users, files, Hugging Face, or the user's own.

The driver loads a dataset once; its arrays then go into Ray's object store and are read from
there without copies.
"""

from __future__ import annotations

import logging
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from simulation.config import plugins
from simulation.config.errors import one_line
from simulation.config.sections import Data
from simulation.datasets import (
    archives,
    fashion_mnist,
    files,
    huggingface,
    synthetic,
    validate,
)
from simulation.datasets.dataset import Dataset
from simulation.datasets.errors import DataError
from strategies import checks

__all__ = ["DataError", "Dataset", "load", "names"]

log = logging.getLogger("sunflower.data")

MINI = Path(__file__).parent / "shipped" / "fashion_mnist_mini.npz"
"""6,000 + 1,000 images of Fashion-MNIST, made by ``simulation/datasets/shipped/make_mini.py``."""

_DESCRIPTIONS = {
    "fashion-mnist": "Fashion-MNIST: 60,000 + 10,000 images of clothes, 28x28 grey, 10 classes",
    "fashion-mnist-mini": "6,000 + 1,000 of them, class-balanced; part of Sunflower, no network",
    **{name: archive.about for name, archive in archives.ARCHIVES.items()},
    synthetic.NAME: "30 users, 60 features, 10 classes, as in the FedProx paper: synthetic(1,1)",
}


def names() -> list[tuple[str, str]]:
    """Return the name and a one-line description of every built-in dataset."""
    return list(_DESCRIPTIONS.items())


def load(name: str, data_dir: Path | None = None, how: Data | None = None) -> Dataset:
    """Load a dataset.

    Args:
        name: a built-in's name (see :func:`names`), ``synthetic(1,1)`` with any two numbers,
            ``synthetic(iid)``, ``module:function``, a path (see :mod:`.files`) or ``hf:NAME`` (see
            :mod:`.huggingface`). The function takes no arguments and returns
            ``(x_train, y_train), (x_test, y_test)``, each perhaps with sample weights as a third
            array, a mapping with these four names (and optionally those of
            :data:`simulation.datasets.validate.EXTRAS`) or a Dataset.
        data_dir: a folder that holds the files of a built-in; nothing else is tried then.
        how: how files and Hugging Face datasets are read, and the scale of any dataset.

    Raises:
        DataError: if the name is unknown, the data cannot be had, or the user's arrays do not
            fit together.

    Example:
        >>> load("fashion-mnist-mini").x_train.shape
        (6000, 28, 28, 1)
    """
    how = how or Data()
    is_read = huggingface.is_meant(name) or (":" not in name and _is_file(name))
    if how.reads and not is_read:
        raise DataError(f"data must be left out for a dataset that is no file, got {name!r}")
    if how.subset is not None and not huggingface.is_meant(name):
        raise DataError(
            f"data.subset must be left out for a dataset from files, got {how.subset!r}"
        )
    dataset = _found(name, data_dir, how)
    if data_dir is not None and name not in ("fashion-mnist", *archives.ARCHIVES):
        log.warning("%s: data_dir is of no use here, got %s", name, data_dir)
    if how.scale is not None:
        if not isinstance(dataset.x_train, np.ndarray):
            raise DataError(
                f"data.scale must be left out for a dataset of several inputs, got {how.scale:g} "
                f"for {name!r}; its function may return a scale for each"
            )
        return replace(dataset, scale=validate.factors(name, dataset.x_train, how.scale))
    return dataset


def _found(name: str, data_dir: Path | None, how: Data) -> Dataset:
    if huggingface.is_meant(name):
        return _load_hub(name, how)
    if ":" in name:
        return _load_own(name, how)
    if synthetic.is_meant(name):
        return _load_synthetic(name)
    if name in archives.ARCHIVES:
        return _load_public(name, data_dir, how)
    if name in _DESCRIPTIONS:
        return _load_mini() if name == "fashion-mnist-mini" else _load_full(data_dir)
    if files.is_meant(name):
        return _load_file(name, how)
    try:
        checks.one_of("dataset", name, [*_DESCRIPTIONS, "module:function", "a path", "hf:NAME"])
    except ValueError as error:
        raise DataError(str(error)) from None
    raise DataError(f"dataset must name a function of yours, got {name!r}")


def _is_file(name: str) -> bool:
    known = name in _DESCRIPTIONS or synthetic.is_meant(name)
    return not known and files.is_meant(name)


def _load_full(data_dir: Path | None) -> Dataset:
    files, source = fashion_mnist.fashion_mnist(data_dir)

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
            arrays = {part: archive[part] for part in validate.PARTS}
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


def _load_own(name: str, how: Data) -> Dataset:
    try:
        function = plugins.resolve("dataset", name)
    except ValueError as error:
        raise DataError(str(error)) from error
    try:
        made = function()
    except Exception as error:  # the user's code may raise anything
        raise DataError(
            f"dataset {name}: the function must return arrays, got {one_line(error)}"
        ) from error
    if isinstance(made, Dataset):
        made = {part: getattr(made, part) for part in (*validate.PARTS, *validate.EXTRAS)}
    return _checked(name, made, how, name)


def _checked(name: str, made: Any, how: Data, source: str) -> Dataset:
    return Dataset(name, **validate.arrays(name, made, how.scale is not None), source=source)


def _load_file(name: str, how: Data) -> Dataset:
    return _checked(name, files.read(name, how), how, name)


def _load_hub(name: str, how: Data) -> Dataset:
    parts = huggingface.read(name, how)
    if "y_test" not in parts:
        parts = files.held_out(name, parts, how.test)
    return _checked(name, parts, how, "Hugging Face")


def _load_public(name: str, data_dir: Path | None, how: Data) -> Dataset:
    parts, source = archives.read(name, data_dir)
    return _checked(name, parts, how, source)
