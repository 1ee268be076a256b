"""MNIST, CIFAR and EMNIST: public archives, fetched once and checked by SHA-256.

Only formats that hold plain numbers are read: MNIST as NumPy's archive, CIFAR in its binary
version, EMNIST as IDX files.

Sources: LeCun, Bottou, Bengio and Haffner (1998), Gradient-based learning applied to document
recognition; Krizhevsky (2009), Learning multiple layers of features from tiny images; Cohen,
Afshar, Tapson and van Schaik (2017), EMNIST, arXiv 1702.05373.
"""

from __future__ import annotations

import gzip
import io
import logging
import os
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from simulation.datasets import cache, download
from simulation.datasets.errors import DataError

log = logging.getLogger("sunflower.data")


@dataclass(frozen=True)
class Archive:
    """A dataset's file.

    Args:
        about: one line for the list of datasets.
        url: where it is.
        digest: its SHA-256.
        classes: number of classes.
        unpack: from its bytes to ``x_train`` to ``y_test``.
    """

    about: str
    url: str
    digest: str
    classes: int
    unpack: Callable[[bytes], dict[str, Any]]

    @property
    def file(self) -> str:
        """Name of the file."""
        return self.url.rpartition("/")[2]


def _mnist(data: bytes) -> dict[str, Any]:
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        parts = {key: arrays[key] for key in ("x_train", "y_train", "x_test", "y_test")}
    return {k: v[..., None] if k.startswith("x") else v for k, v in parts.items()}


def _cifar(names: dict[str, str], labels: int, data: bytes) -> dict[str, Any]:
    """Read CIFAR's binary version: the last of some label bytes, then 3 x 32 x 32 of a picture."""
    found: dict[str, list[bytes]] = {"train": [], "test": []}
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
        for member in sorted(archive.getmembers(), key=lambda member: member.name):
            file = member.name.rpartition("/")[2]
            side = next((s for s, prefix in names.items() if file.startswith(prefix)), None)
            content = archive.extractfile(member) if side and file.endswith(".bin") else None
            if side is not None and content is not None:
                found[side].append(content.read())
    parts: dict[str, Any] = {}
    for side, contents in found.items():
        rows = np.frombuffer(b"".join(contents), np.uint8).reshape(-1, labels + 3 * 32 * 32)
        pictures = rows[:, labels:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        parts |= {f"x_{side}": np.ascontiguousarray(pictures), f"y_{side}": rows[:, labels - 1]}
    return parts


def _emnist(split: str, data: bytes) -> dict[str, Any]:
    """Read a split of EMNIST; its pictures are stored column by column."""
    parts = {}
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for side in ("train", "test"):
            stem = f"gzip/emnist-{split}-{side}"
            pictures = gzip.decompress(archive.read(f"{stem}-images-idx3-ubyte.gz"))
            labels = gzip.decompress(archive.read(f"{stem}-labels-idx1-ubyte.gz"))
            x = np.frombuffer(pictures, np.uint8, offset=16).reshape(-1, 28, 28, 1)
            parts[f"x_{side}"] = np.ascontiguousarray(x.transpose(0, 2, 1, 3))
            parts[f"y_{side}"] = np.frombuffer(labels, np.uint8, offset=8)
    return parts


ARCHIVES = {
    "mnist": Archive(
        "MNIST: 60,000 + 10,000 images of digits, 28x28 grey, 10 classes",
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz",
        "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1",
        10,
        _mnist,
    ),
    "cifar10": Archive(
        "CIFAR-10: 50,000 + 10,000 images, 32x32 in colour, 10 classes",
        "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        10,
        partial(_cifar, {"train": "data_batch", "test": "test_batch"}, 1),
    ),
    "cifar100": Archive(
        "CIFAR-100: 50,000 + 10,000 images, 32x32 in colour, 100 classes",
        "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
        "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
        100,
        partial(_cifar, {"train": "train", "test": "test"}, 2),
    ),
    "emnist": Archive(
        "EMNIST, balanced: 112,800 + 18,800 digits and letters, 28x28 grey, 47 classes",
        "https://biometrics.nist.gov/cs_links/EMNIST/gzip.zip",
        "fb9bb67e33772a9cc0b895e4ecf36d2cf35be8b709693c3564cea2a019fcda8e",
        47,
        partial(_emnist, "balanced"),
    ),
}
"""The datasets by name."""


def read(name: str, data_dir: Path | None = None) -> tuple[dict[str, Any], str]:
    """Return a dataset's arrays, and where they came from.

    Args:
        name: one of :data:`ARCHIVES`.
        data_dir: a folder that holds the archive; nothing else is tried then.

    Raises:
        DataError: when the archive cannot be had, or is damaged.
    """
    archive = ARCHIVES[name]
    own = cache.cache_dir() / name / archive.file
    keras = Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser() / "datasets"
    places = [own, keras / archive.file] if data_dir is None else [data_dir / archive.file]
    for path in places:
        path = path.expanduser()
        data = _content(path, archive.digest, strict=data_dir is not None)
        if data is not None:
            log.info("%s: served by %s", name, path)
            return {**archive.unpack(data), "classes": archive.classes}, str(path)
    if data_dir is not None:
        raise DataError(f"data_dir must hold {archive.file} for {name}, got {data_dir}")
    try:
        data = download.retrieve(archive.url, archive.digest, own)
    except download.Unreachable as error:
        raise DataError(
            f"{name} cannot be found or fetched ({error}). Ways out: connect to the internet; or "
            f"put {archive.file} (sha256 {archive.digest}) into a folder and give it as "
            "--data-dir; or use --dataset fashion-mnist-mini, which is part of Sunflower"
        ) from None
    return {**archive.unpack(data), "classes": archive.classes}, archive.url


def _content(path: Path, digest: str, strict: bool) -> bytes | None:
    """Return a file's bytes; None when it is not there, or is damaged and need not be right."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    actual = cache.sha256(data)
    if actual == digest:
        return data
    text = f"{path} has a wrong sha256 ({actual[:12]}..., not {digest[:12]}...)"
    if strict:
        raise DataError(f"data_dir must hold {path.name} as published: {text}")
    log.warning("%s; trying the next source", text)
    return None
