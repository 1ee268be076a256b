"""Small inputs from what people bring, run as they run them: the right value, or the right line.

Each folder of ``tests/cases`` is one of them. What is right is computed here by NumPy, or by Keras
on the model that the run has saved, from the arrays that the dataset gives.
"""

from __future__ import annotations

import json
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

from simulation.datasets import registry
from tests.simulation.runs.case_tools import FEW, Case, Ran, agree, case, module

__all__ = ["case"]  # a fixture


BUILT_IN = [
    ("fashion-mnist-mini", "cnn"),
    ("synthetic(1,1)", "logistic"),
    ("examples.characters:load", "examples.characters:build"),
]
LIKE_THESE = [
    *(("fashion-mnist-mini", model) for model in ("lenet", "mlp", "logistic")),
    ("examples.tabular:load", "examples.tabular:build"),
]


@pytest.mark.parametrize(
    ("dataset", "model"),
    [*BUILT_IN, *(pytest.param(*one, marks=pytest.mark.soak) for one in LIKE_THESE)],
)
def test_what_is_built_in_is_evaluated_by_keras_alike(
    dataset: str, model: str, tmp_path: Path, quiet_again: None
) -> None:
    case = Case("", tmp_path)
    ran = case.agrees(dataset, "--model", model, "--clients", "5", "--cohort", "2", "--rounds", "1")
    data = registry.load(dataset)
    found = ran.model.evaluate(data.x_test, data.y_test, batch_size=500, verbose=0)
    expected = [ran.final["server_loss"], ran.final["server_accuracy"]]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_01_delimited_tables(case: Case) -> None:
    case.make()
    for name in ("patients.csv", "./patients.csv"):
        ran = case.works("--dataset", name, "--model", "logistic", *FEW)
        agree(ran, registry.load(name))


def test_02_an_index_is_no_feature(case: Case) -> None:
    case.make()
    options = ["--set", "data.owner=site", "--partition", "natural", "--model", "logistic"]
    found = {}
    for name in ("noindex", "clean", "named"):
        ran = case.works(
            "--dataset", f"{name}.parquet", *options, "--clients", "4", "--rounds", "2"
        )
        assert ran.model.input_shape == (None, 3)
        found[name] = ran.final["server_loss"]
    assert len(set(found.values())) == 1


def test_03_text_and_missing_values(case: Case) -> None:
    case.make()
    options = ["--set", "data.label=income", "--model", "logistic", *FEW]
    for name, words in {
        "adult": ("'age'", "30 empty"),
        "adult2": ("'age'", "30 empty"),
        "adult3": ("'age'", "30 empty"),
        "adult4": ("'income'", "float", "data.label_type"),
    }.items():
        line = case.refused("--dataset", f"{name}.parquet", *options)
        assert all(word in line for word in words), line
    case.works("--dataset", "adult4.parquet", *options, "--set", "data.label_type=classes")


def test_04_ids_of_natural_clients_are_kept(case: Case) -> None:
    case.make()
    options = ["--set", "data.owner=device", "--partition", "natural", "--model", "logistic", *FEW]
    ran = case.works("--dataset", "devices", *options)
    table = pd.read_parquet(ran.path / "owners.parquet")
    assert set(table["id"]) == {"dev-17", "dev-2", "dev-901"}


@pytest.mark.soak
def test_05_one_hot_labels(case: Case) -> None:
    for data, model in (("load", "build"), ("load", "build2"), ("load_int", "build")):
        case.agrees(f"my_data:{data}", "--model", f"my_model:{model}", *FEW)
    case.agrees("my_data:load", "--model", "my_model:build", "--alpha", "0.5", *FEW)
    case.agrees("my_data:load", "--model", "logistic", *FEW)


