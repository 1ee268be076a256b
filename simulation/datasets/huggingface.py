"""Hugging Face datasets: ``hf:NAME`` from the hub, ``hf:FOLDER`` from disk (extra ``hf``).

Lhoest et al. (2021), Datasets: A Community Library for Natural Language Processing, arXiv
2109.02846. Loading scripts do not run: the library reads data files only. A folder is what
``save_to_disk`` has written, or one of data files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulation.config.errors import one_line
from simulation.config.sections import Data
from simulation.datasets import tables
from simulation.datasets.errors import DataError

PREFIX = "hf:"

TESTS = ("test", "validation", "valid", "val")
"""Names of the part that is for testing; the first one found is taken."""


def is_meant(name: str) -> bool:
    """Tell whether a dataset's name is meant for this module."""
    return name.startswith(PREFIX)


def read(name: str, how: Data) -> dict[str, Any]:
    """Read a Hugging Face dataset.

    Args:
        name: ``hf:`` and the name on the hub, or a folder.
        how: columns and subset. The label is ``data.label``, else the column ``label``, else the
            only column of classes; the owner is ``data.owner``, else the first column named as
            in :data:`simulation.datasets.tables.OWNERS`; a picture alone is the input where there
            is one.

    Raises:
        DataError: when the library is missing, the dataset cannot be had, or has no such column.
    """
    splits = _splits(name, how)
    if "train" not in splits:
        raise DataError(
            f"dataset {name}: must have a part named 'train', got {', '.join(map(str, splits))}"
        )
    chosen = {"train": splits["train"]}
    test = next((part for part in TESTS if part in splits), None)
    if test is not None:
        chosen["test"] = splits[test]
    features = chosen["train"].features
    how = how.model_copy(update=_guessed(features, how))
    pictures = [c for c in how.features or () if _is_picture(features.get(c))]
    if pictures and len(pictures) < len(how.features or ()):
        raise DataError(
            f"data.features must be pictures alone, or none, for {name}, "
            f"got {', '.join(how.features or ())}"
        )
    arrow = {side: part.with_format("arrow") for side, part in chosen.items()}
    if not pictures:
        made = tables.parts_of(name, {s: part[:] for s, part in arrow.items()}, how)
    else:
        # The table gives labels and owners, a column of zeros stands for the pictures.
        roles = tables.roles(name, list(features), how)
        kept = [c for c in (roles.label, roles.owner, roles.weight) if c is not None]
        stand_in, whole = "sunflower.none", {}
        for side, part in arrow.items():
            table = part.select_columns(kept)[:]
            whole[side] = table.append_column(stand_in, [np.zeros(len(table), np.int8)])
        made = tables.parts_of(name, whole, how.model_copy(update={"features": (stand_in,)}))
        shown = ", ".join(map(repr, pictures))
        made["notes"] = [note.replace(repr(stand_in), shown) for note in made["notes"]]
        for side, part in chosen.items():
            made[f"x_{side}"] = _pictures(name, part, pictures)
    classes = getattr(features[how.label or tables.LABEL], "num_classes", None)
    if classes is None or how.label_type == "numbers":
        return made
    return {**made, "classes": classes}


def _splits(name: str, how: Data) -> Any:
    try:
        import datasets
    except ImportError:
        raise DataError(
            f"dataset {name}: needs the package datasets: pip install 'sunflower-fl[hf]'"
        ) from None
    place = name.removeprefix(PREFIX)
    folder = Path(place).expanduser()
    datasets.disable_progress_bars()
    try:
        if any((folder / file).is_file() for file in ("dataset_dict.json", "state.json")):
            found = datasets.load_from_disk(str(folder))
        else:
            found = datasets.load_dataset(str(folder) if folder.is_dir() else place, how.subset)
    except Exception as error:  # hub, file systems and formats raise all kinds
        raise DataError(
            f"dataset {name}: cannot be loaded ({one_line(error)}). Offline, give the folder of a "
            "copy written by save_to_disk: hf:FOLDER"
        ) from None
    return found if isinstance(found, datasets.DatasetDict) else {"train": found}


def _guessed(features: Any, how: Data) -> dict[str, Any]:
    """Return which columns are meant where nothing is said."""
    guessed: dict[str, Any] = {}
    if how.label is None and tables.LABEL not in features:
        classes = [name for name, kind in features.items() if hasattr(kind, "num_classes")]
        if len(classes) == 1:
            guessed["label"] = classes[0]
    if how.features is None:
        pictures = [name for name, kind in features.items() if _is_picture(kind)]
        if pictures:
            guessed["features"] = tuple(pictures)
    return guessed


def _is_picture(kind: Any) -> bool:
    return type(kind).__name__ == "Image"


def _pictures(name: str, part: Any, columns: list[str]) -> Any:
    made = {column: _stacked(name, column, part) for column in columns}
    return made if len(made) > 1 else made[columns[0]]


def _stacked(name: str, column: str, part: Any) -> NDArray[Any]:
    pictures = part.select_columns([column]).with_format(None)[column]
    images = [np.asarray(picture) for picture in pictures]
    kinds = sorted({f"{image.shape} {image.dtype}" for image in images})
    if len(kinds) != 1:
        raise DataError(
            f"dataset {name}: pictures of {column!r} must have one size and type, "
            f"got {', '.join(kinds[:3])}"
        )
    stacked = np.stack(images)
    return stacked[..., None] if stacked.ndim == 3 else stacked
