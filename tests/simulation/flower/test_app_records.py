"""What a Flower app leaves: metrics of any name, final arrays; one line where it cannot go on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

from simulation.config.app import parse_app
from simulation.flower import app as app_grid
from simulation.flower.app_hooks import AppError
from simulation.flower.recorder import in_line, named
from simulation.runs.app_run import run_app
from tests.simulation.flower.test_app import write

CLIENT = """
import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()

@app.train()
def train(message, context):
    number = context.node_config["partition-id"]
    size = context.run_config["rounds"] * number
    w = message.content["arrays"]["w"].numpy() + number
    metrics = {"num-examples": size, "train_loss": 1.0, "mse": float(number), "weird": [1.0, 2.0]}
    arrays = ArrayRecord({"w": Array(w)})
    content = RecordDict({"arrays": arrays, "metrics": MetricRecord(metrics)})
    return Message(content, reply_to=message)

@app.evaluate()
def evaluate(message, context):
    number = context.node_config["partition-id"]
    metrics = {"num-examples": 2, "eval_acc": number / 10, "mae": float(number), "client_f1": 0.5}
    return Message(RecordDict({"metrics": MetricRecord(metrics)}), reply_to=message)
"""

SERVER = """
import time
import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg

app = ServerApp()
start = ArrayRecord({{"w": Array(np.zeros(3, np.float32))}})

{own}

@app.main()
def main(grid, context):
    {main}
"""

LARGEST = """
def largest(replies, key):
    values = [r.metric_records["metrics"]["mae"] for r in replies]
    return MetricRecord({"mae": max(values), "spread": max(values) - min(values)})
"""

OWN_START = """
class Own(FedAvg):
    def start(self, grid, arrays):
        print("mine")
        return super().start(grid, arrays, num_rounds=1, evaluate_fn=measure)

def measure(round, arrays):
    return MetricRecord({"auc": 0.5 + round, "loss": 2.0})
"""

OLD_CLIENT = """
import numpy as np
from flwr.client import NumPyClient
from flwr.clientapp import ClientApp

class Client(NumPyClient):
    def __init__(self, number, rounds):
        self.number, self.size = number, number * rounds
    def fit(self, parameters, config):
        metrics = {"mse": self.number + 0.5, "note": "fine", "ready": True}
        return [parameters[0] + self.number], self.size, metrics
    def evaluate(self, parameters, config):
        return float(self.number), 2, {"mae": float(self.number)}

def make(context):
    return Client(context.node_config["partition-id"], context.run_config["rounds"]).to_client()

app = ClientApp(client_fn=make)
"""

OLD_SERVER = """
import numpy as np
from flwr.common import ndarrays_to_parameters
from flwr.server import LegacyContext, ServerAppComponents, ServerConfig
from flwr.server.strategy import FedAvg
from flwr.server.workflow import DefaultWorkflow
from flwr.serverapp import ServerApp

def largest(metrics):
    return {"mae": max(m["mae"] for _, m in metrics)}

def measure(round, arrays, config):
    return 3.0, {"auc": 0.5 + round}

def strategy():
    start = ndarrays_to_parameters([np.zeros(2, np.float32)])
    return FedAvg(initial_parameters=start, evaluate_metrics_aggregation_fn=largest,
                  evaluate_fn=measure, %s)

def server_fn(context):
    return ServerAppComponents(strategy=strategy(), config=ServerConfig(num_rounds=1))
"""

COMPONENTS = "\napp = ServerApp(server_fn=server_fn)\n"
WORKFLOW = """
app = ServerApp()

@app.main()
def main(grid, context):
    config = ServerConfig(num_rounds=1)
    DefaultWorkflow()(grid, LegacyContext(context=context, config=config, strategy=strategy()))