def test_06_several_labels_at_once(case: Case) -> None:
    ran = case.agrees("my_data:load", "--model", "my_model:build", "--local-epochs", "3", *FEW)
    _, (x, y) = module("my_data").load()
    right = ((ran.model.predict(x, verbose=0) > 0.5) == y).mean()
    assert ran.final["server_accuracy"] == pytest.approx(right, abs=1e-6)
    assert ran.final["server_binary_accuracy"] == ran.final["server_accuracy"]


def test_08_compiled_metrics_and_a_fitting_loss(case: Case) -> None:
    ran = case.agrees("my_data:load", "--model", "my_model:build", *FEW)
    who = ("train", "client", "server")
    assert {f"{w}_{m}" for w in who for m in ("auc", "precision", "recall")} <= set(ran.final)
    table = pd.read_parquet(ran.path / "clients.parquet")
    assert {"auc", "train_auc"} <= set(table.columns)
    plain = case.agrees("my_data:load", "--model", "my_model:uncompiled", *FEW)
    assert "it learns by binary crossentropy on probabilities" in plain.said
    named = ["--set", "training.loss=binary_crossentropy"]
    same = case.works("--dataset", "my_data:load", "--model", "my_model:uncompiled", *named, *FEW)
    assert same.final["server_loss"] == plain.final["server_loss"]


def test_09_labels_of_many_kinds(case: Case) -> None:
    for name, words in {
        "text": "y_train must be an array of numbers",
        "pm": "y_train must hold class numbers from 0 upwards (floats for a regression), got -1",
        "floats": "must be compiled with a loss that fits",
    }.items():
        line = case.refused("--dataset", f"my_data:{name}", "--model", "my_model:three", *FEW)
        assert words in line, line
    line = case.refused("--dataset", "my_data:gaps", "--model", "my_model:three", *FEW)
    assert line == "model output must have at least 201 units (classes of the dataset), got 3"


def test_10_an_empty_client_is_named(case: Case) -> None:
    case.make()
    options = ["--dataset", "./", "--model", "logistic", "--partition", "natural", *FEW]
    for more in ([], ["--set", "data.test=0.3"]):
        assert "client1.npz" in (line := case.refused(*options, *more)) and "examples" in line


def test_12_images_of_odd_ranges_are_told(case: Case) -> None:
    for name, top in (("u16", "to 4094"), ("f255", "to 254")):
        ran = case.works("--dataset", f"my_data:{name}", "--model", "logistic", *FEW)
        said = " ".join(ran.said.split())
        assert "warning" in said and top in said and "data.scale" in said, said
    assert "data.scale" not in case.works("--dataset", "my_data:f64", "--model", "mlp", *FEW).said
    for name in ("ragged", "listed"):
        assert "x_train" in case.refused("--dataset", f"my_data:{name}", "--model", "cnn", *FEW)
    for name in ("grey", "first"):
        assert "cannot take examples" in case.refused(
            "--dataset", f"my_data:{name}", "--model", "cnn", *FEW
        )


@pytest.mark.soak
def test_14_a_model_that_rescales_is_not_scaled_again(case: Case) -> None:
    found = {}
    for name in ("build", "without"):
        ran = case.agrees("fashion-mnist-mini", "--model", f"my_model:{name}", *FEW)
        found[name] = ran.final["server_accuracy"]
        config = json.loads((ran.path / "config.json").read_text())
        scale = 1.0 if name == "build" else 1 / 255
        assert config["model"]["scale"] == pytest.approx(scale)
        assert ("inputs are multiplied by 1/255" in ran.said) == (name == "without")
    assert found["build"] == found["without"] > 0.3
    # A scale that the user asks for is there, whatever the model does.
    asked = ["--set", "data.scale=0.5"]
    ran = case.works("--dataset", "fashion-mnist-mini", "--model", "my_model:build", *asked, *FEW)
    data = registry.load("fashion-mnist-mini")
    loss, _ = ran.model.evaluate(data.x_test, data.y_test, batch_size=500, verbose=0)
    assert ran.final["server_loss"] == pytest.approx(loss, rel=1e-4)
    assert "inputs are multiplied by 0.5" in ran.said or "by 1/2 " in ran.said


