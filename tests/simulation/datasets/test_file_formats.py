"""Files as people have them: archives with other names, LEAF's JSON, pictures; and what is none."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from simulation.config.sections import Data
from simulation.datasets import arrays
from simulation.datasets.registry import DataError, load

RNG = np.random.default_rng(7)
X = RNG.normal(size=(20, 3)).astype(np.float32)
Y = np.arange(20) % 3
HALF = Data(test=0.5)


@pytest.fixture(autouse=True)
def own_warnings() -> None:
    arrays.warn_once.cache_clear()


def told(name: Any, how: Data | None = None) -> str:
    with pytest.raises(DataError) as caught:
        load(str(name), how=how)
    return str(caught.value)


@pytest.mark.parametrize(
    "names",
    [
        ("X_train", "y_train", "X_test", "y_test"),
        ("train_images", "train_labels", "test_images", "test_labels"),
        ("trainX", "trainY", "testX", "testY"),
        ("training_data", "training_target", "testing_data", "testing_target"),
        ("DATA-TRAIN", "Labels-Train", "data-test", "labels-test"),
    ],
)
def test_archives_with_names_as_people_give_them(names: tuple[str, ...], tmp_path: Path) -> None:
    parts = dict(zip(names, (X[:15], Y[:15], X[15:], Y[15:]), strict=True))
    np.savez(tmp_path / "rows.npz", **parts, val_images=X[:2], val_labels=Y[:2])
    data = load(str(tmp_path / "rows.npz"))
    for found, wanted in (
        (data.x_train, X[:15]),
        (data.y_train, Y[:15]),
        (data.x_test, X[15:]),
        (data.y_test, Y[15:]),
    ):
        np.testing.assert_array_equal(found, wanted)
    assert data.notes == (
        f"for training: inputs {names[0]}, targets {names[1]}",
        f"for testing: inputs {names[2]}, targets {names[3]}",
    )


def test_plain_names_are_for_training_and_rows_are_held_out(tmp_path: Path) -> None:
    w = np.arange(20.0)
    np.savez(tmp_path / "rows.npz", images=X, LABEL=Y, sample_weight=w)
    data = load(str(tmp_path / "rows.npz"), how=HALF)
    assert len(data.y_train) == len(data.y_test) == 10
    assert data.sample_weight is not None and data.sample_weight_test is not None
    both = np.concatenate([data.sample_weight, data.sample_weight_test]).astype(int)
    np.testing.assert_array_equal(np.concatenate([data.x_train, data.x_test]), X[both])


def test_archives_that_do_not_say_what_is_meant(tmp_path: Path) -> None:
    path = tmp_path / "rows.npz"
    np.savez(path, X=X, images=X, y=Y)
    assert told(path) == f"dataset {path}: rows.npz must hold one array of inputs, got X, images"
    np.savez(path, x=X, y=Y, images=X)  # what is called x exactly is meant
    assert load(str(path), how=HALF).notes == ()
    np.savez(path, x=X, y=Y, y_test=Y)
    assert told(path).endswith(
        "rows.npz must hold x and y, x_test and y_test, or x.NAME for each of several inputs, "
        "got x, y, y_test"
    )


def test_texts_are_numbered_alike_for_all_clients(tmp_path: Path) -> None:
    for client, texts in enumerate((["dog", "cat"], ["owl", "dog"])):
        np.savez(tmp_path / f"client{client}.npz", x=X[:2], y=np.array(texts))
    np.savez(tmp_path / "test.npz", x=X[:1], y=np.array(["owl"]))
    data = load(str(tmp_path))
    assert data.y_train.tolist() == [1, 0, 2, 1] and data.y_test.tolist() == [2]
    assert data.owner_names == ("client0", "client1")
    assert "classes: 0 cat, 1 dog, 2 owl" in data.notes


def test_weights_of_clients_are_joined(tmp_path: Path) -> None:
    for client, rows in enumerate((slice(0, 5), slice(5, 9))):
        weights = {"sample_weight": np.arange(20)[rows]}
        np.savez(tmp_path / f"{client}.npz", x=X[rows], y=Y[rows], **weights)
    np.savez(tmp_path / "test.npz", x=X[9:], y=Y[9:])
    data = load(str(tmp_path))
    np.testing.assert_array_equal(data.sample_weight, np.arange(9))
    np.savez(tmp_path / "1.npz", x=X[:4], y=Y[:4])
    assert told(tmp_path).endswith("all clients or none must have sample_weight, got 1.npz")


def test_an_empty_client_is_named(tmp_path: Path) -> None:
    for client, size in enumerate((8, 0, 7)):
        np.savez(tmp_path / f"client{client}.npz", x=X[:size], y=Y[:size])
    assert told(tmp_path) == (
        f"dataset {tmp_path}: every client must have examples, but client1.npz has no examples"
    )


def test_what_is_held_out_of_small_clients_is_told(tmp_path: Path, caplog: Any) -> None:
    for client, size in enumerate((6, 12, 6)):
        np.savez(tmp_path / f"client{client}.npz", x=X[:size], y=Y[:size])
    with caplog.at_level(logging.WARNING, "sunflower.data"):
        data = load(str(tmp_path))
    assert len(data.y_test) == 1
    line = (
        f"dataset {tmp_path}: 2 of 3 clients have fewer than 10 rows, of which data.test = 0.1 "
        "holds out none"
    )
    assert [record.getMessage() for record in caplog.records] == [line] == list(data.notes)
    np.savez(tmp_path / "client1.npz", x=X[:9], y=Y[:9])
    assert told(tmp_path) == (
        f"dataset {tmp_path}: data.test must leave rows for training and for testing, "
        "got 0.1 of 21 of 3 clients, none of more than 9"
    )


def leaf(users: dict[str, slice], y: Any = Y) -> str:
    data = {u: {"x": X[rows].tolist(), "y": y[rows].tolist()} for u, rows in users.items()}
    sizes = [len(one["y"]) for one in data.values()]
    return json.dumps({"users": list(users), "num_samples": sizes, "user_data": data})


USERS = {"f0_2": slice(0, 8), "f1_1": slice(8, 12), "f0_0": slice(12, 20)}


def test_the_json_of_leaf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("all_data.json").write_text(leaf(USERS))
    data = load("all_data.json", how=Data(test=0.25))
    assert data.owner_names == tuple(USERS)
    np.testing.assert_array_equal(np.bincount(data.owners), [6, 3, 6])
    for side in ("train", "test"):
        Path("femnist", side).mkdir(parents=True)
    parts = [dict(list(USERS.items())[:2]), dict(list(USERS.items())[2:])]
    for number, users in enumerate(parts):
        Path(f"femnist/train/all_data_{number}_train.json").write_text(leaf(users))
    Path("femnist/test/all_data_0_test.json").write_text(leaf({"f0_0": slice(0, 3)}))
    data = load("femnist")
    np.testing.assert_array_equal(data.x_train, X)
    np.testing.assert_array_equal(data.y_train, Y)
    np.testing.assert_array_equal(data.owners, np.repeat([0, 1, 2], [8, 4, 8]))
    np.testing.assert_array_equal(data.x_test, X[:3])
    texts = np.array(["b", "a"])[Y % 2]  # the next letter, as in its Shakespeare
    Path("femnist/train/all_data_0_train.json").write_text(leaf(parts[0], texts))
    Path("femnist/train/all_data_1_train.json").write_text(leaf(parts[1], texts))
    Path("femnist/test/all_data_0_test.json").write_text(leaf({"f0_0": slice(0, 3)}, texts))
    assert load("femnist").y_train.tolist() == (1 - Y % 2).tolist()


def test_json_that_is_not_leafs(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    rule = f"dataset {path}: data.json must be the JSON of LEAF (users, user_data with x and y)"
    for text, got in {
        '{"a": 1, "b": 2}': "a, b",
        "[1, 2]": "list",
        '{"users": ["u"], "user_data": {}}': "none of user 'u' ('u')",
    }.items():
        path.write_text(text)
        assert told(path) == f"{rule}, got {got}"
    path.write_text("{")
    assert told(path).startswith(f"{rule}, got Expecting property name")
    path.write_text(leaf({"u0": slice(0, 2), "u1": slice(2, 2)}))
    assert told(path) == (
        f"dataset {path}: every user must have training examples, got none of user 'u1'"
    )
    path.write_text(json.dumps({"users": ["u"], "user_data": {"u": {"x": ["to be"], "y": ["o"]}}}))
    assert told(path).startswith(f"dataset {path}: x of every user must hold numbers, got text")


def picture(path: Path, shape: tuple[int, ...] = (6, 5, 3), value: int = 9) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(shape, value, np.uint8)).save(path)


def test_a_folder_of_pictures_for_each_class(tmp_path: Path) -> None:
    for label, ending in (("dog", "png"), ("cat", "JPG")):
        for number in range(4):
            picture(tmp_path / "photos" / label / f"{number}.{ending}", value=10 * number)
    data = load(str(tmp_path / "photos"), how=HALF)
    assert data.classes == 2 and data.scale == 1 / 255
    assert data.x_train.dtype == np.uint8 and data.x_train.shape == (4, 6, 5, 3)
    assert sorted([*data.y_train, *data.y_test]) == [0] * 4 + [1] * 4
    assert "classes: 0 cat, 1 dog" in data.notes
    for side, label, value in (("train", "a", 1), ("train", "b", 2), ("test", "b", 3)):
        picture(tmp_path / "split" / side / label / "1.png", (4, 4), value)
    split = load(str(tmp_path / "split"))
    assert split.x_train[:, 0, 0, 0].tolist() == [1, 2] and split.x_train.shape == (2, 4, 4, 1)
    assert split.y_train.tolist() == [0, 1] and split.y_test.tolist() == [1]
    picture(tmp_path / "split" / "test" / "c" / "1.png", (4, 4))
    assert told(tmp_path / "split").endswith("test must have the classes of train (a, b), got 'c'")


def test_pictures_that_differ_or_are_none(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    picture(photos / "cat" / "1.png")
    picture(photos / "dog" / "1.png", (6, 4, 3))
    assert told(photos) == (
        f"dataset {photos}: pictures must have one size and kind, got 6x5 with 3 channels of uint8 "
        f"in {photos}/cat/1.png and 6x4 with 3 channels of uint8 in {photos}/dog/1.png"
    )
    (photos / "dog" / "1.png").write_text("no picture")
    assert f"{photos}/dog/1.png must be a picture, got cannot identify" in told(photos)


@pytest.mark.parametrize("ending", ["npy", "pkl", "xlsx"])
def test_files_of_other_kinds_are_refused_in_one_line(
    ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(f"data.{ending}").write_bytes(b"anything")
    assert told(f"data.{ending}") == (
        "dataset must be a file that ends in .npz, .json, .parquet, .csv, .tsv, .csv.gz, .tsv.gz, "
        f"or a folder, got 'data.{ending}' (np.savez makes an .npz of arrays)"
    )
    np.savez("rows.npz", x=X, y=Y)
    assert told("rows.npz", Data(encode="categories")) == (
        "data.encode must be left out for data without columns, got 'rows.npz'"
    )
    assert told("rows.npz", Data(subset="small")) == (
        "data.subset must be left out for a dataset from files, got 'small'"
    )
