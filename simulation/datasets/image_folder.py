"""Datasets from a folder of pictures, in a folder for each class: ``photos/cat/1.png``.

Folders ``train`` and ``test`` above those of the classes are two parts. Classes are numbered in
alphabetical order of their names. Pictures are read with Pillow, as [height, width, channels].
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulation.datasets.errors import DataError

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")

READ_AS = {"1": "L", "P": "RGB", "CMYK": "RGB", "YCbCr": "RGB", "LA": "L"}
"""Kinds of picture of Pillow's that are turned into another one."""


def of_folder(name: str, path: Path) -> dict[str, Any] | None:
    """Return the parts of a folder of class folders; None where there are no such pictures.

    Raises:
        DataError: for pictures that cannot be read, or differ in size or channels.
    """
    sides = {side: _classes(path / side) for side in ("train", "test")}
    if not sides["train"]:
        sides = {"train": _classes(path), "test": {}}
    train, test = sides["train"], sides["test"]
    if not train:
        return None
    unknown = next((label for label in test if label not in train), None)
    if unknown is not None:
        raise DataError(
            f"dataset {name}: test must have the classes of train ({', '.join(train)}), "
            f"got {unknown!r}"
        )
    labels = list(train)
    parts: dict[str, Any] = {"classes": len(labels)}
    first: tuple[Path, NDArray[Any]] | None = None
    for side, files in sides.items():
        pictures = []
        for path in (picture for several in files.values() for picture in several):
            picture = _picture(name, path)
            first = first or (path, picture)
            _alike(name, first, path, picture)
            pictures.append(picture)
        if pictures:
            parts[f"x_{side}"] = np.stack(pictures)
            numbers = [labels.index(label) for label in files]
            parts[f"y_{side}"] = np.repeat(numbers, [len(several) for several in files.values()])
    shown = ", ".join(f"{number} {label}" for number, label in enumerate(labels))
    return {**parts, "notes": [f"classes: {shown}"]}


def _classes(path: Path) -> dict[str, Sequence[Path]]:
    """Return the pictures of each folder in ``path`` that has any, by the folder's name."""
    if not path.is_dir():
        return {}
    folders = sorted(folder for folder in path.iterdir() if folder.is_dir())
    found = {
        folder.name: sorted(f for f in folder.iterdir() if f.suffix.lower() in ENDINGS)
        for folder in folders
    }
    return {label: pictures for label, pictures in found.items() if pictures}


def _picture(name: str, path: Path) -> NDArray[Any]:
    from PIL import Image

    try:
        with Image.open(path) as picture:
            array = np.asarray(picture.convert(READ_AS.get(picture.mode, picture.mode)))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"dataset {name}: {path} must be a picture, got {reason}") from None
    return array[..., None] if array.ndim == 2 else array


def _alike(name: str, first: tuple[Path, NDArray[Any]], path: Path, picture: NDArray[Any]) -> None:
    def told(array: NDArray[Any]) -> str:
        height, width, channels = array.shape
        return f"{height}x{width} with {channels} channels of {array.dtype}"

    if told(picture) != told(first[1]):
        raise DataError(
            f"dataset {name}: pictures must have one size and kind, got {told(first[1])} in "
            f"{first[0]} and {told(picture)} in {path}"
        )