def test_15_frames_tensors_and_what_is_no_array(case: Case) -> None:
    for name in ("frames", "bools", "ints", "tensors"):
        ran = case.works("--dataset", f"my_data:{name}", "--model", "my_model:build", *FEW)
        assert ran.final["server_accuracy"] > 0
    for name, word in (("tfdata", "tf.data"), ("generator", "generator"), ("one_d", "x_train")):
        line = case.refused("--dataset", f"my_data:{name}", "--model", "my_model:build", *FEW)
        assert word in line, line
    case.refused("--dataset", "my_data:clients", "--model", "my_model:build", *FEW)


def test_20_two_outputs_are_refused(case: Case) -> None:
    line = case.refused("--dataset", "my_data:load", "--model", "my_model:build", *FEW)
    assert line.endswith("y_train must be one array of targets, got a tuple of 2")
    line = case.refused("--dataset", "my_data:stacked", "--model", "my_model:build", *FEW)
    assert line == "model 'functional' must have one output, got a list"


LOSSES = [
    (("relative", "lambda"), ("dice", "hinge"), ("named", "ordinal")),
    pytest.param(("rmse", "list"), ("focal", "kdice"), (), marks=pytest.mark.soak),
]


@pytest.mark.parametrize(("numbers", "binary", "classes"), LOSSES, ids=["some", "others"])
def test_21_losses_of_ones_own(
    case: Case, numbers: tuple[str, ...], binary: tuple[str, ...], classes: tuple[str, ...]
) -> None:
    for loss in numbers:
        ran = case.works("--dataset", "my_data:reg", "--model", f"my_model:m_{loss}", *FEW)
        assert ran.final["server_accuracy"] is None and "accuracy" not in ran.said
    for loss in binary:
        ran = case.works("--dataset", "my_data:load", "--model", f"my_model:m_{loss}", *FEW)
        assert_binary(ran)
    for loss in classes:
        ran = case.works("--dataset", "my_data:load", "--model", f"my_model:m_{loss}", *FEW)
        _, (x, y) = module("my_data").load()
        weights = ran.model if loss == "named" else None
        if weights is not None:
            right = (weights.predict(x, verbose=0).argmax(1) == y).mean()
            assert ran.final["server_accuracy"] == pytest.approx(right, abs=1e-6)


def assert_binary(ran: Ran) -> None:
    _, (x, y) = module("my_data").load()
    model = keras.models.load_model(ran.path / "model.keras", compile=False)
    right = ((model.predict(x, verbose=0)[:, 0] > 0.5) == y).mean()
    assert ran.final["server_accuracy"] == pytest.approx(right, abs=1e-6)


