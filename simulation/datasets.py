"""The datasets: built-in ones, synthetic users, files, Hugging Face, or the user's own.

The driver loads a dataset once; its arrays then go into Ray's object store and are read from
there without copies.
"""

from __future__ import annotations

import logging
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from simulation import checked, files, hub, plugins, public, sources, synthetic, targets
from simulation.inputs import Inputs
from simulation.sections import Data
from simulation.sources import DataError
from strategies import checks

__all__ = ["DataError", "Dataset", "load", "names"]

log = logging.getLogger("sunflower.data")

MINI = Path(__file__).parent / "data" / "fashion_mnist_mini.npz"
"""6,000 + 1,000 images of Fashion-MNIST, made by ``simulation/data/make_mini.py``."""

_DESCRIPTIONS = {
    "fashion-mnist": "Fashion-MNIST: 60,000 + 10,000 images of clothes, 28x28 grey, 10 classes",
    "fashion-mnist-mini": "6,000 + 1,000 of them, class-balanced; part of Sunflower, no network",
    **{name: archive.about for name, archive in public.ARCHIVES.items()},
    synthetic.NAME: "30 users, 60 features, 10 classes, as in the FedProx paper: synthetic(1,1)",
}


@dataclass(frozen=True)
class Dataset:
    """Examples for training, held by the clients, and for testing, held by the server.

    Args:
        name: as given to :func:`load`.
        x_train: inputs [N, ...]; images are uint8 [N, height, width, channels]. A model of several
            inputs takes a tuple of arrays, or a mapping of them by name.
        y_train: targets as they were given: class numbers, int64 [N]; whole numbers of more
            dimensions in their own type (masks, sequences, one-hot rows); else float32 [N, ...].
        x_test: inputs of the test set [M, ...].
        y_test: its targets, as for training.
        classes: number of classes: of one-hot rows their length, of whole numbers the highest and
            one more; None for other targets.
        scale: what the inputs are multiplied by on their way into the model; for several inputs
            one for each, in their structure.
        source: which source served the data.
        owners: the client that each training example belongs to by its origin, int32 [N], numbered
            from 0 without gaps; None where nothing tells. The partition ``natural`` follows it.
        sample_weight: how much each training example counts, float32 [N]; None for all alike.
        sample_weight_test: the same of the test examples, float32 [M].
        owner_names: what each owner is called where the data comes from, text or a whole number,
            by the owner's number; None where the numbers are all there is.
        target: what holds the targets, for messages.
        notes: lines for the log about how the data was read.
    """

    name: str
    x_train: Inputs
    y_train: NDArray[Any]
    x_test: Inputs
    y_test: NDArray[Any]
    classes: int | None
    scale: Any
    source: str
    owners: NDArray[np.int32] | None = None
    sample_weight: NDArray[np.float32] | None = None
    sample_weight_test: NDArray[np.float32] | None = None
    owner_names: tuple[str | int, ...] | None = None
    target: str = "y_train"
    notes: tuple[str, ...] = ()

    @property
    def labels(self) -> NDArray[np.int64] | None:
        """Class of every training example, int64 [N].

        None where an example has no one class: a regression, masks, several labels each.
        """
        if self.classes is None:
            return None
        return targets.classes_of(self.y_train)


def names() -> list[tuple[str, str]]:
    """Return the name and a one-line description of every built-in dataset."""
    return list(_DESCRIPTIONS.items())


def load(name: str, data_dir: Path | None = None, how: Data | None = None) -> Dataset:
    """Load a dataset.

    Args:
        name: a built-in's name (see :func:`names`), ``synthetic(1,1)`` with any two numbers,
            ``synthetic(iid)``, ``module:function``, a path (see :mod:`simulation.files`) or
            ``hf:NAME`` (see :mod:`simulation.hub`). The function takes no arguments and returns
            ``(x_train, y_train), (x_test, y_test)``, each perhaps with sample weights as a third
            array, a mapping with these four names (and optionally those of
            :data:`simulation.checked.EXTRAS`) or a Dataset.
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
    is_read = hub.is_meant(name) or (":" not in name and _is_file(name))
    if how.reads and not is_read:
        raise DataError(f"data must be left out for a dataset that is no file, got {name!r}")
    if how.subset is not None and not hub.is_meant(name):
        raise DataError(
            f"data.subset must be left out for a dataset from files, got {how.subset!r}"
        )
    dataset = _found(name, data_dir, how)
    if data_dir is not None and name not in ("fashion-mnist", *public.ARCHIVES):
        log.warning("%s: data_dir is of no use here, got %s", name, data_dir)
    if how.scale is not None:
        if not isinstance(dataset.x_train, np.ndarray):
            raise DataError(
                f"data.scale must be left out for a dataset of several inputs, got {how.scale:g} "
                f"for {name!r}; its function may return a scale for each"
            )
        return replace(dataset, scale=checked.factors(name, dataset.x_train, how.scale))
    return dataset


def _found(name: str, data_dir: Path | None, how: Data) -> Dataset:
    if hub.is_meant(name):
        return _load_hub(name, how)
    if ":" in name:
        return _load_own(name, how)
    if synthetic.is_meant(name):
        return _load_synthetic(name)
    if name in public.ARCHIVES:
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
            arrays = {part: archive[part] for part in checked.PARTS}
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
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise DataError(f"dataset {name}: the function must return arrays, got {reason}") from error
    if isinstance(made, Dataset):
        made = {part: getattr(made, part) for part in (*checked.PARTS, *checked.EXTRAS)}
    return _checked(name, made, how, name)


def _checked(name: str, made: Any, how: Data, source: str) -> Dataset:
    return Dataset(name, **checked.arrays(name, made, how.scale is not None), source=source)


def _load_file(name: str, how: Data) -> Dataset:
    return _checked(name, files.read(name, how), how, name)


def _load_hub(name: str, how: Data) -> Dataset:
    parts = hub.read(name, how)
    if "y_test" not in parts:
        parts = files.held_out(name, parts, how.test)
    return _checked(name, parts, how, "Hugging Face")


def _load_public(name: str, data_dir: Path | None, how: Data) -> Dataset:
    parts, source = public.read(name, data_dir)
    return _checked(name, parts, how, source)