"""
NUMBERS = np.arange(4)


@pytest.fixture(autouse=True)
def _quiet(quiet_again: None) -> None: ...


def run(app: Path, out: Path, *run_config: str) -> Any:
    given = {"app": app, "clients": 4, "resources.engine": "inline", "run_config": run_config}
    return run_app(parse_app(given), out)


def new(folder: Path, name: str, main: str, own: str = "") -> Path:
    return write(folder, name, CLIENT, SERVER.format(own=own, main=main))


def test_metrics_of_any_name(tmp_path: Path) -> None:
    main = "FedAvg(evaluate_metrics_aggr_fn=largest).start(grid, start, num_rounds=1)"
    result = run(new(tmp_path, "namedapp", main, LARGEST), tmp_path / "run")
    (line,) = result.rounds
    weights = NUMBERS / NUMBERS.sum()
    assert line["train_mse"] == pytest.approx(np.sum(weights * NUMBERS))
    assert line["train_loss"] == 1.0 and line["client_accuracy"] == pytest.approx(0.15)
    # What the strategy made of them is recorded; else their mean.
    assert line["client_mae"] == 3.0 and line["client_spread"] == 3.0
    assert line["client_f1"] == 0.5 and line["clients_evaluated"] == 4
    assert not [key for key in line if "weird" in key or ("examples" in key and key != "examples")]
    table = pd.read_parquet(tmp_path / "run/clients.parquet")
    assert table["mae"].tolist() == table["train_mse"].tolist() == [0.0, 1.0, 2.0, 3.0]


def test_an_own_start_is_heard(tmp_path: Path) -> None:
    result = run(
        new(tmp_path, "ownstartapp", "Own().start(grid, start)", OWN_START), tmp_path / "r"
    )
    assert [line["server_auc"] for line in result.rounds] == [0.5, 1.5]
    assert [line["server_loss"] for line in result.rounds] == [2.0, 2.0]
    mean = np.sum(NUMBERS * NUMBERS) / NUMBERS.sum()
    np.testing.assert_allclose(load_file(tmp_path / "r/model.safetensors")["w"], mean, rtol=1e-6)


@pytest.mark.parametrize("form", ["components", "workflow"])
def test_apps_of_the_old_style(form: str, tmp_path: Path) -> None:
    server = OLD_SERVER % "fraction_fit=1.0" + (COMPONENTS if form == "components" else WORKFLOW)
    result = run(write(tmp_path, f"old{form}", OLD_CLIENT, server), tmp_path / "run")
    assert [line["round"] for line in result.rounds] == [0, 1]
    assert [line["server_auc"] for line in result.rounds] == [0.5, 1.5]
    line = result.rounds[1]
    weights = NUMBERS / NUMBERS.sum()
    assert line["train_mse"] == pytest.approx(np.sum(weights * (NUMBERS + 0.5)))
    assert line["client_mae"] == 3.0 and line["client_loss"] == pytest.approx(1.5)
    assert not [key for key in line if "note" in key or "ready" in key]
    final = load_file(tmp_path / "run/model.safetensors")["0"]
    np.testing.assert_allclose(final, np.sum(weights * NUMBERS), rtol=1e-6)
    assert result.summary["parameters"] == 2 and result.summary["weights_sha256"]


LOOP = """for pause in (0, 1):
        for _ in range(2):
            record = RecordDict({"arrays": start})
            sent = [Message(record, node, "train") for node in grid.get_node_ids()]
            replies = list(grid.send_and_receive(sent))
        grid.send_and_receive([Message(RecordDict({"arrays": start}), 0, "evaluate")])
"""


def test_rounds_of_a_loop_that_numbers_nothing(tmp_path: Path) -> None:
    result = run(new(tmp_path, "loopapp", LOOP), tmp_path / "run")
    assert [(r["round"], r["clients"], r["clients_evaluated"]) for r in result.rounds] == [
        (1, 4, None),
        (2, 4, 1),
        (3, 4, None),
        (4, 4, 1),
    ]


@pytest.mark.parametrize("style", ["new", "old"])
def test_weights_of_zero_name_the_round(style: str, tmp_path: Path) -> None:
    if style == "new":
        app = new(tmp_path, "zeroapp", "FedAvg().start(grid, start, num_rounds=1)")
    else:
        server = OLD_SERVER % "fraction_fit=1.0" + COMPONENTS
        app = write(tmp_path, "oldzeroapp", OLD_CLIENT, server)
    with pytest.raises(AppError) as caught:
        run(app, tmp_path / "run", "rounds=0")
    text = "round 1: all weights are 0, as none of its 4 clients has examples"
    assert str(caught.value) == text
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert summary["status"] == "failed"


WAIT = """while len(list(grid.get_node_ids())) < 9:
        time.sleep(0.01)
"""


LOOKED = "clients must be as many as the app waits for, which has looked for more 4 times, got 4"


@pytest.mark.parametrize(
    ("main", "text"),
    [
        (
            "FedAvg(min_available_nodes=5).start(grid, start)",
            "min_available_nodes of FedAvg must be at most clients (4), got 5",
        ),
        (
            "FedAvg(min_train_nodes=9).configure_train(1, start, ConfigRecord(), grid)",
            LOOKED,
        ),
        (
            WAIT,
            LOOKED,
        ),
        (
            "min_available_clients=5",
            "min_available_clients of FedAvg must be at most clients (4), got 5",
        ),
    ],
    ids=["start", "configure", "loop", "old"],
)
def test_a_wait_for_ever_ends(
    main: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:  # fmt: skip
    monkeypatch.setattr(app_grid, "LOOKS", 4)
    monkeypatch.setattr(app_grid, "LOOKS_PATIENCE", 0.0)
    name = "waits" + request.node.callspec.id
    if name == "waitsold":
        app = write(tmp_path, name, OLD_CLIENT, OLD_SERVER % main + COMPONENTS)
    else:
        app = new(tmp_path, name, main)
    with pytest.raises(AppError) as caught:
        run(app, tmp_path / "run")
    assert str(caught.value) == text


def test_names_of_metrics() -> None:
    train = {"loss": 1.0, "train_mse": 2.0, "f1": 3.0, "num-examples": 4, "cid": 5, "client": 6.0}
    assert named("train", train) == {
        "train_loss": 1.0,
        "train_mse": 2.0,
        "train_f1": 3.0,
        "train_client": 6.0,
    }
    evaluate = {"eval_loss": 1.0, "loss": 2.0, "examples": 3.0, "client_mae": 4.0}
    columns = named("evaluate", evaluate)
    assert columns == {"loss": 1.0, "metric_examples": 3.0, "client_mae": 4.0}
    lines = [in_line("evaluate", column) for column in columns]
    assert lines == ["client_loss", "client_metric_examples", "client_mae"]
    assert named("server", {"accuracy": 1.0, "auc": 2.0, "server_f1": 3.0}) == {
        "server_accuracy": 1.0,
        "server_auc": 2.0,
        "server_f1": 3.0,
    }
