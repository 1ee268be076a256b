"""Weights to start from: files of Keras, arrays, or checkpoints of a run.

The driver reads a file's bytes, which go to the workers by value. A worker copies the arrays in it
into the model that it has built, by their place in the model's structure; nothing is executed and
no model is built from them.
"""

from __future__ import annotations

import hashlib
import io
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ENDINGS = (".keras", ".weights.h5", ".safetensors", ".npz")
"""Of files that can be read; the last two hold arrays, or a run's flat model."""

FLAT = "model"
"""What a run's checkpoints call their flat model."""

Arrays = dict[str, NDArray[Any]]

_contents: dict[str, bytes] = {}
"""Contents that the driver has handed over, by their sha256."""

KEPT_FILES = 8
"""Contents that a process keeps: the last ones."""


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file's content.

    Raises:
        ValueError: a file of another kind, or none.
    """
    if not path.name.endswith(ENDINGS):
        raise ValueError(
            f"init must be a file that ends in {' or '.join(ENDINGS)}, got {str(path)!r}"
        )
    try:
        about = path.stat()
        return _sha256(path, about.st_mtime_ns, about.st_size)
    except OSError as error:
        raise ValueError(f"init must be a file, got {str(path)!r} ({error.strerror})") from None


@lru_cache
def _sha256(path: Path, changed: int, size: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read(path: Path, sha256: str) -> bytes:
    """Return the content with this sha256: handed over by the driver, or of the file.

    Raises:
        ValueError: if the file is another one now, or is gone.
    """
    if sha256 in _contents:
        return _contents[sha256]
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(
            f"init must be the file that the run began with, got {str(path)!r} ({error.strerror})"
        ) from None
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise ValueError(
            f"init must be the file that the run began with (sha256 {sha256[:12]}), "
            f"got {str(path)!r} (sha256 {found[:12]})"
        )
    return data


def keep(contents: Mapping[str, bytes]) -> None:
    """Note contents that the driver has handed over."""
    for sha256, data in contents.items():
        _contents[sha256] = _contents.pop(sha256, data)
    for old in list(_contents)[:-KEPT_FILES]:
        del _contents[old]


def load(model: Any, path: Path, sha256: str, entries: Callable[[Any], list[Any]]) -> None:
    """Put the weights of a file into a Keras model.

    Args:
        model: a built model.
        path: the file.
        sha256: of its content.
        entries: returns the variables of the flat model [P], in order.

    Raises:
        ValueError: weights that are not the model's.
    """
    data = read(path, sha256)
    if path.name.endswith((".safetensors", ".npz")):
        given = _plain_arrays(path, data)
        if given.keys() == {FLAT} or (path.name.endswith(".safetensors") and FLAT in given):
            _load_flat(entries(model), path, given[FLAT])
        else:
            _load_each(model.weights, path, given)
        return
    found = _arrays_in(path, data)
    with tempfile.TemporaryDirectory() as folder:
        own = Path(folder) / "own.weights.h5"
        model.save_weights(own)
        _replace(own, found, path)
        model.load_weights(own)


def _plain_arrays(path: Path, data: bytes) -> Arrays:
    """Return the arrays of a file by name; none that would have to be unpickled."""
    from safetensors import SafetensorError
    from safetensors.numpy import load as arrays_of

    try:
        if path.name.endswith(".safetensors"):
            return dict(arrays_of(data))
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"init must be a file of arrays, got {str(path)!r} ({reason})") from None


def _load_each(variables: list[Any], path: Path, given: Arrays) -> None:
    """Put arrays into a model: by the variables' paths, or in the order of ``get_weights()``."""
    wanted = paths = [variable.path for variable in variables]
    if set(given) != set(wanted):
        # What np.savez calls arrays that have no names.
        wanted = [f"arr_{place}" for place in range(len(variables))]
    if set(given) != set(wanted):
        some = ", ".join([*paths[:4], *(["..."] if paths[4:] else [])])
        raise ValueError(
            f"init must hold the model's {len(variables)} weights, in the order of get_weights() "
            f"or by their paths ({some}), "
            f"got {str(path)!r} with {', '.join(sorted(given)) or 'nothing'}"
        )
    for name, variable in zip(wanted, variables, strict=True):
        if given[name].shape != tuple(variable.shape):
            raise ValueError(
                f"init must have weights of the model's shapes, {variable.path} "
                f"{list(variable.shape)}, got {str(path)!r} with {list(given[name].shape)}"
            )
    for name, variable in zip(wanted, variables, strict=True):
        variable.assign(given[name])


