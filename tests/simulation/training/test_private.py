"""What is used of Flower and Ray beyond their public interfaces is there and means what it did.

That of Keras has a file of its own (``test_private_keras.py``), and so has what is said where a
name is gone (``test_private_gone.py``).
"""

from __future__ import annotations

import inspect
import mmap
import pickle
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.common import ndarrays_to_parameters
from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.server import Server, workflow
from flwr.serverapp.strategy import FedAvg
from flwr.supercore import log
from flwr.supercore.task_identity import TaskIdentity
from ray._private import node, ray_constants, services, utils, worker

from simulation.engines.ray import private as of_ray
from simulation.flower import private as of_flower
from tests.simulation.contracts import contract

flower, on_ray = partial(contract, of_flower), partial(contract, of_ray)

NODE = "start_log_monitor, start_monitor or start_api_server of ray._private.node.Node"

PROJECT = """
[project]
name = "mine"
version = "1.0.0"
description = ""
license = "Apache-2.0"
dependencies = []

[tool.flwr.app]
publisher = "me"

[tool.flwr.app.components]
serverapp = "{module}:app"
clientapp = "{module}:app"

[tool.flwr.app.config]
rounds = 3
model.name = "cnn"
"""


@pytest.fixture
def identity(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process's identity, and our own back after the test."""
    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 7)


@pytest.fixture
def message(identity: None) -> Message:
    return Message(RecordDict(), 3, "train")


@flower("SERVER_NODE", "SUPERLINK_NODE_ID")
def test_the_server_has_its_number() -> None:
    assert of_flower.SERVER_NODE == SUPERLINK_NODE_ID


@flower("set_identity", "flwr.supercore.task_identity.TaskIdentity")
def test_messages_are_stamped_with_the_run(identity: None) -> None:
    of_flower.set_identity(5)
    stamped = Message(RecordDict(), 3, "train").metadata
    assert (stamped.run_id, stamped.src_node_id, stamped.src_task_id) == (5, 1, 1)


@flower("set_message_id", "Metadata._message_id")
def test_a_message_gets_an_id(message: Message) -> None:
    of_flower.set_message_id(message, "m1")
    assert message.metadata.message_id == "m1"
    assert Message(RecordDict(), reply_to=message).metadata.reply_to_message_id == "m1"


@flower("set_source", "Metadata._src_node_id")
def test_a_message_gets_a_source(message: Message) -> None:
    of_flower.set_source(message, 12)
    assert message.metadata.src_node_id == 12


@flower("new_run", "flwr.supercore.run.Run.create_empty")
def test_a_run_of_which_only_the_number_is_known() -> None:
    assert of_flower.new_run(5).run_id == 5


@flower("app_loader", "flwr.supercore.object_ref.load_app")
def test_an_app_is_imported_from_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "contract_app.py").write_text("app = 5\n")
    assert of_flower.app_loader()("contract_app:app", KeyError, tmp_path) == 5
    with pytest.raises(KeyError, match="other"):
        of_flower.app_loader()("contract_app:other", KeyError, tmp_path)


@flower("load_errors", "LoadClientAppError and LoadServerAppError")
def test_the_errors_of_apps_that_cannot_be_imported() -> None:
    names = [kind.__name__ for kind in of_flower.load_errors()]
    assert names == ["LoadClientAppError", "LoadServerAppError"]
    assert all(issubclass(kind, Exception) for kind in of_flower.load_errors())


