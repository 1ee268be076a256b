"""Models and datasets given as functions: importable ones by name, those of a script by value."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simulation.config import given, plugins, static
from simulation.config.errors import ConfigError, RunError
from simulation.config.experiment import Experiment
from simulation.config.fingerprint import LENGTH, fingerprint, modules_used
from simulation.engines.ray import shipping
from simulation.engines.ray.private import pickled
from simulation.runs.run import simulate

ROOT = Path(__file__).parents[3]
UNITS = 3


def data() -> Any:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 5)).astype("float32")
    y = (x[:, 0] > 0).astype(int)
    return (x[:40], y[:40]), (x[40:], y[40:])


def net_of(units: int) -> Callable[..., Any]:
    def net(shape: Any, classes: int) -> Any:
        import keras

        return keras.Sequential(
            [keras.Input(shape), keras.layers.Dense(units), keras.layers.Dense(classes)]
        )

    return net


def helped(units: int) -> int:
    return units * UNITS


class Maker:
    def __init__(self, units: int) -> None:
        self.units = units

    def __call__(self) -> int:
        return self.units


def test_a_function_of_a_module_is_its_name() -> None:
    experiment = Experiment(model=net_of, dataset=data)
    assert (experiment.model, experiment.dataset) == (f"{__name__}:net_of", f"{__name__}:data")
    assert plugins.resolve("dataset", experiment.dataset) is data
    named = Experiment(model=f"{__name__}:net_of", dataset=f"{__name__}:data")
    assert experiment == named and experiment.digest() == named.digest()


def test_any_other_function_has_its_content_in_its_name() -> None:
    one, same, other = net_of(3), net_of(3), net_of(4)
    name = Experiment(model=one).model
    assert name.partition("@")[0] == f"{__name__}:net_of.<locals>.net"
    assert len(name.partition("@")[2]) == LENGTH
    assert plugins.resolve("model", name) is one
    assert Experiment(model=same).model == name
    assert Experiment(model=same).digest() == Experiment(model=one).digest()
    assert Experiment(model=other).digest() != Experiment(model=one).digest()
    assert hash(name) == hash(Experiment.model_validate({"model": one}).model)
    assert name in Experiment(model=one).to_toml()


def test_what_counts_of_a_function(monkeypatch: pytest.MonkeyPatch) -> None:
    different = [
        net_of(3), net_of(4), lambda: 1, lambda: 2, lambda a=1: a, lambda a=2: a,
        partial(helped, 1), partial(helped, 2), lambda: UNITS, lambda: {"a": UNITS},
    ]  # fmt: skip
    found = [fingerprint(function) for function in different]
    assert len(set(found)) == len(found)
    array = np.arange(3.0)
    assert fingerprint(lambda: array) == fingerprint(lambda: array)
    before = fingerprint(lambda: UNITS)
    array[0] = 9.0
    assert fingerprint(different[8]) == before
    monkeypatch.setitem(globals(), "UNITS", 5)
    assert fingerprint(different[8]) != before


def test_a_circle_of_functions_ends() -> None:
    def even(n: int) -> bool:
        return n == 0 or odd(n - 1)

    def odd(n: int) -> bool:
        return n != 0 and even(n - 1)

    assert fingerprint(even) == fingerprint(even) != fingerprint(odd)


SCRIPT = """
import numpy as np
from simulation.config.given import name_of

class Layer:
    sizes = {"a", "b", "c"}
    def call(self): return self.sizes

WIDTH = np.arange(4)
def helper(x=1.5): return {"k": x, "other": [None, ...]}
def net(shape): return helper(), Layer(), np.zeros(3), WIDTH, {"x", "y"}
print(name_of(net), name_of(lambda: helper))
"""


def test_a_fingerprint_is_the_same_in_every_process() -> None:
    def names(seed: str) -> str:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed}
        words = [sys.executable, "-c", SCRIPT]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
        return done.stdout

    assert names("1") == names("2")
    assert names("1").startswith("__main__:net@")


def test_modules_that_a_function_uses_are_known() -> None:
    assert {"numpy", __name__} & set(modules_used(lambda: (np.zeros, helped))) == {
        "numpy",
        __name__,
    }


def test_a_worker_gets_a_function_by_value(monkeypatch: pytest.MonkeyPatch) -> None:
    function = partial(Maker(2))
    name = Experiment(model=function).model
    sent = given.Given({name: pickled(lambda: 7)})
    monkeypatch.setattr(given, "_functions", {})
    with pytest.raises(ValueError, match=r"must be the function that the run began with") as error:
        plugins.find("model", name)
    assert "\n" not in str(error.value) and repr(name) in str(error.value)
    given.admit(sent)
    assert plugins.find("model", name)() == 7


def test_what_an_environment_below_holds_is_not_shipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    below, own = tmp_path / "lib/site-packages", tmp_path / "own"
    for folder in (below, own):
        folder.mkdir(parents=True)
        monkeypatch.syspath_prepend(str(folder))
    (below / "theirs_of_test.py").write_text("")
    (own / "mine_of_test.py").write_text("import theirs_of_test")
    shipped = [Path(name).name for name in shipping.packages(["mine_of_test"])]
    assert "mine_of_test.py" in shipped
    assert "theirs_of_test.py" not in shipped


def test_a_function_that_does_not_travel_is_told() -> None:
    lock = __import__("threading").Lock()
    experiment = Experiment(model=lambda: lock)
    with pytest.raises(ValueError, match=r"^tests.*must be a function that can go to the workers"):
        shipping.handed_over(experiment)


def test_a_run_of_functions_and_its_resume(small: Experiment, tmp_path: Path) -> None:
    experiment = small.replace(clients=3)
    done = simulate(experiment, model=net_of(3), dataset=lambda: data(), out=tmp_path / "run")
    config = json.loads((tmp_path / "run/config.json").read_text())["experiment"]
    assert config["model"] == given.name_of(net_of(3))
    assert config["dataset"].startswith(f"{__name__}:test_a_run_of_functions_and_its_resume")
    (tmp_path / "run/summary.json").unlink()
    function = plugins.resolve("dataset", config["dataset"])
    again = simulate(
        experiment, model=net_of(3), dataset=function, out=tmp_path / "run", resume=True
    )
    assert again.summary["weights_sha256"] == done.summary["weights_sha256"]
    with pytest.raises(RunError) as error:
        simulate(experiment, model=net_of(4), dataset=function, out=tmp_path / "run", resume=True)
    assert str(error.value) == (
        f"resume: {tmp_path / 'run'} is a run of another experiment: "
        f"model was {given.name_of(net_of(3))!r}, is {given.name_of(net_of(4))!r}"
    )


UNGUARDED = """
import numpy as np
from simulation import Experiment, simulate
from tests.simulation.conftest import local_ray