def _load_flat(variables: list[Any], path: Path, flat: NDArray[Any]) -> None:
    sizes = [int(np.prod(variable.shape)) for variable in variables]
    if flat.shape != (sum(sizes),):
        raise ValueError(
            f"init must hold the model's {sum(sizes)} weights, got {str(path)!r} with {flat.size}"
        )
    parts = np.split(flat, np.cumsum(sizes)[:-1])
    for variable, part in zip(variables, parts, strict=True):
        variable.assign(part.reshape(variable.shape))


def _arrays_in(path: Path, data: bytes) -> Arrays:
    """Return the arrays of a Keras file by their place in the saved model's structure."""
    import h5py

    try:
        if path.name.endswith(".keras"):
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                data = archive.read("model.weights.h5")
        with h5py.File(io.BytesIO(data), "r") as file:
            return _arrays(file)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"init must be a file of weights, got {str(path)!r} ({reason})") from None


def _arrays(file: Any) -> Arrays:
    import h5py

    found: Arrays = {}

    def visit(name: str, item: Any) -> None:
        # What a model is compiled with is no part of it, nor is where its random layers stand.
        if not isinstance(item, h5py.Dataset) or name.startswith(("optimizer/", "metrics/")):
            return
        if item.external or item.is_virtual:
            raise OSError("it refers to other files")
        if "seed_generator/" not in name:
            found[name] = np.asarray(item)

    file.visititems(visit)  # Links to other files are not followed.
    return found


def _replace(own: Path, found: Arrays, path: Path) -> None:
    """Write the arrays into a file of the model's own weights, at their places."""
    import h5py

    with h5py.File(own, "r+") as file:
        wanted = _arrays(file)
        places = _places(wanted, found)
        for name, array in wanted.items():
            if places.get(name) not in found:
                raise ValueError(
                    f"init must hold all weights of the model, got {str(path)!r} without "
                    f"{name} {list(array.shape)}"
                )
            given = found.pop(places[name])
            if given.shape != array.shape:
                raise ValueError(
                    f"init must have weights of the model's shapes, {name} {list(array.shape)}, "
                    f"got {str(path)!r} with {list(given.shape)}"
                )
            file[name][...] = given
    for name, array in found.items():
        raise ValueError(
            f"init must hold the weights of the model alone, got {str(path)!r} with "
            f"{name} {list(array.shape)}"
        )


def _places(wanted: Arrays, found: Arrays) -> dict[str, str]:
    """Return where in a file each weight of the model is.

    A saved model may be the model itself, or hold it as one of its layers (after one that scales
    the inputs, say); or the other way round.
    """
    same = {name: name for name in wanted}
    if wanted.keys() <= found.keys() or not wanted:
        return same
    first = min(wanted)
    deeper = [name.removesuffix(first) for name in found if name.endswith(f"/{first}")]
    for prefix in sorted(deeper, key=len):
        if all(prefix + name in found for name in wanted):
            return {name: prefix + name for name in wanted}
    parts = first.split("/")
    for number in range(1, len(parts)):
        prefix = "/".join(parts[:number]) + "/"
        inner = {name: name.removeprefix(prefix) for name in wanted if name.startswith(prefix)}
        if len(inner) == len(wanted) and set(inner.values()) <= found.keys():
            return inner
    return same
