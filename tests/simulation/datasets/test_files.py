"""Datasets from ``.npz`` archives, Parquet tables, Hugging Face folders and public archives."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from simulation.config.experiment import parse
from simulation.config.sections import Data
from simulation.datasets import archives, cache, download
from simulation.datasets.registry import DataError, load
from simulation.runs.run import simulate

RNG = np.random.default_rng(11)
X = RNG.normal(size=(60, 5)).astype(np.float32)
Y = RNG.integers(0, 3, 60)
WRITERS = np.array(["ada", "bob", "eve"])[RNG.integers(0, 3, 60)]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SUNFLOWER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    return tmp_path / "cache"


def table(rows: slice = slice(None), **more: Any) -> pa.Table:
    columns = {f"f{i}": X[rows, i] for i in range(X.shape[1])}
    return pa.table({**columns, "label": Y[rows], "writer_id": WRITERS[rows], **more})


def test_one_archive_for_each_client(tmp_path: Path) -> None:
    sizes, start = [20, 5, 30], 0
    for client, size in zip((1, 2, 10), sizes, strict=True):  # client10 comes after client2
        rows = slice(start, start + size)
        np.savez(tmp_path / f"client{client}.npz", x=X[rows], y=Y[rows])
        start += size
    np.savez(tmp_path / "test.npz", x=X[start:], y=Y[start:])
    data = load(str(tmp_path))
    np.testing.assert_array_equal(data.x_train, X[:start])
    np.testing.assert_array_equal(data.owners, np.repeat([0, 1, 2], sizes))
    np.testing.assert_array_equal(data.y_test, Y[start:])
    assert data.classes == 3


def test_clients_bring_their_own_test_rows(tmp_path: Path) -> None:
    for client, rows in enumerate((slice(0, 10), slice(10, 30))):
        arrays = {"x_train": X[rows], "y_train": Y[rows]}
        np.savez(tmp_path / f"{client}.npz", **arrays, x_test=X[rows][:3], y_test=Y[rows][:3])
    data = load(str(tmp_path))
    np.testing.assert_array_equal(data.x_test, np.concatenate([X[:3], X[10:13]]))


def test_a_pooled_folder_and_a_single_archive(tmp_path: Path) -> None:
    owners = np.repeat([0, 1], 25)
    np.savez(tmp_path / "train.npz", x=X[:50], y=Y[:50], owners=owners, classes=7)
    np.savez(tmp_path / "test.npz", x=X[50:], y=Y[50:])
    pooled = load(str(tmp_path))
    np.savez(
        tmp_path / "all.npz",
        **{"x_train": X[:50], "y_train": Y[:50], "x_test": X[50:], "y_test": Y[50:]},
        owners=owners,
        classes=7,
    )
    single = load(str(tmp_path / "all.npz"))
    for data in (pooled, single):
        np.testing.assert_array_equal(data.x_train, X[:50])
        np.testing.assert_array_equal(data.x_test, X[50:])
        np.testing.assert_array_equal(data.owners, owners)
        assert data.classes == 7


def test_several_inputs_by_name(tmp_path: Path) -> None:
    words = RNG.integers(0, 9, (60, 4))
    np.savez(tmp_path / "data.npz", **{"x.left": X, "x.words": words, "y": Y})
    data = load(str(tmp_path / "data.npz"), how=Data(test=0.25))
    assert isinstance(data.x_train, dict) and isinstance(data.x_test, dict)
    assert data.x_train["left"].shape == (45, 5) and data.x_test["words"].shape == (15, 4)
    assert data.x_train["words"].dtype == words.dtype
    assert data.scale == {"left": 1.0, "words": 1.0}


def test_rows_are_held_out_of_each_owner_alike_and_always_the_same(tmp_path: Path) -> None:
    sizes = [20, 7, 33]
    owners = np.repeat([0, 1, 2], sizes)
    np.savez(tmp_path / "data.npz", x=X, y=Y, owners=owners)
    data = load(str(tmp_path / "data.npz"), how=Data(test=0.2))
    kept = [size - int(0.2 * size) for size in sizes]
    np.testing.assert_array_equal(np.bincount(data.owners), kept)
    together = np.concatenate([data.x_train, data.x_test])
    np.testing.assert_array_equal(np.sort(together, axis=0), np.sort(X, axis=0))
    again = load(str(tmp_path / "data.npz"), how=Data(test=0.2))
    np.testing.assert_array_equal(again.x_test, data.x_test)


def test_no_pickle_is_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "bad.npz", x=np.array([{"a": 1}], object), y=Y[:1])
    with pytest.raises(DataError, match="without Python objects, got Object arrays cannot"):
        load(str(tmp_path / "bad.npz"))


def test_parquet(tmp_path: Path) -> None:
    pq.write_table(table(), tmp_path / "rows.parquet")
    data = load(str(tmp_path / "rows.parquet"), how=Data(test=0.2))
    whole = {tuple(row): label for row, label in zip(X.tolist(), Y.tolist(), strict=True)}
    for x, y in ((data.x_train, data.y_train), (data.x_test, data.y_test)):
        assert [whole[tuple(row)] for row in x.tolist()] == y.tolist()
    found = [whose for _, whose in sorted(zip(data.x_train[:, 0], data.owners, strict=True))]
    wanted = {
        value: ["ada", "bob", "eve"].index(w) for value, w in zip(X[:, 0], WRITERS, strict=True)
    }
    assert found == [wanted[value] for value in sorted(data.x_train[:, 0])]


def test_parquet_train_and_test_with_columns_named(tmp_path: Path) -> None:
    names = np.array(["no", "yes"])
    for side, rows in (("train", slice(0, 40)), ("test", slice(40, 60))):
        answer = names[(Y[rows] > 0).astype(int)]
        lists = pa.array(list(X[rows]), pa.list_(pa.float32()))
        pq.write_table(table(rows, answer=answer, lists=lists), tmp_path / f"{side}.parquet")
    how = Data(features=("f1", "lists"), label="answer", owner="label")
    data = load(str(tmp_path), how=how)
    assert isinstance(data.x_train, dict) and isinstance(data.x_test, dict)
    np.testing.assert_array_equal(data.x_train["lists"], X[:40])
    np.testing.assert_array_equal(data.x_test["f1"], X[40:, 1:2])
    np.testing.assert_array_equal(data.y_test, Y[40:] > 0)
    np.testing.assert_array_equal(data.owners, Y[:40])
    one = load(str(tmp_path), how=how.model_copy(update={"features": ("lists",)}))
    np.testing.assert_array_equal(one.x_train, X[:40])


BAD: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({}, {"label": "lable"}, "data.label must name a column of {name} (f0, f1, f2, f3, f4, label, "
     "writer_id), got 'lable'"),
    ({}, {"features": ("f9",)}, "data.features must name a column of {name} (f0, f1, f2, f3, f4, "
     "label, writer_id), got 'f9'"),
    ({}, {"features": ("f1", "label")}, "data.features must be columns of {name} beside the "
     "label, got the label 'label'"),
    ({"text": ["a"] * 60}, {}, "dataset {name}: feature column 'text' must hold numbers "
     "(data.encode = 'categories' makes an input of each text, data.features names the columns to "
     "take), got string"),
    ({"day": pa.array([0] * 60, pa.timestamp("ms"))}, {}, "dataset {name}: feature column 'day' "
     "must hold numbers, or lists of them, got timestamp[ms]; data.features names the columns to "
     "take"),
    ({"gap": [None] + [1.0] * 59}, {}, "dataset {name}: column 'gap' must have a value in every "
     "row, got 1 empty ones of 60"),
    ({"bag": [[1.0]] * 59 + [[1.0, 2.0]]}, {}, "dataset {name}: column 'bag' must hold lists of "
     "one length, got lengths 1, 2"),
]  # fmt: skip


@pytest.mark.parametrize(("columns", "how", "message"), BAD, ids=lambda v: str(v)[:30])
def test_bad_tables(
    columns: dict[str, Any], how: dict[str, Any], message: str, tmp_path: Path
) -> None:
    name = str(tmp_path / "rows.parquet")
    pq.write_table(table(**columns), name)
    with pytest.raises(DataError) as caught:
        load(name, how=Data(**how))
    assert str(caught.value) == message.format(name=name)


def test_bad_files(tmp_path: Path) -> None:
    def told(name: Any, how: Data | None = None) -> str:
        with pytest.raises(DataError) as caught:
            load(str(name), how=how)
        return str(caught.value)

    missing = tmp_path / "nothing.npz"
    assert told(missing) == f"dataset must be a file or a folder that exists, got '{missing}'"
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "must hold .npz files, one for each client, or train.npz" in told(empty)
    np.savez(empty / "a.npz", first=X, y=Y)
    assert told(empty).endswith("or x.NAME for each of several inputs, got first, y")
    np.savez(empty / "a.npz", x=X, y=Y)
    np.savez(empty / "b.npz", x=X[:, :3], y=Y)
    assert told(empty).endswith("got (5,) float32 and (3,) float32 in b.npz")
    np.savez(tmp_path / "few.npz", x=X[:4], y=Y[:4])
    assert told(tmp_path / "few.npz").endswith("and for testing, got 0.1 of 4")
    assert told(tmp_path / "few.npz", Data(label="y")).startswith("data.label must be left out")
    (tmp_path / "text.parquet").write_text("no table")
    assert "must be a Parquet file, got " in told(tmp_path / "text.parquet")
    rule = "data must be left out for a dataset that is no file, got 'fashion-mnist-mini'"
    assert told("fashion-mnist-mini", Data(label="y")) == rule


def test_a_run_with_natural_clients_from_a_folder(tmp_path: Path) -> None:
    for client in range(4):
        rows = slice(15 * client, 15 * client + 15)
        np.savez(tmp_path / f"{client}.npz", x=X[rows], y=Y[rows])
    experiment = parse(
        {
            "dataset": str(tmp_path),
            "data": {"test": 0.2},
            "model": "logistic",
            "clients": 4,
            "rounds": 1,
            "partition": "natural",
            "resources": {"engine": "inline"},
        }
    )
    result = simulate(experiment, out=tmp_path / "run")
    assert result.rounds[-1]["clients"] == 4
    # 15 rows: 3 for the server's test, and 1.2 of 12, rounded, for validation
    assert result.rounds[-1]["examples"] == 4 * 11


def test_hugging_face_folder_with_pictures_and_writers(tmp_path: Path) -> None:
    from PIL import Image

    datasets = pytest.importorskip("datasets")
    pictures = RNG.integers(0, 256, (30, 8, 8), np.uint8)
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "writer_id": datasets.Value("string"),
            "hsf_id": datasets.Value("int64"),
            "character": datasets.ClassLabel(num_classes=62),
        }
    )
    columns = {
        "image": [Image.fromarray(picture) for picture in pictures],
        "writer_id": WRITERS[:30].tolist(),
        "hsf_id": [0] * 30,
        "character": Y[:30].tolist(),
    }
    whole = datasets.Dataset.from_dict(columns, features=features)
    whole.save_to_disk(tmp_path / "femnist")
    data = load(f"hf:{tmp_path / 'femnist'}", how=Data(test=0.2))
    assert data.classes == 62 and data.scale == 1 / 255 and data.x_train.shape[1:] == (8, 8, 1)
    with pytest.raises(DataError, match=r"pictures alone, or none, .* got image, hsf_id$"):
        load(f"hf:{tmp_path / 'femnist'}", how=Data(features=("image", "hsf_id")))
    everything = np.concatenate([data.x_train, data.x_test])[..., 0]
    assert {p.tobytes() for p in everything} == {p.tobytes() for p in pictures}
    whose = {p.tobytes(): w for p, w in zip(pictures, WRITERS[:30], strict=True)}
    owners = np.unique(WRITERS[:30]).tolist()
    for picture, owner in zip(data.x_train[..., 0], data.owners, strict=True):
        assert whose[picture.tobytes()] == owners[owner]


def test_hugging_face_splits_and_numbers(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    parts = {
        side: datasets.Dataset.from_dict({"a": X[rows, 0], "b": X[rows, 1], "label": Y[rows]})
        for side, rows in (("train", slice(0, 40)), ("validation", slice(40, 60)))
    }
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "both")
    data = load(f"hf:{tmp_path / 'both'}")
    np.testing.assert_array_equal(data.x_train, X[:40, :2])
    np.testing.assert_array_equal(data.y_test, Y[40:])
    folder = tmp_path / "files"
    folder.mkdir()
    pq.write_table(table(), folder / "train.parquet")
    assert load(f"hf:{folder}").owners is not None


def test_hugging_face_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    with pytest.raises(DataError, match=r"cannot be loaded .* hf:FOLDER$"):
        load(f"hf:{tmp_path}")
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(DataError, match=r"pip install 'sunflower-fl\[hf\]'$"):
        load("hf:mnist")


def mnist(train: Any, test: Any) -> bytes:
    file = io.BytesIO()
    arrays = {"x_train": train[0], "y_train": train[1], "x_test": test[0], "y_test": test[1]}
    np.savez(file, **arrays)
    return file.getvalue()


def emnist(train: Any, test: Any) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for side, (x, y) in (("train", train), ("test", test)):
            stem = f"gzip/emnist-balanced-{side}"
            columns = np.ascontiguousarray(x.transpose(0, 2, 1)).tobytes()
            archive.writestr(f"{stem}-images-idx3-ubyte.gz", gzip.compress(bytes(16) + columns))
            labels = gzip.compress(bytes(8) + y.astype(np.uint8).tobytes())
            archive.writestr(f"{stem}-labels-idx1-ubyte.gz", labels)
    return file.getvalue()


def cifar(files: dict[str, Any], coarse: bool) -> bytes:
    """Records: for CIFAR-100 a coarse label, the label, then red, green and blue planes."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, (x, y) in files.items():
            planes = x.transpose(0, 3, 1, 2).reshape(len(x), -1)
            head = np.stack([np.full(len(y), 9), y], 1) if coarse else y[:, None]
            content = np.concatenate([head.astype(np.uint8), planes], axis=1).tobytes()
            info = tarfile.TarInfo(f"folder/{name}.bin")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


