"""Apps that are interrupted go on: their server runs again, clients' replies come from disk."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.supercore.task_identity import TaskIdentity
from safetensors.numpy import load_file
from typer.testing import CliRunner

from simulation.cli import commands
from simulation.config.app import parse_app
from simulation.flower import app_replies
from simulation.flower.app_replies import Diverged, Replies
from simulation.runs.app_run import run_app
from tests.simulation.flower.test_app import write
from tests.simulation.same_bits import StopAfter

CLIENT = """
import os
import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()
trained = []

@app.train()
def train(message, context):
    number = context.node_config["partition-id"]
    trained.append(number)
    visits = context.state.config_records.get("visits", ConfigRecord({"count": 0}))
    visits["count"] += 1
    context.state["visits"] = visits
    w = message.content["arrays"]["w"].numpy()
    w = (w * 0.9 + np.random.default_rng([number, visits["count"]]).normal(size=w.shape))
    metrics = {"num-examples": number + 1, "train_mse": w.sum(), "visits": visits["count"]}
    arrays = ArrayRecord({"w": Array(w.astype(np.float32))})
    content = RecordDict({"arrays": arrays, "metrics": MetricRecord(metrics)})
    return Message(content, reply_to=message)

@app.evaluate()
def evaluate(message, context):
    number = context.node_config["partition-id"]
    metrics = {"num-examples": 1, "mae": float(number)}
    return Message(RecordDict({"metrics": MetricRecord(metrics)}), reply_to=message)
"""

SERVER = """
import os
import random
import numpy as np
from flwr.app import Array, ArrayRecord, MetricRecord
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAdam

app = ServerApp()

@app.main()
def main(grid, context):
    start = np.random.normal(size=3).astype(np.float32)
    if os.environ.get("DIVERGE"):
        start += 1
    strategy = FedAdam(fraction_train=0.5, fraction_evaluate=0.25, eta=0.1)
    strategy.start(
        grid=grid,
        initial_arrays=ArrayRecord({"w": Array(start)}),
        num_rounds=context.run_config["rounds"] + 2,
        evaluate_fn=lambda round, arrays: MetricRecord({"sum": arrays["w"].numpy().sum().item()}),
    )
"""


OLD_CLIENT = """
import numpy as np
from flwr.client import NumPyClient
from flwr.clientapp import ClientApp

trained = []

class Client(NumPyClient):
    def __init__(self, number):
        self.number = number
    def get_parameters(self, config):
        return [np.full(2, self.number, np.float32)]
    def fit(self, parameters, config):
        trained.append(self.number)
        metrics = {"mse": self.number + 0.5, "note": "fine"}
        return [parameters[0] * 0.5 + self.number], 1 + self.number, metrics
    def evaluate(self, parameters, config):
        return float(parameters[0].sum()), 2, {"mae": float(self.number)}

app = ClientApp(client_fn=lambda context: Client(context.node_config["partition-id"]).to_client())
"""

OLD_SERVER = """
import os
from flwr.server import ServerAppComponents, ServerConfig
from flwr.server.strategy import FedAvg
from flwr.serverapp import ServerApp

class Failing(FedAvg):
    def configure_fit(self, server_round, parameters, client_manager):
        if server_round == 3 and os.environ.get("FAIL"):
            raise OSError("the network is away")
        return super().configure_fit(server_round, parameters, client_manager)

def largest(metrics):
    return {"mae": max(m["mae"] for _, m in metrics)}

def server_fn(context):
    strategy = Failing(fraction_fit=0.5, evaluate_metrics_aggregation_fn=largest)
    return ServerAppComponents(strategy=strategy, config=ServerConfig(num_rounds=4))