@flower("project_reader", "flwr.cli.config_utils.load_and_validate")
def test_a_project_is_read_and_checked(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("app = 5\n")
    file = tmp_path / "pyproject.toml"
    file.write_text(PROJECT.format(module="mine"))
    config, _ = of_flower.project_reader()(file)
    parts = config["tool"]["flwr"]["app"]["components"]
    assert parts == {"serverapp": "mine:app", "clientapp": "mine:app"}
    file.write_text(PROJECT.format(module="not_mine"))
    with pytest.raises(ValueError, match="not_mine"):
        of_flower.project_reader()(file)


@flower("run_config_readers", "parse_config_args and get_fused_config_from_dir")
def test_a_run_configuration_is_put_over_the_apps_own(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(PROJECT.format(module="mine"))
    parse, fuse = of_flower.run_config_readers()
    given = parse(['rounds=5 model.name="mlp"'])
    assert given == {"rounds": 5, "model.name": "mlp"}
    assert fuse(tmp_path, {"rounds": 5}) == {"rounds": 5, "model.name": "cnn"}
    with pytest.raises(ValueError, match="other"):
        fuse(tmp_path, {"other": 5})


@flower("wire_format", "flwr.common.serde")
def test_records_go_to_the_wire_and_back() -> None:
    to_wire, from_wire, kind = of_flower.wire_format()
    record = RecordDict(
        {
            "arrays": ArrayRecord({"w": Array(np.arange(3, dtype=np.float16))}),
            "config": ConfigRecord({"text": "a", "data": b"\0", "flags": [True, False]}),
            "metrics": MetricRecord({"loss": 0.5, "many": [1, 2]}),
        }
    )
    wire = kind()
    wire.ParseFromString(to_wire(record).SerializeToString())
    back = from_wire(wire)
    assert back == record and list(back) == list(record)


@flower("asking_functions", "fit_clients and evaluate_clients of flwr.server.server")
def test_the_old_server_finds_its_functions_in_its_module() -> None:
    module, names = of_flower.asking_functions()
    assert names == ("fit_clients", "evaluate_clients")
    called = Server.fit_round.__code__.co_names, Server.evaluate_round.__code__.co_names
    assert inspect.getmodule(Server) is module
    for name, used in zip(names, called, strict=True):
        assert name in used and getattr(module, name)([], None, None, 1) == ([], [])


@flower("arrays_of_parameters", "parameters_to_arrayrecord")
def test_parameters_become_arrays() -> None:
    arrays = of_flower.arrays_of_parameters(ndarrays_to_parameters([np.arange(2), np.ones(3)]))
    assert [a.numpy().tolist() for a in arrays.values()] == [[0, 1], [1.0, 1.0, 1.0]]


@flower("name_of_model", "flwr.server.workflow.constant.MAIN_PARAMS_RECORD")
def test_the_old_workflow_keeps_its_model_under_that_name() -> None:
    module = sys.modules[workflow.DefaultWorkflow.__module__]
    assert of_flower.name_of_model() == module.MAIN_PARAMS_RECORD
    assert "MAIN_PARAMS_RECORD" in module.default_fit_workflow.__code__.co_names


@flower("mean_of_metrics", "flwr.serverapp.strategy.strategy_utils.aggregate_metricrecords")
def test_strategies_average_metrics_by_that_function() -> None:
    mean, strategy = of_flower.mean_of_metrics(), FedAvg()
    assert strategy.train_metrics_aggr_fn is mean
    assert strategy.evaluate_metrics_aggr_fn is mean
    records = [
        RecordDict({"metrics": MetricRecord({"num-examples": n, "loss": loss})})
        for n, loss in ((1, 1.0), (3, 2.0))
    ]
    assert mean(records, "num-examples")["loss"] == 1.75


@flower("checking_method", "FedAvg._check_and_log_replies")
def test_strategies_choose_replies_by_that_method() -> None:
    name = of_flower.checking_method()
    assert name in FedAvg.aggregate_train.__code__.co_names
    assert name in FedAvg.aggregate_evaluate.__code__.co_names


@flower("logger", "flwr.supercore.logger.FLOWER_LOGGER and flwr.supercore.log")
def test_the_logger() -> None:
    assert of_flower.logger().name == "flwr"
    assert of_flower.logger().log == log  # strategies/federated.py uses it too


@on_ray("loopback LOOPBACK cluster_constants", "ray._private.ray_constants.ENABLE_RAY_CLUSTER")
def test_ray_leaves_the_loopback_address_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "_global_node", None)
    before = of_ray.cluster_constants().ENABLE_RAY_CLUSTER
    with of_ray.loopback():
        assert services.resolve_ip_for_localhost(of_ray.LOOPBACK) == of_ray.LOOPBACK
    assert before == ray_constants.ENABLE_RAY_CLUSTER


@on_ray("CLUSTERS", "ray._private.ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR")
def test_the_variable_of_that_switch() -> None:
    assert of_ray.CLUSTERS == ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR


@on_ray("AT_LOOPBACK", "the argument _node_ip_address of ray.init")
def test_ray_takes_the_address_of_a_node() -> None:
    (name,) = of_ray.AT_LOOPBACK
    assert f'pop("{name}"' in inspect.getsource(ray.init)


@on_ray("SPARE starters", NODE)
def test_ray_starts_processes_by_these_methods() -> None:
    kind, kept = of_ray.starters()
    assert kind is node.Node and list(kept) == list(of_ray.SPARE)
    head = inspect.getsource(kind.start_head_processes)
    both = head + inspect.getsource(kind.start_ray_processes)
    assert all(f"self.{name}(" in both for name in of_ray.SPARE)


@on_ray("lean", NODE)
def test_ray_starts_less_meanwhile() -> None:
    _, kept = of_ray.starters()
    with of_ray.lean():
        assert all(getattr(node.Node, name)(None, any=1) is None for name in kept)
    assert all(vars(node.Node)[name] is method for name, method in kept.items())


def test_a_ray_that_starts_otherwise_starts_whole_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delattr(node.Node, "start_monitor")
    with of_ray.lean():
        assert "start_log_monitor" in inspect.getsource(node.Node.start_log_monitor)
    assert "no longer has start_log_monitor, start_monitor" in caplog.text
    assert "Ray starts these too" in caplog.text


@on_ray("LATE", "an error's text in ray._private.node")
def test_the_text_of_a_late_start() -> None:
    assert of_ray.LATE in inspect.getsource(node)


@on_ray("OTHER_VERSION", "an error's text in ray._private.utils")
def test_the_text_of_another_version() -> None:
    assert of_ray.OTHER_VERSION in inspect.getsource(utils.check_version_info)


@on_ray("LOW_MEMORY", "a text of Ray's raylet")
def test_the_text_of_low_memory() -> None:
    with open(services.RAYLET_EXECUTABLE, "rb") as file:
        whole = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        assert whole.find(of_ray.LOW_MEMORY.encode()) >= 0


@on_ray("pickled", "ray.cloudpickle")
def test_a_function_goes_by_value() -> None:
    names: dict[str, Any] = {"__name__": "__main__"}
    exec("scale = 3\ndef grow(x): return x * scale", names)
    data = of_ray.pickled(names["grow"])
    names["scale"] = 5
    assert pickle.loads(data)(2) == 6