@pytest.mark.soak
def test_22_what_an_optimizer_leaves_out_of_decay(case: Case) -> None:
    alone = ["--clients", "1", "--rounds", "1", "--set", "partition.validation=0"]
    more = ["--local-epochs", "40", "--batch-size", "160"]
    ran = case.agrees("my_data:load", "--model", "my_model:build", *alone, *more)
    (x, y), _ = module("my_data").load()
    keras.utils.set_random_seed(0)
    model = module("my_model").build()
    model.run_eagerly = True
    model.fit(x, y, batch_size=160, epochs=40, shuffle=False, verbose=0)
    for ours, theirs in zip(ran.model.weights, model.weights, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.soak
def test_24_weights_of_examples_and_classes(case: Case) -> None:
    ran = case.works("--dataset", "my_data:load", "--model", "my_model:build", *FEW)
    weight = ["--set", "training.class_weight={0=1.0,1=9.0}"]
    same = case.works("--dataset", "my_data:plain", "--model", "my_model:build", *weight, *FEW)
    # The same weights, as an array or by class, train the same model.
    for ours, theirs in zip(ran.model.weights, same.model.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    plain = case.works("--dataset", "my_data:plain", "--model", "my_model:build", *FEW)
    assert np.abs(plain.model.weights[0] - ran.model.weights[0]).max() > 1e-4
    case.agrees("my_data:plain", "--model", "my_model:weighted", *FEW)
    line = case.refused("--dataset", "my_data:load", "--model", "my_model:build", *weight, *FEW)
    assert line.startswith("training.class_weight must be left out for a dataset whose examples")


def test_25_masks(case: Case) -> None:
    for data, model in (("ints", "build"), ("floats", "build"), ("floats", "two")):
        ran = case.agrees(f"my_data:{data}", "--model", f"my_model:{model}", *FEW)
        _, (x, masks) = module("my_data").floats()
        output = ran.model.predict(x.astype(np.float32), verbose=0)
        guess = output.argmax(-1)[..., None] if model == "two" else output > 0.5
        right = (guess == masks).mean()
        assert ran.final["server_accuracy"] == pytest.approx(right, abs=1e-6)


@pytest.mark.soak
def test_28_a_frozen_base_that_preprocesses(case: Case) -> None:
    ran = case.agrees("my_data:load", "--model", "my_model:build", *FEW)
    assert "inputs are multiplied" not in ran.said  # preprocess_input is part of the model


def test_48_targets_in_a_column(case: Case) -> None:
    alone = ["--clients", "1", "--rounds", "1", "--set", "partition.validation=0"]
    more = ["--local-epochs", "200", "--batch-size", "160"]
    ran = case.agrees("my_data:load", "--model", "my_model:build", *alone, *more)
    np.testing.assert_allclose(np.ravel(ran.model.weights[0]), [1.0, -2.0, 0.5], atol=1e-3)


def test_49_overrides_are_honoured_or_refused(case: Case) -> None:
    alone = ["--clients", "1", "--rounds", "1", "--set", "partition.validation=0"]
    alone += ["--dataset", "my_data:load", "--local-epochs", "10", "--batch-size", "160"]
    (x, y), _ = module("my_data").load()
    own = module("my_model")
    for model, more, optimizer in (
        ("sgd", [], keras.optimizers.SGD(0.01)),
        ("sgd", ["--set", "training.momentum=0.9"], keras.optimizers.SGD(0.01, 0.9)),
        ("adam", ["--set", "training.optimizer=adamw"], keras.optimizers.AdamW(0.001)),
    ):
        ran = case.works("--model", f"my_model:{model}", *more, *alone)
        twin = own._m(optimizer)
        twin.run_eagerly = True
        twin.fit(x, y, batch_size=160, epochs=10, shuffle=False, verbose=0)
        saved = keras.models.load_model(ran.path / "model.keras", compile=False)
        for ours, theirs in zip(saved.weights, twin.weights, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-6)
    line = case.refused("--model", "my_model:schedule", "--learning-rate", "0.1", *alone)
    assert line == (
        "training.learning_rate must be left out for model 'sequential', whose optimizer follows "
        "CosineDecay, got 0.1"
    )
    line = case.refused("--model", "my_model:schedule", "--strategy", "scaffold", *alone)
    assert "learning rate" in line
    line = case.refused("--model", "my_model:adam", "--set", "training.momentum=0.9", *alone)
    assert line == (
        "training.momentum must be left out for model 'sequential', whose optimizer Adam has none, "
        "got 0.9"
    )


def test_51_files_of_other_kinds(case: Case) -> None:
    case.make()
    options = ["--model", "logistic", *FEW]
    for name in ("all_data.json", "./all_data.json", "photos"):
        case.works("--dataset", name, "--set", "data.test=0.3", *options)
    line = case.refused("--dataset", "all_data.json", *options)  # a tenth of 5 rows is none
    assert line.endswith("got 0.1 of 15 of 3 clients, none of more than 5")
    for name in ("upper.npz", "text.npz"):
        case.works("--dataset", name, *options)
    for name in ("objects.npz", "plain.npy", "data.pkl", "nothing.parquet"):
        assert name in case.refused("--dataset", name, "--model", "logistic", *FEW)
