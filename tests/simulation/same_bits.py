"""The runs whose bits are kept in ``golden/weights.json``, and what their bits depend on."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from flwr.serverapp import strategy as flower
from typer.testing import CliRunner

from simulation import Experiment, Listener, cli, simulate
from strategies import Algorithm, Median, average, plain
from strategies.entries import ENTRIES

GOLDEN = Path(__file__).parent / "golden"
HERE = "tests.simulation.same_bits"

BASE: dict[str, Any] = {
    "dataset": "fashion-mnist-mini",
    "model": f"{HERE}:tiny",
    "clients": 9,
    "cohort": 7,
    "rounds": 3,
    "partition": {"alpha": 0.5},
    "evaluation": {"batch_size": 1000},
    "resources": {"engine": "inline"},
}

APP_SEED = 7
"""An app draws the seed of its run from the operating system: here it draws this one."""


def tiny(shape: tuple[int, ...], classes: int) -> Any:
    """Return a model of few weights, with layers to keep and with moving statistics."""
    import keras

    layers = keras.layers
    pooled = [keras.Input(shape), layers.AveragePooling2D(7), layers.Flatten()]
    dense = [layers.Dense(4), layers.BatchNormalization(), layers.Dense(classes)]
    return keras.Sequential([*pooled, *dense], name="tiny")


def trainable(shape: tuple[int, ...], classes: int) -> Any:
    """Return a model without moving statistics, which noise would spoil."""
    import keras

    layers = keras.layers
    pooled = [keras.Input(shape), layers.AveragePooling2D(7), layers.Flatten()]
    return keras.Sequential([*pooled, layers.Dense(classes)], name="trainable")


class Seeing(flower.FedAvg):
    """Sees every reply, so that its clients answer by messages."""

    def aggregate_train(self, server_round: int, replies: Any) -> Any:
        return super().aggregate_train(server_round, list(replies))


class StopAfter(Listener):
    """Press Ctrl-C when the line of a round has been written."""

    def __init__(self, round: int) -> None:
        self.round = round

    def line(self, record: Mapping[str, Any]) -> None:
        if record["round"] == self.round:
            raise KeyboardInterrupt


@dataclass(frozen=True)
class Case:
    """A run.

    Args:
        changes: what differs from :data:`BASE`, by dotted key; options of ``--app`` for an app.
        strategy: makes a strategy object.
        stop: the round after which the run is stopped, and then resumed.
        like: the run that has the same bits.
        app: whether it is a Flower app.
    """

    changes: Mapping[str, Any]
    strategy: Callable[[], Any] | None = None
    stop: int | None = None
    like: str | None = None
    app: bool = False

    @property
    def experiment(self) -> Experiment:
        return Experiment(**BASE).replace(**self.changes)

    @property
    def needs_ray(self) -> bool:
        return self.changes.get("resources.engine") == "ray"

    @property
    def needs_accounting(self) -> bool:
        return self.changes.get("model") == f"{HERE}:trainable"


def of_entry(name: str) -> dict[str, Any]:
    """Return the changes that make a run of an entry of the catalogue."""
    model = {"model": f"{HERE}:trainable"} if name.startswith("dp-") else {}
    root = {"partition.root": 60} if name == "fltrust" else {}
    return {"strategy": {"name": name, **OPTIONS.get(name, {})}, **model, **root}


def on_ray(name: str, workers: int) -> Case:
    engine = {"resources.engine": "ray", "resources.workers": workers}
    case = CASES[name]
    return Case({**case.changes, **engine}, case.strategy, like=name, app=case.app)


def resumed(name: str, stop: int = 2) -> Case:
    return Case(CASES[name].changes, CASES[name].strategy, stop=stop, like=name)


OPTIONS: dict[str, dict[str, Any]] = {
    "fedprox-adaptive": {"mu": 0.1, "patience": 1},
    "norm-clipping": {"norm": 0.2},
    "bulyan": {"byzantine": 0.15},
    "dnc": {"byzantine": 0.3},
}
"""Of entries that would do as another does in three rounds of seven clients with their defaults."""

PERSONAL = {"strategy": "fedper", "evaluation.personal": True, "evaluation.all_clients": True}
MOMENTUM = {"training.optimizer": "sgd", "training.momentum": 0.9, "training.local_epochs": 2}
SLOW = {"realism.stragglers": 0.5, "training.local_epochs": 2}
LATE = {"cohort": 4, "realism.over_selection": 0.5, "realism.availability": 0.8}
ON_DEMAND = {"kind": "on-demand", "examples_per_client": 40, "alpha": 0.3}
WEIGHTED = {"training.class_weight": {0: 2.0, 3: 0.5}}
ADAPTIVE = ("free-rider", "alie", "ipm", "min-max", "min-sum", "fang")
ONE_CLASS = {"kind": "label-flip", "fraction": 0.4, "source": 0, "target": 6}
DOWN = {"kind": "top-k", "fraction": 0.05}
SEMANTIC = {
    "kind": "semantic-backdoor", "fraction": 0.4, "source": 2, "target": 6, "rare": 0.2,
}  # fmt: skip
CLOCK = {"devices": {"kind": "lognormal", "spread": 1.2}}
BUFFERED = {**CLOCK, "cohort": 4, "rounds": 6, "schedule": {"kind": "buffered", "buffer": 2}}
EDGES = {"kind": "hierarchical", "edges": 2, "cloud": "fedadam"}
FLWR = "flwr.serverapp.strategy"

CASES: dict[str, Case] = {
    **{f"entry/{name}": Case(of_entry(name)) for name in ENTRIES},
    "flower/fedavg": Case({}, flower.FedAvg),
    "flower/by-messages": Case({}, Seeing),
    "flower/fedadam": Case({"strategy": {"name": f"{FLWR}:FedAdam", "eta": 0.01}}),
    "flower/fedprox": Case({"strategy": {"name": f"{FLWR}:FedProx", "proximal_mu": 1.0}}),
    "flower/median": Case({"strategy": f"{FLWR}:FedMedian"}),
    "own/algorithm": Case({}, lambda: Algorithm("Mine", plain(), Median(), average(0.5))),
    "personal": Case(PERSONAL),
    "mode/local": Case({"mode": "local", "training.optimizer": "adam"}),
    "mode/centralised": Case({"mode": "centralised"}),
    "sampling/poisson": Case({"sampling": "poisson"}),
    "sampling/by-size": Case({"sampling": "by-size"}),
    "sampling/power-of-choice": Case({"sampling": "power-of-choice", "cohort": 4}),
    "sampling/round-robin": Case({"sampling": "round-robin", "cohort": 4}),
    "realism/dropout": Case({"realism.dropout": 0.4}),
    "realism/stragglers": Case(SLOW),
    "realism/stragglers-dropped": Case({**SLOW, "realism.drop_stragglers": True}),
    "realism/late": Case(LATE),
    **{
        f"attack/{kind}": Case({"attack.kind": kind, "attack.fraction": 0.4})
        for kind in ("label-flip", "sign-flip", "noise", "scale", *ADAPTIVE)
    },
    "attack/backdoor": Case({"attack": {"kind": "backdoor", "fraction": 0.4, "target": 3}}),
    "compression/download": Case({"cohort": 4, "compression": {"kind": "qsgd", "download": DOWN}}),
    "attack/semantic": Case({"attack": SEMANTIC}),
    "attack/one-class": Case({"attack": ONE_CLASS}),
    "attack/alie-median": Case({"attack": {"kind": "alie", "fraction": 0.4}, "strategy": "median"}),
    "partition/iid": Case({"partition": {"kind": "iid"}, "rounds": 1}),
    "partition/on-demand": Case({"partition": ON_DEMAND}),
    "partition/prior": Case({"partition": {**ON_DEMAND, "law": "prior"}}),
    "partition/inner": Case({"partition": {"kind": "inner-dirichlet", "alpha": 0.3}, "rounds": 1}),
    "partition/pathological": Case({"partition": {"kind": "pathological"}, "rounds": 1}),
    "partition/shards": Case({"partition": {"kind": "shards"}, "rounds": 1}),
    **{
        f"model/{name}": Case({"model": name, "rounds": 1})
        for name in ("cnn", "lenet", "mlp", "logistic")
    },
    "training/momentum": Case(MOMENTUM),
    "training/scaffold-momentum": Case({**MOMENTUM, "strategy": "scaffold"}),
    "training/fednova-momentum": Case({**MOMENTUM, **SLOW, "strategy": "fednova"}),
    "training/adamw": Case({"training.optimizer": "adamw", "training.learning_rate": 0.01}),
    "training/class-weight": Case(WEIGHTED),
    "schedule/deadline": Case({**CLOCK, "schedule": {"kind": "deadline", "deadline": "60%"}}),
    "schedule/buffered": Case(BUFFERED),
    "schedule/asynchronous": Case({**CLOCK, "cohort": 4, "rounds": 6, "schedule": "asynchronous"}),
    "schedule/hierarchical": Case({**CLOCK, "schedule": EDGES}),
    "sampling/oort": Case({**CLOCK, "sampling": "oort", "cohort": 3, "rounds": 4}),
    "seed": Case({"seed": 23}),
    "app/inline": Case({"engine": "inline"}, app=True),
}
CASES |= {
    **{
        f"resumed/{name}": resumed(f"entry/{name}")
        for name in ("scaffold", "fedper", "fedadam", "fedrep", "ditto", "apfl")
    },
    "resumed/dp-fedavg-adaptive": resumed("entry/dp-fedavg-adaptive"),
    "resumed/by-messages": resumed("flower/by-messages", stop=1),
    "resumed/flower-fedadam": resumed("flower/fedadam"),
    "resumed/local": resumed("mode/local", stop=1),
    "ray/fedavg": on_ray("entry/fedavg", 1),
    "ray/fedavg-of-3-workers": on_ray("entry/fedavg", 3),
    "ray/scaffold": on_ray("entry/scaffold", 2),
    "ray/fedper": on_ray("entry/fedper", 3),
    "ray/buffered": on_ray("schedule/buffered", 2),
    "ray/krum": on_ray("entry/krum", 2),
    "ray/alie": on_ray("attack/alie", 3),
    "ray/dp-fedavg": on_ray("entry/dp-fedavg", 3),
    "ray/by-messages": on_ray("flower/by-messages", 2),
    "ray/local": on_ray("mode/local", 2),
    "ray/personal": on_ray("personal", 2),
    "app/ray": Case({"engine": "ray", "workers": 3}, like="app/inline", app=True),
}

QUICK = (
    "entry/fedavg",
    "entry/scaffold",
    "entry/krum",
    "entry/dp-fedavg",
    "flower/by-messages",
    "resumed/scaffold",
    "app/inline",
)
"""Runs of the normal suite; the soak test has all."""


def run(name: str, out: Path) -> dict[str, str]:
    """Run a case in the folder ``out``; return what its bits and its records come to."""
    case = CASES[name]
    if case.app:
        return _run_app(case, out)
    made = case.strategy or (lambda: None)
    if case.stop is not None:
        with pytest.raises(KeyboardInterrupt):
            simulate(case.experiment, made(), out=out, listener=StopAfter(case.stop))
    simulate(case.experiment, made(), out=out, resume=case.stop is not None)
    return outcome(out)


def _run_app(case: Case, out: Path) -> dict[str, str]:
    from tests.simulation.flower.test_app import plain as write_app

    # Its package is imported once in a process: every run has one of its own name.
    package = f"bits_{case.changes['engine']}_{hashlib.sha256(str(out).encode()).hexdigest()[:8]}"
    options = [f"--{key}={value}" for key, value in case.changes.items()]
    folder = write_app(out.with_name(f"{out.name}-app"), package)
    with mock.patch("secrets.randbelow", lambda _: APP_SEED):
        args = ["run", f"--app={folder}", f"--out={out}", "--clients=4", *options]
        done = CliRunner().invoke(cli.main, args)
    assert done.exit_code == 0, done.output
    return outcome(out)


def outcome(out: Path) -> dict[str, str]:
    """Return the sha256 of a run's weights, and that of its lines without their times."""
    summary = json.loads((out / "summary.json").read_text())
    assert summary["status"] == "complete"
    lines = [json.loads(line) for line in (out / "rounds.jsonl").read_text().splitlines()]
    text = json.dumps([{**line, "seconds": 0} for line in lines], sort_keys=True)
    lines_sha256 = hashlib.sha256(text.encode()).hexdigest()
    return {"weights": summary["weights_sha256"], "rounds": lines_sha256}


def machine() -> dict[str, str]:
    """Return what bits may depend on: versions, and the processor and its instructions."""
    names = ("tensorflow", "keras", "numpy", "flwr", "ray", "scipy", "dp-accounting")
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "none"
    cpu = _processor()
    words = cpu.get("flags", cpu.get("Features", "")).split()
    vectors = ("avx", "fma", "amx", "asimd", "sve", "bf16")
    return found | {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": cpu.get("model name", platform.processor()),
        "instructions": " ".join(sorted(word for word in words if word.startswith(vectors))),
    }


def _processor() -> dict[str, str]:
    """Return what Linux says of the first processor; nothing elsewhere."""
    file = Path("/proc/cpuinfo")
    text = file.read_text().split("\n\n")[0] if file.exists() else ""
    pairs = (line.partition(":") for line in text.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}