def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 5)).astype("float32")
    y = (x[:, 0] > 0).astype(int)
    return (x[:40], y[:40]), (x[40:], y[40:])

def net(shape, classes):
    import keras
    return keras.Sequential([keras.Input(shape), keras.layers.Dense(classes, name=LAST)])

LAST = "last"
print("begun")
resources = {"engine": "ray", "workers": 1}
common = {"clients": 2, "rounds": 1, "resources": resources}
with local_ray():
    mixed = simulate(Experiment(dataset="unguarded:data", **common), model=net, out="mixed")
text = Experiment(dataset="__main__:data", model="__main__:net", **common)
assert text.digest() == Experiment(dataset=data, model=net, **common).digest()
print(mixed.spec.names)
"""


@pytest.mark.soak
def test_a_script_without_a_guard(tmp_path: Path) -> None:
    (tmp_path / "unguarded.py").write_text(UNGUARDED)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "unguarded.py"], cwd=tmp_path, env=environment, capture_output=True,
        text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[0] == "begun" and done.stdout.count("begun") == 1
    assert "last/kernel" in done.stdout

    config = json.loads((tmp_path / "mixed/config.json").read_text())["experiment"]
    assert config["dataset"] == "unguarded:data"
    assert config["model"].startswith("__main__:net@")


def test_a_module_that_runs_while_it_is_imported_is_told(
    small: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = "from simulation import simulate\ndef data(): ...\nsimulate()\n"
    (tmp_path / "hasty.py").write_text(text)
    with pytest.raises(ValueError, match=r"^dataset must name a module that imports") as error:
        simulate(small.replace(dataset="hasty:data"))
    assert str(error.value).endswith(
        "got 'hasty:data' (RunError: simulate must not be called while its module is imported: "
        "put it under if __name__ == '__main__':)"
    )


MODULE = """
from os import path as where
constant = 3
both = None
def build():
    inner = 3
    global late
class Net: ...
if constant:
    def both(): ...
made = build()
for loop in (): ...
"""
FOUND = ("where", "both", "build", "late", "Net", "made", "loop")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", FOUND)
def test_a_name_that_a_module_may_have(name: str, folder: Path) -> None:
    (folder / "seen.py").write_text(MODULE)
    static.find("model", f"seen:{name}")


@pytest.mark.parametrize("text", ["from os import *", "def __getattr__(name): ...", "exec('')"])
def test_what_the_source_does_not_show_is_left_to_the_workers(text: str, folder: Path) -> None:
    (folder / "hidden.py").write_text(text)
    static.find("model", "hidden:net")


@pytest.mark.parametrize(
    ("reference", "why"),
    [
        ("os:nothing", "nothing is not in os"),
        ("math:pi2", "pi2 is not in math"),
        ("seen:inner", "inner is not in seen"),
        ("seen:nothing", "nothing is not in seen"),
        ("seen:constant", "constant is not callable"),
        ("__main__:nothing", "nothing is not in __main__"),
    ],
)
def test_a_name_that_a_module_lacks(reference: str, why: str, folder: Path) -> None:
    (folder / "seen.py").write_text(MODULE)
    with pytest.raises(ConfigError) as error:
        static.find("model", reference)
    assert str(error.value) == f"model must name a function, got {reference!r} ({why})"


def test_what_is_neither_name_nor_function_is_told_in_a_line() -> None:
    with pytest.raises(ConfigError) as error:
        Experiment(model=3, rounds=0)  # type: ignore[arg-type]
    assert str(error.value).splitlines() == [
        "model must be text, got 3",
        "rounds must be >= 1, got 0",
    ]
