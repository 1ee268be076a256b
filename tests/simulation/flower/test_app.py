"""A user's own Flower app on our pool: written as users write it, run as it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file
from typer.testing import CliRunner, Result

import analysis
from simulation.cli import commands, endings

PROJECT = """
[project]
name = "tinyapp"
version = "1.0.0"
description = "an app"
license = "MIT"

[tool.flwr.app]
publisher = "somebody"

[tool.flwr.app.components]
serverapp = "{name}.server:app"
clientapp = "{name}.client:app"

[tool.flwr.app.config]
rounds = 2
[tool.flwr.app.config.model]
step = 0.5
"""

CLIENT = """
import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
{imports}

app = ClientApp({mods})

@app.train()
def train(message, context):
    number, population = (context.node_config[k] for k in ("partition-id", "num-partitions"))
    visits = context.state.config_records.get("visits", ConfigRecord({{"count": 0}}))
    visits["count"] += 1
    context.state["visits"] = visits
    if context.run_config["rounds"] == 13 and number == 2:
        raise ArithmeticError("client two cannot count")
    w = message.content["arrays"]["w"].numpy()
    w = w + context.run_config["model.step"] * np.full_like(w, number + 1)
    metrics = {{"num-examples": number + 1, "train_loss": float(visits["count"]),
               "population": population, "weird": [1.0, 2.0]}}
    content = {{"arrays": ArrayRecord({{"w": __import__("flwr").app.Array(w)}}),
               "metrics": MetricRecord(metrics)}}
    return Message(RecordDict(content), reply_to=message)

@app.evaluate()
def evaluate(message, context):
    number = context.node_config["partition-id"]
    metrics = {{"num-examples": 1, "accuracy": number / 10, "eval_loss": 1.0}}
    return Message(RecordDict({{"metrics": MetricRecord(metrics)}}), reply_to=message)
"""

SERVER = """
import numpy as np
from flwr.app import Array, ArrayRecord, MetricRecord
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg
{imports}

app = ServerApp()

@app.main()
def main(grid, context):
    strategy = {strategy}
    strategy.start(
        grid=grid,
        initial_arrays=ArrayRecord({{"w": Array(np.zeros(3, np.float32))}}),
        num_rounds=min(context.run_config["rounds"], 2),
        evaluate_fn=lambda round, arrays: MetricRecord({{"accuracy": round / 4, "loss": 0.5}}),
    )
"""

OLD_CLIENT = """
import numpy as np
from flwr.client import NumPyClient
from flwr.clientapp import ClientApp

class Client(NumPyClient):
    def __init__(self, number):
        self.number = number
    def fit(self, parameters, config):
        return [parameters[0] + self.number], 1, {"train_loss": 0.5}
    def evaluate(self, parameters, config):
        return float(self.number), 1, {"accuracy": 1.0}

app = ClientApp(client_fn=lambda context: Client(context.node_config["partition-id"]).to_client())
"""

OLD_SERVER = """
import numpy as np
from flwr.common import ndarrays_to_parameters
from flwr.server import ServerAppComponents, ServerConfig
from flwr.server.strategy import FedAvg
from flwr.serverapp import ServerApp

def server_fn(context):
    start = ndarrays_to_parameters([np.zeros(2, np.float32)])
    strategy = FedAvg(initial_parameters=start, min_available_clients=4, min_fit_clients=4)
    return ServerAppComponents(strategy=strategy, config=ServerConfig(num_rounds=2))

