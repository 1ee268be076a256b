"""The Flower app that this repository is: on a grid of our own here, on Flower's in the soak."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.cli.build import build_fab_from_disk
from flwr.cli.config_utils import load_and_validate
from flwr.common.config import flatten_dict
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

from simulation.config.errors import ConfigError
from simulation.config.experiment import parse
from simulation.flower import client_component
from simulation.flower.executor import experiment_of
from simulation.flower.nodes import NumberedGrid
from simulation.flower.runtime import FlowerRuntime
from simulation.records import checkpoint
from simulation.runs import flower_server
from simulation.runs.run import simulate
from simulation.version import __version__

ROOT = Path(__file__).parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
CONFIG = flatten_dict(PROJECT["tool"]["flwr"]["app"]["config"])
RUN = 77
NODES_GIVEN = ("--federation-config", "num-supernodes=4 client-resources-num-cpus=1")


class Nodes(Grid):
    """Nodes with ids of no order, that run our ClientApp in this process."""

    def __init__(self, ids: list[int], config: dict[str, Any], late: int = 0) -> None:
        self.ids, self.config, self.late = ids, config, late
        self.numbers = {node: place for place, node in enumerate(ids)}
        self.states = {node: RecordDict() for node in ids}
        self.asked: list[str] = []

    def get_node_ids(self) -> Iterable[int]:
        self.late -= 1
        return self.ids[: None if self.late < 0 else 1]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        replies = []
        for message in messages:
            node = message.metadata.dst_node_id
            assert message.metadata.run_id == RUN
            self.asked.append(message.metadata.message_type)
            numbers = {"partition-id": self.numbers[node], "num-partitions": len(self.ids)}
            context = Context(RUN, node, numbers, self.states[node], self.config)
            replies.append(client_component.app(message, context))
        return replies[::-1]  # Replies come in no order.

    def set_run(self, run: Any) -> None: ...
    def create_message(self, *args: Any, **more: Any) -> Any: ...
    def push_messages(self, messages: Any) -> Any: ...
    def pull_messages(self, message_ids: Any) -> Any: ...

    @property
    def run(self) -> Any:
        return None


@pytest.fixture
def identity() -> None:
    """Flower has said who this process is before it calls a ServerApp."""
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 5, RUN, 1


def config(**changes: Any) -> dict[str, Any]:
    return {**CONFIG, "model": "mlp", "rounds": 2, "partition.alpha": 0.5, **changes}


def test_the_server_app_gives_the_weights_of_a_run(tmp_path: Path, identity: None) -> None:
    """With a part of the clients in each round: the same ones must be asked."""
    given = config(set="cohort=3", out=str(tmp_path / "theirs"))
    nodes = Nodes([900, 17, 333, 52, 4], given, late=2)
    context = Context(RUN, 1, {}, RecordDict(), given)
    flower_server.app(nodes, context)
    assert TaskIdentity.run_id == RUN
    kinds = [kind.partition(".")[0] for kind in nodes.asked]
    assert [kinds.count(k) for k in ("query", "train", "evaluate")] == [5, 6, 10]
    ours = simulate(
        parse(
            {
                "dataset": "fashion-mnist-mini",
                "model": "mlp",
                "clients": 5,
                "cohort": 3,
                "rounds": 2,
                "partition": {"alpha": 0.5},
                "resources": {"engine": "inline"},
            }
        ),
        out=tmp_path / "ours",
    )
    theirs = checkpoint.latest(tmp_path / "theirs/checkpoint")
    assert theirs is not None
    np.testing.assert_allclose(theirs.position.model, ours.weights, atol=1e-6)


def test_the_run_configuration_is_an_experiment() -> None:
    plain = experiment_of(CONFIG, 4)
    assert (plain.clients, plain.resources.engine, plain.partition.kind) == (4, "flower", "iid")
    given = config(strategy="fedprox", set="strategy.mu=0.5 'name=two words'")
    found = experiment_of(given, 3)
    assert found.strategy.options == {"mu": 0.5}
    assert found.name == "two words" and found.partition.alpha == 0.5
    with pytest.raises(ConfigError, match=r"^rounds must be >= 1, got 0$"):
        experiment_of(config(rounds=0), 3)
    with pytest.raises(ConfigError, match=r"^set must be key=value with spaces .*, got 'mu'$"):
        experiment_of(config(set="mu"), 3)


def numbers(partition: int, population: int) -> RecordDict:
    metrics = {"partition-id": partition, "num-partitions": population}
    return RecordDict({"metrics": MetricRecord(metrics)})


@pytest.mark.parametrize(
    ("answers", "text"),
    [
        ([(0, 2), (0, 2)], r"another one on every node, got \[0, 0\]"),
        ([(0, 2), (2, 2)], r"in \[0, num-partitions\).*, got 2 of 2 on node 11"),
        ([(0, 2), (1, 3)], r"the same on every node, got 1 of 3 on node 11"),
    ],
)
def test_nodes_that_do_not_fit_together(
    answers: list[tuple[int, int]], text: str, identity: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = Nodes([10, 11], {})

    def reply(messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        asked = sorted(messages, key=lambda m: m.metadata.dst_node_id)
        pairs = zip(asked, answers, strict=True)
        return [Message(numbers(*found), reply_to=m) for m, found in pairs]

    monkeypatch.setattr(nodes, "send_and_receive", reply)
    with pytest.raises(RuntimeError, match=text):
        NumberedGrid(nodes).wait()


def test_a_lent_grid_starts_no_runtime(identity: None) -> None:
    grid = FlowerRuntime(parse({"clients": 2}), lent=NumberedGrid(Nodes([8, 3], {})))
    assert list(grid.grid.get_node_ids()) == [0, 1]
    grid.close()


@pytest.mark.parametrize("folder", [ROOT, ROOT / "examples/deployment"])
def test_the_bundle_is_small_and_valid(folder: Path) -> None:
    _, warnings = load_and_validate(folder / "pyproject.toml")
    assert not warnings
    bundle = build_fab_from_disk(folder)
    assert len(bundle) < 100_000
    names = zipfile.ZipFile(io.BytesIO(bundle)).namelist()
    assert not [n for n in names if n.startswith(("simulation", "strategies", "tests"))]


def test_the_version_is_one() -> None:
    assert PROJECT["project"]["version"] == __version__


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_flwr_run_gives_the_weights_of_sunflower_run(tmp_path: Path) -> None:
    from examples.deployment.__main__ import (
        environment,
        free_ports,
        process,
        program,
        wait_for,
    )

    (port,) = free_ports(1)
    (tmp_path / "config.toml").write_text(
        f'[superlink]\ndefault = "here"\n[superlink.here]\naddress = "127.0.0.1:{port}"\n'
        "insecure = true\n"
    )
    env = environment(tmp_path)
    link = (program("flower-superlink"), "--insecure", "--simulation")
    log = tmp_path / "superlink.log"
    given = f'model="mlp" out="{tmp_path / "theirs"}"'
    with process(log, *link, "--host", "127.0.0.1", "--port", str(port), env=env) as superlink:
        wait_for(port, superlink, log)
        ran = subprocess.run(
            [program("flwr"), "run", ".", "--stream", "--run-config", given, *NODES_GIVEN],
            cwd=ROOT,
            env=env,
            capture_output=True,
            text=True,
        )
    assert ran.returncode == 0, ran.stderr
    assert "sunflower: round 3: accuracy" in ran.stdout, ran.stdout[-3000:]
    ours = [sys.executable, "-m", "simulation.cli", "run", "--out", str(tmp_path / "ours")]
    ours += ["--dataset", "fashion-mnist-mini", "--model", "mlp", "--clients", "4", "--rounds", "3"]
    subprocess.run(ours, cwd=ROOT, check=True, capture_output=True)
    weights = []
    for name in ("theirs", "ours"):
        found = checkpoint.latest(tmp_path / name / "checkpoint")
        assert found is not None
        weights.append(found.position.model)
    np.testing.assert_allclose(*weights, atol=1e-6)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_a_deployment_trains_between_processes(tmp_path: Path) -> None:
    out = tmp_path / "run"
    ran = subprocess.run(
        [sys.executable, "-m", "examples.deployment", str(out)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    recorded = json.loads((out / "config.json").read_text())["experiment"]
    recorded["resources"]["engine"] = "inline"
    ours = simulate(parse(recorded), out=tmp_path / "ours")
    theirs = checkpoint.latest(out / "checkpoint")
    assert theirs is not None and theirs.position.round == 2
    np.testing.assert_allclose(theirs.position.model, ours.weights, atol=1e-6)
