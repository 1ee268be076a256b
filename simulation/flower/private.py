"""What is used of Flower beyond its public interface, each with the reason.

Public are ``flwr.app``, ``flwr.clientapp``, ``flwr.serverapp`` and ``flwr.simulation``, and for
apps of the old style ``flwr.server``. To be a Flower runtime for messages, strategies and apps
takes more than they offer. Seen in Flower 1.41.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from flwr.app import ArrayRecord, Message, RecordDict

from simulation.config.libraries import Library

if TYPE_CHECKING:
    from flwr.supercore.run import Run as Run

FLOWER = Library("Flower", "flwr", "1.41")

SERVER_NODE = 1
"""Flower's node id of the server (its ``SUPERLINK_NODE_ID``)."""


@FLOWER.uses("flwr.supercore.task_identity.TaskIdentity", "to make messages of a run")
def set_identity(run: int) -> None:
    """Say who this process is: Flower stamps it on every message that is made here.

    Flower's runtimes say it as they start a process, and there is no other way to make a message.

    Args:
        run: the number of the run that messages belong to.
    """
    from flwr.supercore.task_identity import TaskIdentity

    known = vars(type(TaskIdentity))
    for name, value in {"task_id": 1, "run_id": run, "node_id": SERVER_NODE}.items():
        if name not in known:
            raise AttributeError(f"TaskIdentity has no {name!r}")
        setattr(TaskIdentity, name, value)


@FLOWER.uses("Metadata._message_id", "to tell which message a reply answers")
def set_message_id(message: Message, name: str) -> None:
    """Give a message its id, which Flower's own grids do where they store it.

    The public ``message_id`` cannot be set.
    """
    _set(message, "_message_id", name)


@FLOWER.uses("Metadata._src_node_id", "to call clients by their numbers")
def set_source(message: Message, node: int) -> None:
    """Say which node a message comes from: clients go by their numbers, not by Flower's ids.

    The public ``src_node_id`` cannot be set.
    """
    _set(message, "_src_node_id", node)


def _set(message: Message, name: str, value: Any) -> None:
    kept = message.metadata.__dict__
    if name not in kept:
        raise AttributeError(f"a message's metadata keep no {name!r}")
    kept[name] = value


@FLOWER.uses("flwr.supercore.run.Run.create_empty", "to be a Grid")
def new_run(number: int) -> Run:
    """Return a run of which nothing is known but its number.

    The public ``Grid`` has one as its property ``run``; the class is not public.
    """
    from flwr.supercore.run import Run

    return Run.create_empty(number)


@FLOWER.uses("flwr.supercore.object_ref.load_app", "to import a Flower app's components")
def app_loader() -> Callable[[str, type[Exception], str | Path], Any]:
    """Return what finds ``module:name`` in an app's folder, as Flower's runtimes do.

    Its errors are those that users know; no public function imports by a reference.
    """
    from flwr.supercore.object_ref import load_app

    return load_app


@FLOWER.uses(
    "LoadClientAppError and LoadServerAppError", "to say that an app's component cannot be imported"
)
def load_errors() -> tuple[type[Exception], type[Exception]]:
    """Return Flower's errors for a ClientApp and a ServerApp that cannot be imported.

    Users know them from Flower's runtimes; only the modules inside export them.
    """
    from flwr.clientapp.client_app import LoadClientAppError
    from flwr.serverapp.server_app import LoadServerAppError

    return LoadClientAppError, LoadServerAppError


@FLOWER.uses("flwr.cli.config_utils.load_and_validate", "to read a Flower app's pyproject.toml")
def project_reader() -> Callable[[Path], tuple[dict[str, Any], list[str]]]:
    """Return what reads and checks an app's ``pyproject.toml`` as ``flwr run`` does.

    Nothing public does.
    """
    from flwr.cli.config_utils import load_and_validate

    return load_and_validate


@FLOWER.uses(
    "parse_config_args and get_fused_config_from_dir of flwr.common.config",
    "to read a Flower app's run configuration",
)
def run_config_readers() -> tuple[
    Callable[[list[str]], dict[str, Any]], Callable[[Path, Mapping[str, Any]], dict[str, Any]]
]:
    """Return what reads ``key=value`` texts, and what puts them over an app's own configuration.

    Both as for ``flwr run --run-config``; nothing public does.
    """
    from flwr.common.config import get_fused_config_from_dir, parse_config_args

    return parse_config_args, get_fused_config_from_dir


@FLOWER.uses(
    "recorddict_to_proto and recorddict_from_proto of flwr.common.serde",
    "to keep clients' replies on disk",
)
def wire_format() -> tuple[Callable[[RecordDict], Any], Callable[[Any], RecordDict], type[Any]]:
    """Return what makes a record dictionary Flower's wire message, what goes back, and its class.

    Records are public; how they are made bytes, as Flower sends them, is not.
    """
    from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
    from flwr.proto.recorddict_pb2 import RecordDict as Wire

    return recorddict_to_proto, recorddict_from_proto, Wire


@FLOWER.uses(
    "fit_clients and evaluate_clients of flwr.server.server",
    "to give an old server its replies in one order",
)
def asking_functions() -> tuple[ModuleType, tuple[str, str]]:
    """Return the module of Flower's old server, and its functions that ask all clients.

    They return replies in the order of a set. ``Server`` finds them in its module.
    """
    from flwr.server import server

    names = server.fit_clients.__name__, server.evaluate_clients.__name__
    return server, names


@FLOWER.uses("parameters_to_arrayrecord", "to keep the model of an app of the old style")
def arrays_of_parameters(parameters: Any) -> ArrayRecord:
    """Return the arrays of an old server's ``Parameters``, of any type of tensor.

    The public ``parameters_to_ndarrays`` takes NumPy's alone.
    """
    from flwr.compat.common.recorddict_compat import parameters_to_arrayrecord

    return parameters_to_arrayrecord(parameters, keep_input=True)


@FLOWER.uses("MAIN_PARAMS_RECORD", "to keep the model of an app's DefaultWorkflow")
def name_of_model() -> str:
    """Return the name of the record in which an old workflow keeps the model.

    The workflow is public, but tells its model to nobody.
    """
    from flwr.server.workflow.constant import MAIN_PARAMS_RECORD

    return str(MAIN_PARAMS_RECORD)


@FLOWER.uses("aggregate_metricrecords", "to tell whether a strategy only averages metrics")
def mean_of_metrics() -> Callable[..., Any]:
    """Return the function by which strategies average metrics unless they are given another.

    It is the public default of public arguments, and has no public name.
    """
    from flwr.serverapp.strategy.strategy_utils import aggregate_metricrecords

    return aggregate_metricrecords


@FLOWER.uses("FedAvg._check_and_log_replies", "to tell whether a strategy only averages replies")
def checking_method() -> str:
    """Return the method by which strategies choose the replies that they go by.

    A subclass that has one of its own must see every reply.
    """
    from flwr.serverapp.strategy import FedAvg

    return str(FedAvg._check_and_log_replies.__name__)


@FLOWER.uses("flwr.supercore.logger.FLOWER_LOGGER", "to quieten or to use Flower's log")
def logger() -> logging.Logger:
    """Return Flower's logger, to which it has given a handler.

    By its name, ``flwr``, it could be had before Flower puts the handler in.
    """
    from flwr.supercore.logger import FLOWER_LOGGER

    return FLOWER_LOGGER
