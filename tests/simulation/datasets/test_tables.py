"""Tables as people have them: delimited files, pandas indices, texts, weights, ids of owners."""

from __future__ import annotations

import gzip
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from simulation.config.experiment import parse
from simulation.config.sections import Data
from simulation.datasets import arrays
from simulation.datasets.registry import DataError, load
from simulation.runs.run import simulate

RNG = np.random.default_rng(3)
N = 40
FRAME = pd.DataFrame(
    {
        "age": RNG.integers(20, 80, N),
        "bmi": RNG.normal(27, 4, N).round(1),
        "sex": np.array(["f", "m", "x"])[np.arange(N) % 3],
        "ill": (np.arange(N) % 2).astype(float),
        "site": [f"site-{k}" for k in (10, 2, 9, 1)] * (N // 4),
        "w": RNG.random(N).round(3),
    }
)
NUMBERS = FRAME[["age", "bmi"]].to_numpy(np.float32)
HOW = {"features": ("age", "bmi"), "label": "ill", "label_type": "classes", "test": 0.25}


@pytest.fixture(autouse=True)
def own_warnings() -> None:
    arrays.warn_once.cache_clear()


def rows_of(data: Any) -> Any:
    together = np.concatenate([data.x_train, data.x_test])
    return together[np.lexsort(together.T)]


def all_rows(matrix: Any) -> Any:
    return matrix[np.lexsort(matrix.T)]


@pytest.mark.parametrize(
    ("ending", "options"),
    [
        (".csv", {}),
        (".csv", {"quoting": 2}),  # every text in quotes
        (".csv", {"sep": ";"}),
        (".csv", {"sep": ";", "decimal": ","}),
        (".csv", {"sep": "|", "encoding": "utf-8-sig"}),
        (".tsv", {"sep": "\t"}),
        (".csv.gz", {}),
    ],
)
def test_delimited_files(ending: str, options: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / f"rows{ending}"
    FRAME.to_csv(path, index=False, **options)
    data = load(str(path), how=Data(**HOW))
    np.testing.assert_array_equal(rows_of(data), all_rows(NUMBERS))
    assert data.y_train.dtype == np.int64 and data.classes == 2


def test_a_bare_name_is_a_path_and_a_folder_holds_train_and_test(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "parts"
    folder.mkdir()
    FRAME[:30].to_csv(folder / "train.csv", index=False)
    FRAME[30:].to_csv(folder / "test.csv", index=False)
    FRAME.to_csv("patients.csv", index=False)
    assert len(load("patients.csv", how=Data(**HOW)).y_test) == N // 4
    data = load("parts", how=Data(**HOW))
    np.testing.assert_array_equal(data.x_train, NUMBERS[:30])
    np.testing.assert_array_equal(data.x_test, NUMBERS[30:])


BAD_TEXT = {
    "1,2\n3,4\n": "the first line of rows.csv must name the columns, got the numbers 1, 2",
    "a,a\n3,4\n": "the first line of rows.csv must name the columns, each differently, "
    "got 'a' twice",
    "a,\n3,4\n": "the first line of rows.csv must name the columns, got no name for column 2",
    "age,ill\n1,0\n,1\n": "column 'age' must have a value in every row, got 1 empty ones of 2",
    "age,ill\nNA,0\n2,1\n": "column 'age' must have a value in every row, got 1 empty ones of 2",
    "age,ill\n1,0.5\n2,1\n": "column 'ill' must hold whole numbers from 0 for data.label_type = "
    "'classes', got 0.5",
}


@pytest.mark.parametrize("text", BAD_TEXT)
def test_delimited_files_that_are_no_dataset(text: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        load(str(path), how=Data(label="ill", label_type="classes"))
    assert str(caught.value) == f"dataset {path}: {BAD_TEXT[text]}"


def test_rows_of_other_lengths_are_told(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("age,ill\n1,0\n1,2,3\n")
    with pytest.raises(DataError, match=r"must be a delimited file, got .*Expected 2 columns"):
        load(str(path))


@pytest.mark.parametrize("named", [None, "record"])
def test_an_index_of_pandas_is_no_feature(named: str | None, tmp_path: Path) -> None:
    shuffled = FRAME.sample(frac=1, random_state=1)[["age", "bmi", "ill"]].rename_axis(named)
    shuffled.to_parquet(tmp_path / "rows.parquet")
    shuffled.to_csv(tmp_path / "rows.csv")
    index = named or "__index_level_0__"
    for name, wanted in (("rows.parquet", 2), ("rows.csv", 2 if named is None else 3)):
        data = load(str(tmp_path / name), how=Data(label="ill", label_type="classes"))
        # A delimited file does not say that a column with a name is an index.
        assert data.x_train.shape[1] == wanted
        if wanted == 2:
            np.testing.assert_array_equal(rows_of(data), all_rows(NUMBERS))
    assert index in pq.read_schema(tmp_path / "rows.parquet").names
    asked = Data(label="ill", label_type="classes", features=(index, "age"))
    assert load(str(tmp_path / "rows.parquet"), how=asked).x_train.max() > 1


def test_labels_are_classes_or_numbers_as_asked(tmp_path: Path) -> None:
    path = str(tmp_path / "rows.parquet")
    FRAME.to_parquet(path, index=False)
    plain = {key: value for key, value in HOW.items() if key != "label_type"}
    assert load(path, how=Data(**plain)).classes is None
    assert load(path, how=Data(**HOW)).classes == 2
    aged = load(path, how=Data(features=("bmi",), label="age", label_type="numbers"))
    assert aged.classes is None and aged.y_train.dtype == np.float32
    with pytest.raises(DataError, match=r"column 'sex' must hold numbers .*= 'numbers', got text$"):
        load(path, how=Data(features=("bmi",), label="sex", label_type="numbers"))
    told = load(path, how=Data(features=("bmi",), label="sex"))
    assert told.classes == 3 and "classes: 0 f, 1 m, 2 x" in told.notes


def test_columns_whose_names_are_numbers(tmp_path: Path) -> None:
    pd.DataFrame(NUMBERS).assign(**{"2": FRAME.ill.astype(int)}).to_csv(
        tmp_path / "rows.csv", index=False
    )
    plan = parse({"data": {"label": 2, "features": [0]}})
    data = load(str(tmp_path / "rows.csv"), how=plan.data)
    assert data.classes == 2 and data.x_train.shape[1] == 1


def test_a_text_column_becomes_an_input_for_each_text(tmp_path: Path, caplog: Any) -> None:
    folder = tmp_path
    FRAME[:30].to_parquet(folder / "train.parquet", index=False)
    changed = FRAME[30:].assign(sex=["m"] * 8 + ["q"] * 2)
    changed.to_parquet(folder / "test.parquet", index=False)
    how = Data(features=("age", "sex"), label="ill", label_type="classes", encode="categories")
    with caplog.at_level(logging.WARNING, "sunflower.data"):
        data = load(str(folder), how=how)
    texts = np.array(["f", "m", "x"])
    wanted = np.column_stack([FRAME.age[:30], FRAME.sex.to_numpy()[:30, None] == texts])
    np.testing.assert_array_equal(data.x_train, wanted.astype(np.float32))
    np.testing.assert_array_equal(data.x_test[:, 1:], (changed.sex.to_numpy()[:, None] == texts))
    assert "column 'sex' became 3 inputs: 0 f, 1 m, 2 x" in data.notes
    assert [record.getMessage() for record in caplog.records] == [
        f"dataset {folder}: 2 of 10 test rows have a text in column 'sex' that no training row "
        "has, such as 'q': all its inputs are 0 there"
    ]
    many = pd.DataFrame({"who": [f"n{k}" for k in range(1001)], "label": [0, *[1] * 1000]})
    many.to_parquet(folder / "many.parquet", index=False)
    with pytest.raises(DataError) as caught:
        load(str(folder / "many.parquet"), how=Data(encode="categories"))
    assert str(caught.value).endswith(
        "feature column 'who' must hold at most 1,000 different texts to be encoded, got 1,001"
    )
    with pytest.raises(DataError, match=r"^data\.encode must be left out for .* hold no text, got"):
        load(str(folder), how=Data(**{**HOW, "encode": "categories"}))


def test_a_column_of_weights(tmp_path: Path) -> None:
    path = str(tmp_path / "rows.parquet")
    FRAME.drop(columns=["sex", "site"]).to_parquet(path, index=False)
    data = load(path, how=Data(label="ill", label_type="classes", weight="w", test=0.25))
    assert data.x_train.shape[1] == 2
    assert data.sample_weight is not None and data.sample_weight_test is not None
    of = {(a, b): w for (a, b), w in zip(NUMBERS.tolist(), FRAME.w.astype(np.float32), strict=True)}
    for x, found in (
        (data.x_train, data.sample_weight),
        (data.x_test, data.sample_weight_test),
    ):
        np.testing.assert_array_equal(found, [of[a, b] for a, b in x.tolist()])
    with pytest.raises(DataError, match=r"^data\.weight must name a column of .*, got 'v'$"):
        load(path, how=Data(label="ill", weight="v"))


def test_the_run_folder_names_the_natural_clients(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv.gz"
    with gzip.open(path, "wt") as file:
        FRAME.drop(columns=["sex", "w"]).to_csv(file, index=False)
    plan = {
        "dataset": str(path),
        "data": {"label": "ill", "label_type": "classes", "owner": "site"},
        "model": "logistic",
        "clients": 4,
        "rounds": 1,
        "partition": "natural",
        "resources": {"engine": "inline"},
    }
    run = simulate(parse(plan), out=tmp_path / "run")
    found = pd.read_parquet(run.path / "owners.parquet")
    assert found.to_dict("list") == {
        "client": [0, 1, 2, 3],
        "id": ["site-1", "site-10", "site-2", "site-9"],
    }
    held = pd.read_parquet(run.path / "labels.parquet").groupby("client").examples.sum()
    for client, name in enumerate(found.id):
        assert held[client] == (name == FRAME.site).sum() - (name == FRAME.site).sum() // 10
    assert "label 'ill'; features 'age', 'bmi'" in (run.path / "run.log").read_text()
    simulate(parse({**plan, "partition": "iid"}), out=tmp_path / "iid")
    assert not (tmp_path / "iid" / "owners.parquet").exists()