app = ServerApp(server_fn=server_fn)
"""


def write(folder: Path, name: str, client: str, server: str) -> Path:
    """Write an app whose package has a name of its own: modules stay imported in this process."""
    package = folder / "app" / name
    package.mkdir(parents=True)
    (package.parent / "pyproject.toml").write_text(PROJECT.format(name=name))
    (package / "__init__.py").write_text("")
    (package / "client.py").write_text(client)
    (package / "server.py").write_text(server)
    return package.parent


def plain(folder: Path, name: str) -> Path:
    client = CLIENT.format(imports="", mods="")
    return write(folder, name, client, SERVER.format(imports="", strategy="FedAvg()"))


def sunflower(*args: Any) -> Result:
    return CliRunner().invoke(commands.main, ["run", *map(str, args)])


@pytest.fixture(autouse=True)
def _quiet(quiet_again: None) -> None: ...


def test_an_app_runs_as_it_is(tmp_path: Path, ray_cluster: Any) -> None:
    out, app = tmp_path / "run", plain(tmp_path, "plainapp")
    given = ("--app", app, "--out", out, "--clients", 4, "--workers", 2)
    result = sunflower(*given, "-c", "model.step=0.25")
    assert result.exit_code == 0, result.output
    numbers = np.arange(4)
    weights = (numbers + 1) / np.sum(numbers + 1)
    step = 0.25 * np.sum(weights * (numbers + 1))
    final = load_file(out / "model.safetensors")["w"]
    np.testing.assert_allclose(final, np.full(3, 2 * step), rtol=1e-6)
    lines = [json.loads(line) for line in (out / "rounds.jsonl").read_text().splitlines()]
    assert [line["round"] for line in lines] == [0, 1, 2]
    assert [line["server_accuracy"] for line in lines] == [0, 0.25, 0.5]
    # A client's state lasts: the second visit is its second, in whichever worker.
    assert [line["train_loss"] for line in lines] == [None, 1.0, 2.0]
    assert lines[2]["examples"] == 10 and lines[2]["clients"] == 4
    assert lines[2]["client_accuracy"] == pytest.approx(np.mean(numbers / 10))
    assert lines[1]["bytes_down"] > 8 * 3 * 4 and lines[1]["clients_lost"] == 0
    table = pd.read_parquet(out / "clients.parquet")
    assert table[table["round"] == 2]["client"].tolist() == [0, 1, 2, 3]
    replies = [json.loads(line) for line in (out / "replies.jsonl").read_text().splitlines()]
    assert len(replies) == 2 * (4 + 4)
    assert {r["metrics"]["population"] for r in replies if r["type"] == "train"} == {4.0}
    config = json.loads((out / "config.json").read_text())
    assert config["experiment"]["run_config"] == {"rounds": 2, "model.step": 0.25}
    assert analysis.load(out).table.loc["run", "clients"] == 4
    assert "round 2: 4 clients" in result.stdout


def test_mods_clip_and_a_strategy_adds_privacy(tmp_path: Path) -> None:
    """Without noise the sum is exact: every update is as long as the clipping norm says."""
    client = CLIENT.format(
        imports="from flwr.clientapp.mod import fixedclipping_mod", mods="mods=[fixedclipping_mod]"
    )
    server = SERVER.format(
        imports="from flwr.serverapp.strategy import DifferentialPrivacyClientSideFixedClipping",
        strategy="DifferentialPrivacyClientSideFixedClipping("
        "FedAvg(fraction_evaluate=0.0), noise_multiplier=0.0, clipping_norm=0.1, "
        "num_sampled_clients=4)",
    )
    out, app = tmp_path / "run", write(tmp_path, "clippingapp", client, server)
    result = sunflower("--app", app, "--out", out, "--clients", 4, "--engine", "inline")
    assert result.exit_code == 0, result.output
    final = load_file(out / "model.safetensors")["w"]
    assert np.linalg.norm(final) == pytest.approx(2 * 0.1, rel=1e-5)


def test_an_app_of_the_old_style(tmp_path: Path, ray_cluster: Any) -> None:
    """Its server asks from many threads at once."""
    out, app = tmp_path / "run", write(tmp_path, "oldapp", OLD_CLIENT, OLD_SERVER)
    result = sunflower("--app", app, "--out", out, "--clients", 4, "--workers", 2)
    assert result.exit_code == 0, result.output
    lines = [json.loads(line) for line in (out / "rounds.jsonl").read_text().splitlines()]
    assert [line["round"] for line in lines] == [1, 2]
    assert [line["clients"] for line in lines] == [4, 4]
    assert lines[1]["train_loss"] == 0.5 and lines[1]["client_accuracy"] == 1.0
    assert lines[1]["client_loss"] == pytest.approx(np.mean(np.arange(4)))


def test_a_client_that_fails_is_told(tmp_path: Path) -> None:
    out, app = tmp_path / "run", plain(tmp_path, "failingapp")
    given = ("--app", app, "--out", out, "--clients", 4, "--engine", "inline")
    result = sunflower(*given, "-c", "rounds=13")
    assert result.exit_code == endings.LOST, result.output
    lost = [json.loads(line) for line in (out / "lost.jsonl").read_text().splitlines()]
    assert [(one["round"], one["client"]) for one in lost] == [(1, 2), (2, 2)]
    assert lost[0]["reason"] == "ArithmeticError: client two cannot count"
    summary = json.loads((out / "summary.json").read_text())
    assert summary["clients_lost"] == 2 and summary["status"] == "complete"


def test_a_server_app_that_fails(tmp_path: Path) -> None:
    server = SERVER.format(imports="", strategy="1 / 0")
    out, app = tmp_path / "run", write(tmp_path, "brokenapp", CLIENT, server)
    (app / "brokenapp/client.py").write_text(CLIENT.format(imports="", mods=""))
    result = sunflower("--app", app, "--out", out, "--clients", 2, "--engine", "inline")
    assert result.exit_code == endings.FAILED
    assert result.stderr == (
        f"sunflower: the run failed: ZeroDivisionError: division by zero; see {out / 'run.log'}\n"
    )
    assert json.loads((out / "summary.json").read_text())["status"] == "failed"


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["--rounds", "3"], "rounds must be left out with --app, which decides it, got 3"),
        (["--clients", "0"], "clients must be >= 1, got 0"),
        (
            ["--engine", "flower"],
            "resources.engine must be 'ray' or 'inline' with --app, got 'flower'",
        ),
        (
            ["-c", "round=3"],
            "run_config: Key 'round' is not present in the main dictionary, got 'round=3'",
        ),
    ],
)
def test_bad_input(args: list[str], line: str, tmp_path: Path) -> None:
    result = sunflower("--app", plain(tmp_path, "app"), "--out", tmp_path / "run", *args)
    assert (result.exit_code, result.stderr) == (2, f"sunflower: {line}\n")
    assert not (tmp_path / "run").exists()


def test_what_is_no_app(tmp_path: Path) -> None:
    result = sunflower("--app", tmp_path)
    line = f"sunflower: app must be a folder with a pyproject.toml, got {str(tmp_path)!r}\n"
    assert (result.exit_code, result.stderr) == (2, line)
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\nversion = "1"\n')
    result = sunflower("--app", tmp_path)
    assert result.exit_code == 2
    assert "Missing [tool.flwr.app] section" in result.stderr and result.stderr.count("\n") == 1