GREY = RNG.integers(0, 256, (6, 28, 28), np.uint8)
COLOUR = RNG.integers(0, 256, (6, 32, 32, 3), np.uint8)
SIX = np.array([3, 1, 2, 0, 4, 5])


def published(name: str) -> tuple[bytes, np.ndarray]:
    """A small archive in the format of the real one: four rows to train on, two to test."""
    a, b, c = slice(0, 2), slice(2, 4), slice(4, 6)
    if name == "mnist":
        return mnist((GREY[:4], SIX[:4]), (GREY[4:], SIX[4:])), GREY[..., None]
    if name == "emnist":
        return emnist((GREY[:4], SIX[:4]), (GREY[4:], SIX[4:])), GREY[..., None]
    if name == "cifar10":
        parts = {"data_batch_1": a, "data_batch_2": b, "test_batch": c}
        return cifar({n: (COLOUR[r], SIX[r]) for n, r in parts.items()}, False), COLOUR
    parts = {"train": slice(0, 4), "test": c}
    return cifar({n: (COLOUR[r], SIX[r]) for n, r in parts.items()}, True), COLOUR


@pytest.mark.parametrize("name", sorted(archives.ARCHIVES))
def test_public_archives(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content, images = published(name)
    archive = archives.ARCHIVES[name]
    (tmp_path / archive.file).write_bytes(content)
    with pytest.raises(DataError, match=r"as published: .* wrong sha256"):
        load(name, tmp_path)
    small = replace(archive, digest=cache.sha256(content))
    monkeypatch.setitem(archives.ARCHIVES, name, small)
    data = load(name, tmp_path)
    np.testing.assert_array_equal(np.concatenate([data.x_train, data.x_test]), images)
    np.testing.assert_array_equal(np.concatenate([data.y_train, data.y_test]), SIX)
    assert data.classes == archive.classes and data.scale == 1 / 255
    with pytest.raises(DataError, match=f"data_dir must hold {archive.file} for {name}"):
        load(name, tmp_path / "elsewhere")


def test_a_download_is_kept_and_damage_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_cache: Path, caplog: Any
) -> None:
    content, _ = published("mnist")
    small = replace(archives.ARCHIVES["mnist"], digest=cache.sha256(content))
    monkeypatch.setitem(archives.ARCHIVES, "mnist", small)
    fetched = []

    def retrieve(url: str, digest: str, path: Path) -> bytes:
        fetched.append(url)
        cache.write(path, lambda file: file.write(content))
        return content

    monkeypatch.setattr(download, "retrieve", retrieve)
    assert load("mnist").source == small.url
    assert load("mnist").source == str(own_cache / "mnist" / "mnist.npz")
    (own_cache / "mnist" / "mnist.npz").write_bytes(b"half")
    assert load("mnist").source == small.url
    assert "wrong sha256" in caplog.text and len(fetched) == 2


def test_offline_says_the_ways_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "reachable", lambda hosts: set())
    with pytest.raises(DataError) as caught:
        load("cifar10")
    archive = archives.ARCHIVES["cifar10"]
    assert str(caught.value) == (
        "cifar10 cannot be found or fetched (www.cs.toronto.edu has no address here (offline?)). "
        "Ways out: connect to the internet; or put cifar-10-binary.tar.gz (sha256 "
        f"{archive.digest}) into a folder and give it as --data-dir; or use --dataset "
        "fashion-mnist-mini, which is part of Sunflower"
    )
