"""Datasets: the real one, the shipped part, and arrays of the user's."""

import sys
from pathlib import Path

import numpy as np
import pytest

from simulation.datasets import fashion_mnist, registry
from simulation.datasets.dataset import Dataset
from simulation.datasets.registry import DataError, load
from simulation.datasets.shipped import make_mini
from tests.simulation.datasets.test_fashion_mnist import fill, places, real

__all__ = ["places", "real"]  # fixtures

# The real data.


def test_full_dataset(real, places):
    own = fashion_mnist.own_cache()
    fill(own, real, packed=False)
    data = load("fashion-mnist")
    assert data.source == f"cache {own}"
    assert (data.classes, data.scale) == (10, 1 / 255)
    for x, y, rows in ((data.x_train, data.y_train, 60_000), (data.x_test, data.y_test, 10_000)):
        assert x.shape == (rows, 28, 28, 1)
        assert x.dtype == np.uint8
        assert x.flags.c_contiguous
        assert y.dtype == np.int64
        assert np.bincount(y).tolist() == [rows // 10] * 10


def test_mini_is_what_its_script_makes(real, places):
    fill(fashion_mnist.own_cache(), real, packed=False)
    made = make_mini.make(load("fashion-mnist"))
    with np.load(registry.MINI, allow_pickle=False) as shipped:
        assert sorted(shipped) == sorted(made)
        for part, array in made.items():
            assert np.array_equal(shipped[part], array)


def test_mini_needs_nothing_but_the_package(places):
    data = load("fashion-mnist-mini")
    for x, y, each in ((data.x_train, data.y_train, 600), (data.x_test, data.y_test, 100)):
        assert x.shape == (10 * each, 28, 28, 1)
        assert x.dtype == np.uint8
        assert x.flags.c_contiguous
        assert y.dtype == np.int64
        assert np.bincount(y).tolist() == [each] * 10
        assert len(np.unique(x.reshape(len(x), -1), axis=0)) > 0.99 * len(x)
    assert (data.classes, data.scale, data.source) == (10, 1 / 255, "shipped with Sunflower")
    assert not (places / "own").exists()


def test_mini_can_be_learnt():
    """Images belong to their labels: the nearest class mean is right far above chance."""
    data = load("fashion-mnist-mini")
    train, test = (x.reshape(len(x), -1) * data.scale for x in (data.x_train, data.x_test))
    means = np.stack([train[data.y_train == k].mean(0) for k in range(10)])
    nearest = ((test[:, None] - means) ** 2).sum(2).argmin(1)
    assert (nearest == data.y_test).mean() > 0.6


def test_mini_damaged(tmp_path, monkeypatch):
    path = tmp_path / "mini.npz"
    path.write_bytes(registry.MINI.read_bytes()[:100_000])
    monkeypatch.setattr(registry, "MINI", path)
    with pytest.raises(DataError) as caught:
        load("fashion-mnist-mini")
    assert str(caught.value) == (
        f"fashion-mnist-mini must be a whole file, got {path} (File is not a zip file); "
        "install sunflower-fl again"
    )


def test_mini_ships_its_licence():
    text = (registry.MINI.parent / "FASHION_MNIST_LICENSE.txt").read_text()
    assert "Copyright (c) 2017 Zalando SE" in text
    assert "Permission is hereby granted, free of charge" in text
    assert registry.MINI.stat().st_size < 3.5e6


def test_names():
    names = ["fashion-mnist", "fashion-mnist-mini", "mnist", "cifar10", "cifar100", "emnist"]
    names += ["synthetic(ALPHA,BETA)"]
    assert [name for name, _ in registry.names()] == names
    assert all("\n" not in line and line for _, line in registry.names())


def test_unknown_name():
    with pytest.raises(DataError) as caught:
        load("fashion-mnits")
    assert str(caught.value) == (
        "dataset must be one of fashion-mnist, fashion-mnist-mini, mnist, cifar10, cifar100, "
        "emnist, synthetic(ALPHA,BETA), module:function, a path, hf:NAME, "
        "got 'fashion-mnits'; did you mean 'fashion-mnist'?"
    )


# The user's own arrays.


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Return a function that writes a module with ``make`` and loads ``module:make``."""
    monkeypatch.chdir(tmp_path)
    # What the loader adds to the path goes with the test.
    monkeypatch.setattr(sys, "path", list(sys.path))

    def build(body, name="own_arrays:make"):
        (tmp_path / "own_arrays.py").write_text(
            "import numpy as np\n"
            "x, y = np.arange(12.0).reshape(6, 2), np.array([0, 1, 2, 0, 1, 2])\n"
            f"def make():\n    {body}\n"
        )
        sys.modules.pop("own_arrays", None)
        try:
            return load(name)
        finally:
            sys.modules.pop("own_arrays", None)

    return build


@pytest.mark.parametrize(
    "body",
    [
        "return (x, y), (x[:2], y[:2])",
        "return dict(x_train=x, y_train=y, x_test=x[:2], y_test=y[:2])",
        "from simulation.datasets.registry import Dataset\n"
        "    return Dataset('mine', x, y, x[:2], y[:2], 3, 1.0, 'disk')",
        "return [[x.tolist(), y.tolist()], [x[:2], y[:2]]]",
    ],
)
def test_own_classification(own, body):
    data = own(body)
    assert isinstance(data, Dataset)
    assert np.array_equal(data.x_train, np.arange(12.0).reshape(6, 2))
    assert data.y_train.tolist() == [0, 1, 2, 0, 1, 2]
    assert data.y_test.tolist() == [0, 1]
    assert (data.x_train.dtype, data.y_train.dtype) == (np.float32, np.int64)
    assert (data.classes, data.scale) == (3, 1.0)
    assert (data.name, data.source) == ("own_arrays:make", "own_arrays:make")


def test_own_regression(own):
    data = own("return (x, y * 0.5), (x, y * 0.5)")
    assert data.classes is None
    assert data.y_train.dtype == np.float32
    assert data.y_train.tolist() == [0.0, 0.5, 1.0, 0.0, 0.5, 1.0]


def test_own_images_are_scaled_and_options_are_kept(own):
    image = "i = np.zeros((6, 4, 4), np.uint8); "
    assert own(image + "return (i, y), (i, y)").scale == 1 / 255
    given = "dict(x_train=i, y_train=y, x_test=i, y_test=y, classes=7, scale=0.5)"
    data = own(image + f"return {given}")
    assert (data.classes, data.scale) == (7, 0.5)


SHAPE = "the function must return (x_train, y_train), (x_test, y_test), a mapping or Dataset, got "
BAD = {
    "return 3": SHAPE + "int",
    "return x, y": SHAPE + "tuple of ndarray, ndarray",
    "return zip(x, y)": SHAPE + "a zip: return whole arrays and yield nothing",
    "yield x, y": SHAPE + "a generator: return whole arrays and yield nothing",
    "return ([x, x], [y, y]), (x, y)": (
        "x_train and x_test must have examples of the same shape and type, got (6, 2) float32 and "
        "(2,) float32 (a list of arrays is one array: join those of several clients)"
    ),
    "return {f'client{c}': (x, y) for c in range(4)}": (
        "the mapping must have the keys x_train, y_train, x_test, y_test, got client0, client1, "
        "client2, ... (if they are clients, join their rows and say in owners whose each row is)"
    ),
    "raise KeyError('k')": "the function must return arrays, got KeyError: 'k'",
    "return (x, y[:5]), (x, y)": (
        "x_train and y_train must have the same length, at least 1, got 6 and 5"
    ),
    "return (x, y), (x[:0], y[:0])": (
        "x_test and y_test must have the same length, at least 1, got 0 and 0"
    ),
    "return (x, y), (x[:, :1], y)": (
        "x_train and x_test must have examples of the same shape and type, "
        "got (2,) float32 and (1,) float32"
    ),
    "return (x, y), (x, y * 1.0)": (
        "y_train and y_test must have examples of the same shape and type, "
        "got () int64 and () float32"
    ),
    "return (x[:, 0], y), (x[:, 0], y)": (
        "x_train must have one row per example, [N, ...], got shape (6,)"
    ),
    "return ([np.zeros((2, 3)), np.zeros((4, 3))], y[:2]), (x, y)": (
        "x_train must have examples of one shape, got (2, 3) and (4, 3)"
    ),
    "return (np.array([np.zeros((1, 3)), np.zeros((2, 3))], object), y[:2]), (x, y)": (
        "x_train must have examples of one shape, got (1, 3) and (2, 3)"
    ),
    "import pandas as pd; f = pd.DataFrame(x, columns=['a', 'b']).assign(c=1)\n"
    "    f['sex'] = f.c.astype(object); return (f, y), (f, y)": (
        "column 'sex' of x_train must hold numbers, got object"
    ),
    "return (x.astype(object), y), (x, y)": "x_train must be an array of numbers, got dtype object",
    "return (x, y.astype(str)), (x, y)": "y_train must be an array of numbers, got dtype <U21",
    "return (x, y), (x * np.nan, y)": "x_test must be finite, got 12 values that are not",
    "return (x, y * np.inf), (x, y)": "y_train must be finite, got 6 values that are not",
    "return (x, y - 1), (x, y)": (
        "y_train must hold class numbers from 0 upwards (floats for a regression), got -1"
    ),
    "return (x, np.eye(6, dtype=int)), (x, y)": (
        "y_train and y_test must have examples of the same shape and type, "
        "got (6,) int64 and () int64"
    ),
    "return (x, (y, y)), (x, (y, y))": "y_train must be one array of targets, got a tuple of 2",
    "return (x, dict(a=y)), (x, y)": "y_train must be one array of targets, got a mapping of 1",
    "return (x, y, y[:5]), (x, y)": (
        "sample_weight must hold a number for each of the 6 examples, got shape (5,)"
    ),
    "return (x, y), (x, y, y - 1)": "sample_weight_test must hold numbers >= 0, got -1",
    "return (x, y, x[:, 0] * np.nan), (x, y)": (
        "sample_weight must be finite, got 6 values that are not"
    ),
    "return (x, y + 100), (x, y)": (
        "labels must be class numbers below the number of examples (12), got 102"
    ),
    "return {'x_train': x, 'y_test': y}": (
        "the mapping must have the keys x_train, y_train, x_test, y_test, got no y_train, x_test"
    ),
    "return dict(x_train=x, y_train=y, x_test=x, y_test=y, scales=1)": (
        "the mapping may have the keys x_train, y_train, x_test, y_test, classes, scale, owners, "
        "sample_weight, sample_weight_test, owner_names, got 'scales'"
    ),
    "return dict(x_train=x, y_train=y, x_test=x, y_test=y, classes=2)": (
        "classes must be a whole number above 2, got 2"
    ),
    "return dict(x_train=x, y_train=y, x_test=x, y_test=y, scale=0)": (
        "scale must be a number above 0, got 0"
    ),
}


@pytest.mark.parametrize("body", BAD)
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # 0 * inf is NaN, as meant
def test_own_arrays_that_break_a_rule(own, body):
    with pytest.raises(DataError) as caught:
        own(body)
    assert str(caught.value) == f"dataset own_arrays:make: {BAD[body]}"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("own_arrays:", "dataset must be module:function, got 'own_arrays:'"),
        (
            "no_such_module:make",
            "dataset must name a module that imports, got 'no_such_module:make' "
            "(ModuleNotFoundError: No module named 'no_such_module')",
        ),
        (
            "own_arrays:other",
            "dataset must name a function, got 'own_arrays:other' (other is not in own_arrays)",
        ),
        ("own_arrays:x", "dataset must name a function, got 'own_arrays:x' (x is not callable)"),
    ],
)
def test_own_function_that_cannot_be_had(own, name, text):
    with pytest.raises(DataError) as caught:
        own("return (x, y), (x, y)", name)
    assert str(caught.value) == text


def test_own_module_that_raises(own):
    with pytest.raises(DataError) as caught:
        own("pass\nraise RuntimeError('two\\nlines')")
    assert str(caught.value) == (
        "dataset must name a module that imports, got 'own_arrays:make' (RuntimeError: two lines)"
    )


def test_data_dir_of_no_use_is_told(caplog):
    load("fashion-mnist-mini", Path("/somewhere"))
    assert [r.getMessage() for r in caplog.records] == [
        "fashion-mnist-mini: data_dir is of no use here, got /somewhere"
    ]
