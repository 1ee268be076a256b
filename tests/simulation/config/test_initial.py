"""Runs that start from given weights: of Keras' files and of checkpoints."""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simulation.config import initial
from simulation.config.errors import ConfigError
from simulation.config.experiment import Experiment, parse
from simulation.config.overlay import overlay
from simulation.runs import preflight
from simulation.runs.run import simulate

Arrays = dict[str, np.ndarray[Any, Any]]


def net(shape: Any, classes: int) -> Any:
    """A frozen base, statistics that move, a layer that draws: each counts in its own way."""
    import keras

    base = keras.Sequential([keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(4)])
    base.trainable = False
    layers = [keras.layers.BatchNormalization(), keras.layers.Dropout(0.2)]
    return keras.Sequential([keras.Input(shape), base, *layers, keras.layers.Dense(classes)])


def trained(small: Experiment, path: Path) -> Experiment:
    """Run an experiment, so that its folder has weights."""
    experiment = small.replace(model=net, clients=3, rounds=1)
    simulate(experiment.replace(seed=7), out=path)
    return experiment


def test_a_run_starts_where_another_ended(small: Experiment, tmp_path: Path) -> None:
    import keras

    experiment = trained(small, tmp_path / "a")
    ended = json.loads((tmp_path / "a/summary.json").read_text())["final"]
    whole = keras.models.load_model(tmp_path / "a/model.keras", compile=False)
    whole.save_weights(tmp_path / "a.weights.h5")
    scaled = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Rescaling(1.0), whole])
    scaled.save(tmp_path / "scaled.keras")
    found = {}
    for name in ("a/model.keras", "a.weights.h5", "scaled.keras"):
        out = tmp_path / ("from-" + name.replace("/", "-"))
        done = simulate(experiment.replace(init=tmp_path / name), out=out)
        assert done.rounds[0]["server_loss"] == ended["server_loss"], name
        found[name] = done.summary["weights_sha256"]
    assert len(set(found.values())) == 1
    fresh = simulate(experiment, out=tmp_path / "fresh")
    assert fresh.rounds[0]["server_loss"] != ended["server_loss"]


def test_a_checkpoint_is_a_start_too(small: Experiment, tmp_path: Path) -> None:
    experiment = small.replace(model="logistic", clients=3, rounds=1)
    first = simulate(experiment, out=tmp_path / "a")
    file = tmp_path / "a/checkpoint/round-000001.safetensors"
    again = simulate(experiment.replace(init=file, seed=1), out=tmp_path / "b")
    assert again.rounds[0]["server_loss"] == first.rounds[1]["server_loss"]
    with pytest.raises(ValueError) as error:
        simulate(experiment.replace(init=file, model="mlp"), out=tmp_path / "c")
    assert str(error.value) == (
        f"init must hold the model's 199210 weights, got {str(file)!r} with 7850"
    )
    assert not (tmp_path / "c").exists()


def test_arrays_are_a_start_in_order_or_by_name(small: Experiment, tmp_path: Path) -> None:
    import keras
    from safetensors.numpy import save_file

    experiment = small.replace(model="logistic", clients=3, rounds=1)
    first = simulate(experiment, out=tmp_path / "a")
    model = keras.models.load_model(tmp_path / "a/model.keras", compile=False)
    arrays = model.get_weights()
    named = {"logistic/dense/kernel": arrays[0], "logistic/dense/bias": arrays[1]}
    np.savez(tmp_path / "order.npz", *arrays)
    np.savez(tmp_path / "names.npz", **named)
    np.savez(tmp_path / "flat.npz", model=np.concatenate([np.ravel(a) for a in arrays]))
    save_file(named, tmp_path / "names.safetensors")
    for name in ("order.npz", "names.npz", "flat.npz", "names.safetensors"):
        again = simulate(experiment.replace(init=tmp_path / name), out=tmp_path / f"from-{name}")
        assert again.rounds[0]["server_loss"] == first.rounds[1]["server_loss"], name


BAD_ARRAYS: list[tuple[Any, str]] = [
    (
        {"a": np.zeros(2)},
        "init must hold the model's 2 weights, in the order of get_weights() or by their paths "
        "(dense/kernel, dense/bias), got {!r} with a",
    ),
    (
        {"arr_0": np.zeros((2, 3)), "arr_1": np.zeros(3)},
        "init must have weights of the model's shapes, dense/kernel [3, 2], got {!r} with [2, 3]",
    ),
    (
        {"arr_0": np.array([{}], object), "arr_1": np.zeros(2)},
        "init must be a file of arrays, got {!r} (Object arrays cannot be loaded when "
        "allow_pickle=False)",
    ),
    (None, "init must be a file of arrays, got {!r} (File is not a zip file)"),
]


