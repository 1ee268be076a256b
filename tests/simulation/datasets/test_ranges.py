"""Scales of inputs: said for any dataset, and inputs of an odd range that are told once."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest

from simulation.config.errors import ConfigError
from simulation.config.experiment import parse
from simulation.config.sections import Data
from simulation.datasets import arrays, validate
from simulation.datasets.registry import DataError, load

RNG = np.random.default_rng(5)
IMAGES = RNG.random((6, 4, 4, 1))
Y = np.arange(6) % 3


def made(x: Any, **more: Any) -> dict[str, Any]:
    return {"x_train": x, "y_train": Y, "x_test": x, "y_test": Y, **more}


@pytest.fixture(autouse=True)
def own_warnings() -> None:
    arrays.warn_once.cache_clear()


@pytest.mark.parametrize(
    ("x", "wanted"),
    [
        ((IMAGES * 4095).astype(np.uint16), "uint16 values from {low} to {high} in [N, 4, 4, 1]"),
        (IMAGES * 255, "float32 values from {low} to {high} in [N, 4, 4, 1]"),
        ((IMAGES[..., 0] * 1e6).astype(np.int64), "int64 values from {low} to {high} in [N, 4, 4]"),
        ((IMAGES * 255).astype(np.uint8), None),
        (IMAGES * 6 - 3, None),
        (IMAGES > 0.5, None),
        (IMAGES.reshape(6, 16) * 255, None),  # rows of a table
    ],
)
def test_images_of_an_odd_range_are_told_once(x: Any, wanted: str | None, caplog: Any) -> None:
    with caplog.at_level(logging.WARNING, "sunflower.data"):
        first, again = (validate.arrays("mine", made(x)) for _ in range(2))
    found = [record.getMessage() for record in caplog.records]
    assert first["notes"] == again["notes"] == tuple(found)
    if wanted is None:
        assert found == []
        return
    x = first["x_train"]
    high = float(x.max())
    told = wanted.format(low=f"{float(x.min()):g}", high=f"{high:g}")
    factor = 1 / 255 if high <= 255 else 1 / high
    assert found == [
        f"dataset mine: x_train holds {told}, and only uint8 images are scaled by themselves: "
        f"unless the model scales them, set data.scale, such as {factor:.6g}"
    ]
    assert first["scale"] == 1.0
    assert validate.arrays("mine", made(x, scale=1.0))["notes"] == ()
    assert validate.arrays("mine", made(x), scaled=True)["notes"] == ()


def test_data_scale_goes_for_every_dataset(tmp_path: Any, monkeypatch: Any) -> None:
    np.savez(tmp_path / "images.npz", x=(IMAGES * 255).astype(np.uint8), y=Y)
    path = str(tmp_path / "images.npz")
    for name in ("fashion-mnist-mini", "synthetic(1,1)", path):
        assert load(name, how=Data(scale=0.25, test=0.1 if name != path else 0.5)).scale == 0.25
    with pytest.raises(DataError) as caught:
        load("synthetic(1,1)", how=Data(scale=0.25, label="y"))
    assert str(caught.value) == (
        "data must be left out for a dataset that is no file, got 'synthetic(1,1)'"
    )
    np.savez(tmp_path / "two.npz", **{"x.a": IMAGES, "x.b": IMAGES, "y": Y})
    two = str(tmp_path / "two.npz")
    with pytest.raises(DataError, match=r"^data\.scale must be left out for a dataset of several"):
        load(two, how=Data(scale=0.25, test=0.5))
    with pytest.raises(ConfigError, match=r"^data\.scale must be > 0, got 0$"):
        parse({"data": {"scale": 0}})


def test_new_keys_of_data_leave_older_digests_alone() -> None:
    said = parse({"data": {"label": "ill", "owner": "site"}})
    assert said.decisive()["data"] == {
        "features": None,
        "label": "ill",
        "owner": "site",
        "test": 0.1,
        "subset": None,
    }
    assert parse({"data": {"label": 3}}).data.label == "3"
    for key, value in (
        ("scale", 0.5),
        ("weight", "w"),
        ("encode", "categories"),
        ("label_type", "classes"),
    ):
        other = said.replace(**{f"data.{key}": value})
        assert other.decisive()["data"][key] == value and other.digest() != said.digest()