app = ServerApp(server_fn=server_fn)
"""


@pytest.fixture(autouse=True)
def _quiet(quiet_again: None) -> None: ...


def plan(app: Path) -> Any:
    return parse_app({"app": app, "clients": 8, "resources.engine": "inline"})


def files(path: Path) -> Any:
    """What a run leaves, without times."""
    lines = [json.loads(line) for line in (path / "rounds.jsonl").read_text().splitlines()]
    replies = (path / "replies.jsonl").read_text()
    return [{**line, "seconds": 0} for line in lines], replies


def test_a_resumed_app_gives_the_bits_of_an_undisturbed_run(tmp_path: Path) -> None:
    app = write(tmp_path, "resumedapp", CLIENT, SERVER)
    with pytest.raises(KeyboardInterrupt):
        run_app(plan(app), tmp_path / "cut", StopAfter(2))
    import resumedapp.client as client  # type: ignore[import-not-found]

    assert (tmp_path / "cut/checkpoint/replies/round-000002.replies").exists()
    # The undisturbed run draws from the same seed: it, too, is a continuation, of nothing at all.
    config = json.loads((tmp_path / "cut/config.json").read_text())
    whole = tmp_path / "whole"
    (whole / "checkpoint/replies").mkdir(parents=True)
    (whole / "config.json").write_text(json.dumps(config))
    before = len(client.trained)
    wanted = run_app(plan(app), whole, resume=True)
    assert len(client.trained) - before == 4 * 4
    before = len(client.trained)
    found = run_app(plan(app), tmp_path / "cut", resume=True)
    assert found.summary["weights_sha256"] == wanted.summary["weights_sha256"]
    assert files(tmp_path / "cut") == files(whole)
    # Rounds 1 and 2 came from disk (a line is written as the next round begins).
    assert len(client.trained) - before == 2 * 4
    assert not (tmp_path / "cut/checkpoint").exists()
    # A client's state went on where it was: what it counts is how often it has trained.
    assert max(line["train_visits"] for line in found.rounds[1:]) > 1


def test_an_old_app_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = write(tmp_path, "oldresumedapp", OLD_CLIENT, OLD_SERVER)
    monkeypatch.setenv("FAIL", "1")
    out = tmp_path / "run"
    with pytest.raises(RuntimeError, match="OSError: the network is away"):
        run_app(plan(app), out)
    monkeypatch.delenv("FAIL")
    import oldresumedapp.client as client  # type: ignore[import-not-found]

    before = len(client.trained)
    result = run_app(plan(app), out, resume=True)
    assert result.summary["status"] == "complete" and result.summary["rounds"] == 4
    assert len(client.trained) - before == 2 * 4
    # The final model is that of the last round's clients: by hand, from the replies' order.
    table = [json.loads(line) for line in (out / "replies.jsonl").read_text().splitlines()]
    first = next(r["client"] for r in table if r["type"] == "get_parameters")
    model = np.full(2, first, np.float64)
    for number in range(1, 5):
        clients = [r["client"] for r in table if (r["type"], r["round"]) == ("train", number)]
        weights = np.array(clients) + 1.0
        model = model * 0.5 + np.sum(weights * clients) / weights.sum()
    np.testing.assert_allclose(load_file(out / "model.safetensors")["0"], model, rtol=1e-6)


def test_a_server_that_asks_otherwise_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, out = write(tmp_path, "divergingapp", CLIENT, SERVER), tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        run_app(plan(app), out, StopAfter(2))
    monkeypatch.setenv("DIVERGE", "1")
    with pytest.raises(Diverged, match=r"^round 1: the app asks client \d for something else"):
        run_app(plan(app), out, resume=True)
    monkeypatch.delenv("DIVERGE")
    assert run_app(plan(app), out, resume=True).summary["status"] == "complete"


def test_what_cannot_go_on(tmp_path: Path) -> None:
    app, out = write(tmp_path, "stoppedapp", CLIENT, SERVER), tmp_path / "run"

    def sunflower(*more: Any) -> Any:
        given = ("run", "--app", app, "--engine", "inline", *more)
        return CliRunner().invoke(commands.main, list(map(str, given)))

    def line(*more: Any) -> str:
        result = sunflower("--resume", *more)
        assert result.exit_code == 2, result.output
        return str(result.stderr.removeprefix("sunflower: ").removesuffix("\n"))

    assert line() == "--resume must come with --out, the run folder to go on in"
    assert line("--out", out) == f"resume: {out} holds no run of an app"
    assert sunflower("--out", out, "--clients", 8, "-c", "rounds=0").exit_code == 0
    assert line("--out", out) == f"resume: {out} is complete already"
    assert line("--out", out, "--clients", 9) == (
        f"resume: {out} is a run of something else: clients was 8, is 9"
    )
    summary = json.loads((out / "summary.json").read_text())
    (out / "summary.json").write_text(json.dumps({**summary, "status": "failed"}))
    assert line("--out", out) == f"resume: {out} keeps no replies of its clients to go on from"


CONTENT = {
    "arrays": ArrayRecord({"w": Array(np.arange(3.0))}),
    "config": ConfigRecord({"lr": 0.1, "name": "x", "flag": True, "many": [1, 2], "raw": b"ab"}),
    "metrics": MetricRecord({"loss": 0.5, "counts": [1, 2]}),
}


def message(client: int, round: int = 1, **more: Any) -> Message:
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1
    made = Message(RecordDict({**CONTENT, **more}), client, "train", group_id=str(round))
    made.metadata.__dict__["_message_id"] = f"m{client}"
    return made


def keep(replies: Replies, round: int, client: int) -> Message:
    asked = message(client, round)
    reply = Message(RecordDict(CONTENT), reply_to=asked)
    replies.add(round, asked, replies.digest(asked.content), reply, None)
    return asked


def test_replies_come_back_as_they_were(tmp_path: Path) -> None:
    first = Replies(tmp_path)
    asked, state = message(3), RecordDict({"mine": ConfigRecord({"count": 2})})
    digest = first.digest(asked.content)
    first.add(1, asked, digest, Message(RecordDict(CONTENT), reply_to=asked), state)
    failed = message(4)
    first.add(1, failed, digest, Message(Error(4, "lost\nit"), reply_to=failed), None)
    first.close()
    again = Replies(tmp_path)
    assert again.left == 2
    kept = again.again(1, asked, again.digest(message(3).content))
    assert kept is not None
    reply, found = kept.read(asked)
    assert reply.content == RecordDict(CONTENT) and found == state
    assert reply.metadata.reply_to_message_id == "m3" and reply.metadata.src_node_id == 3
    kept = again.again(1, failed, digest)
    assert kept is not None and kept.read(failed)[0].error.reason == "lost\nit"
    assert again.left == 0 and again.again(1, asked, digest) is None


def test_every_part_of_a_message_counts(tmp_path: Path) -> None:
    replies = Replies(tmp_path)
    changed = [
        {"arrays": ArrayRecord({"w": Array(np.arange(3.0) + 1e-9)})},
        {"arrays": ArrayRecord({"v": Array(np.arange(3.0))})},
        {"arrays": ArrayRecord({"w": Array(np.arange(3.0).reshape(1, 3))})},
        {"config": ConfigRecord({**CONTENT["config"], "lr": 0.2})},
        {"more": MetricRecord({"loss": 0.5})},
    ]
    digests = {replies.digest(message(0, **more).content) for more in [{}, *changed]}
    assert len(digests) == 1 + len(changed)


def test_a_reply_that_is_half_written_is_asked_for_again(tmp_path: Path) -> None:
    replies = Replies(tmp_path)
    for client in range(3):
        keep(replies, 1, client)
    replies.close()
    file = tmp_path / "round-000001.replies"
    file.write_bytes(file.read_bytes()[:-5])
    assert Replies(tmp_path).left == 2
    assert len(list(app_replies.read_file(file))) == 2


def test_what_was_left_out_is_told(tmp_path: Path) -> None:
    replies = Replies(tmp_path)
    keep(replies, 1, 0)
    keep(replies, 2, 1)
    replies.close()
    again = Replies(tmp_path)
    other = message(5, 2)
    with pytest.raises(Diverged, match=r"^round 2: the app asks client 5 for something else"):
        again.again(2, other, again.digest(other.content))


@pytest.mark.parametrize("reason", ["they need too much disk space", "No space left on device"])
def test_replies_are_kept_as_long_as_there_is_room(
    reason: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    replies = Replies(tmp_path)
    keep(replies, 1, 0)
    keep(replies, 2, 0)

    def full(round: int) -> Any:
        raise OSError(28, reason)

    if reason.startswith("they"):
        replies.room = 10
    else:
        monkeypatch.setattr(replies, "_open", full)
    with caplog.at_level(logging.WARNING, "sunflower"):
        keep(replies, 3, 0)
        keep(replies, 4, 0)
    assert [r.getMessage() for r in caplog.records] == [
        f"replies are kept no longer ({reason}): --resume goes on after round 2"
    ]
    assert Replies(tmp_path).left == 2