@pytest.mark.parametrize(("arrays", "line"), BAD_ARRAYS)
def test_arrays_that_do_not_fit(arrays: dict[str, Any] | None, line: str, tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    if arrays is None:
        path.write_bytes(b"PK\x03\x04 no archive")
    else:
        np.savez(path, **arrays)
    variables = [Variable("dense/kernel", (3, 2)), Variable("dense/bias", (2,))]
    with pytest.raises(ValueError) as error:
        initial._load_each(variables, path, initial._plain_arrays(path, path.read_bytes()))
    assert str(error.value) == line.format(str(path))


@dataclass
class Variable:
    """A weight of a model, as far as a file of arrays needs it."""

    path: str
    shape: tuple[int, ...]


def test_the_content_counts_and_not_the_path(tmp_path: Path) -> None:
    one, same, other = (tmp_path / f"{name}.keras" for name in ("one", "same", "other"))
    for file, text in ((one, b"1"), (same, b"1"), (other, b"2")):
        file.write_bytes(text)
    first = parse({"init": str(one)})
    assert first.init is not None
    assert first.init.sha256 == hashlib.sha256(b"1").hexdigest()
    assert first.digest() == parse({"init": {"path": same}}).digest()
    assert len({e.digest() for e in (Experiment(), first, Experiment(init=other))}) == 3
    assert parse(first.model_dump(mode="json")) == first
    assert "init" not in Experiment().decisive()
    assert parse(overlay(first.model_dump(mode="json"), {"init": str(other)})) == parse(
        {"init": other}
    )
    one.write_bytes(b"3")
    preflight.check(Experiment(init=same), tmp_path)
    with pytest.raises(ConfigError) as error:
        preflight.check(first, tmp_path)
    assert str(error.value) == (
        f"init must be the file that the run began with (sha256 {first.init.sha256[:12]}), got "
        f"{str(one)!r} (sha256 {hashlib.sha256(b'3').hexdigest()[:12]})"
    )


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (
            {"init": "start.pkl"},
            "init must be a file that ends in .keras or .weights.h5 or .safetensors or .npz, "
            "got 'start.pkl'",
        ),
        ({"init": "no.keras"}, "init must be a file, got 'no.keras' (No such file or directory)"),
        (
            {"model": "runs/a/model.keras"},
            "model must be a name or module:function, with the weights of a file as init "
            "(--init runs/a/model.keras), got 'runs/a/model.keras'",
        ),
    ],
)
def test_a_file_that_is_none(data: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse(data)
    assert str(error.value) == line


def write(path: Path, arrays: Arrays) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array


KERNEL, BIAS = "layers/dense/vars/0", "layers/dense/vars/1"
OWN: Arrays = {KERNEL: np.zeros((3, 2), np.float32), BIAS: np.zeros(2, np.float32)}


@pytest.mark.parametrize(
    ("found", "rule"),
    [
        ({KERNEL: np.ones((3, 2))}, "all weights of the model, got {!r} without " + f"{BIAS} [2]"),
        (
            {KERNEL: np.ones((2, 3)), BIAS: np.ones(2)},
            None,
        ),
        (
            {KERNEL: np.ones((3, 2)), BIAS: np.ones(2), "layers/dense_1/vars/0": np.ones(1)},
            "the weights of the model alone, got {!r} with layers/dense_1/vars/0 [1]",
        ),
    ],
)
def test_weights_of_another_model_are_told(found: Arrays, rule: str | None, tmp_path: Path) -> None:
    own, path = tmp_path / "own.weights.h5", tmp_path / "given.weights.h5"
    write(own, OWN)
    line = f"init must hold {rule}".format(str(path))
    if rule is None:
        line = (
            f"init must have weights of the model's shapes, {KERNEL} [3, 2], "
            f"got {str(path)!r} with [2, 3]"
        )
    with pytest.raises(ValueError) as error:
        initial._replace(own, dict(found), path)
    assert str(error.value) == line


@pytest.mark.parametrize("prefix", ["", "layers/sequential/", "layers/functional/layers/inner/"])
def test_a_model_within_a_model_is_found(prefix: str, tmp_path: Path) -> None:
    own = tmp_path / "own.weights.h5"
    given = {KERNEL: np.ones((3, 2)), BIAS: np.full(2, 5.0)}
    for outer, inner in ((prefix, ""), ("", prefix)):
        write(own, {outer + name: array for name, array in OWN.items()})
        initial._replace(own, {inner + name: array for name, array in given.items()}, own)
        wanted = initial._arrays_in(own, own.read_bytes())
        assert wanted[outer + BIAS].tolist() == [5.0, 5.0]


def test_nothing_but_arrays_is_read(tmp_path: Path) -> None:
    import h5py

    bad = tmp_path / "bad.keras"
    bad.write_bytes(b"no archive")
    with pytest.raises(ValueError) as error:
        initial._arrays_in(bad, bad.read_bytes())
    assert str(error.value) == (
        f"init must be a file of weights, got {str(bad)!r} (File is not a zip file)"
    )
    (tmp_path / "secret").write_bytes(b"\0" * 8)
    with h5py.File(tmp_path / "linked.weights.h5", "w") as file:
        elsewhere = [(str(tmp_path / "secret"), 0, 8)]
        file.create_dataset(BIAS, (2,), "f4", external=elsewhere)
        file["layers/other"] = h5py.ExternalLink("own.weights.h5", "layers")
    linked = tmp_path / "linked.weights.h5"
    with pytest.raises(ValueError, match=r"\(it refers to other files\)$"):
        initial._arrays_in(linked, linked.read_bytes())
    with zipfile.ZipFile(bad, "w") as archive:
        archive.writestr("config.json", "{}")
    with pytest.raises(ValueError, match="init must be a file of weights"):
        initial._arrays_in(bad, bad.read_bytes())
