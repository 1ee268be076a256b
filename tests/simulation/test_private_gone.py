"""Every private name in use has a contract, and one line is said where a release lacks it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import pytest

from simulation.config.libraries import LibraryError
from simulation.engines.ray import private as of_ray
from simulation.flower import private as of_flower
from simulation.training.keras import private as of_keras
from tests.simulation import test_private_keras
from tests.simulation.contracts import entries, library_of, users
from tests.simulation.training import test_private

PRIVATE = (of_flower, of_ray, of_keras)

TESTED = {
    entry
    for tests in (test_private, test_private_keras)
    for test in vars(tests).values()
    if inspect.isfunction(test)
    for entry in test.__dict__.get("contracts", ())
}


@pytest.mark.parametrize("module", PRIVATE, ids=lambda module: library_of(module).name)
def test_every_entry_has_a_contract_and_is_used(module: Any) -> None:
    tested = {name for place, name in TESTED if place == module.__name__}
    assert tested == entries(module)
    own = Path(module.__file__).read_text()
    unused = {name for name in tested if not users(module, name) and own.count(name) < 2}
    assert not unused


NOTHING: Any = SimpleNamespace()

GONE: dict[str, tuple[Callable[[], Any], str | None]] = {
    "Model._compile_loss": (lambda: of_keras.compiled_loss(NOTHING), None),
    "Model._compile_metrics": (lambda: of_keras.compiled_metrics(NOTHING), None),
    "Model._loss_tracker": (lambda: of_keras.loss_tracker(NOTHING), None),
    "_user_loss, ": (
        lambda: of_keras.compile_arguments(
            SimpleNamespace(_compile_loss=NOTHING, _compile_metrics=None)
        ),
        None,
    ),
    "CompileLoss._flat_losses": (lambda: of_keras.loss_of_output(NOTHING), None),
    "CompileMetrics._flat_weighted_metrics": (lambda: of_keras.weighted_metrics(NOTHING), None),
    "MeanMetricWrapper._fn": (
        lambda: of_keras.metric_function(
            keras.metrics.MeanMetricWrapper.__new__(keras.metrics.MeanMetricWrapper)
        ),
        None,
    ),
    "Layer._flatten_layers": (lambda: of_keras.layers_of(NOTHING), None),
    "Layer._losses": (lambda: of_keras.added_losses(NOTHING), None),
    "Optimizer._learning_rate": (lambda: of_keras.rate_setting(NOTHING), None),
    "what exclude_from_weight_decay keeps": (
        lambda: of_keras.exclusions(NOTHING),
        "keras.src.optimizers.base_optimizer.BaseOptimizer.exclude_from_weight_decay",
    ),
    "KerasTensor._keras_history": (lambda: of_keras.maker_of(keras.KerasTensor((2,))), None),
    "get_keras_mask": (lambda: of_keras.mask_of(NOTHING), "keras.src.backend.get_keras_mask"),
    "set_keras_mask": (
        lambda: of_keras.set_mask(NOTHING, None),
        "keras.src.backend.set_keras_mask",
    ),
    "the draws of the backend's random numbers": (
        of_keras.random_draws,
        "keras.src.random.seed_generator.draw_seed",
    ),
    "what loads TensorFlow when it is needed": (
        of_keras.lazy_tensorflow,
        "keras.src.utils.module_utils.tensorflow",
    ),
    "Operation._inbound_nodes": (lambda: of_keras.applications(NOTHING), None),
    "keras.src.models.functional.Functional": (
        of_keras.functional,
        "keras.src.models.functional.Functional",
    ),
    "LossFunctionWrapper": (
        lambda: of_keras.wrapped_function(NOTHING),
        "keras.src.losses.losses.LossFunctionWrapper",
    ),
    "the global seed generator": (
        of_keras.global_seed,
        "keras.src.random.seed_generator.global_seed_generator",
    ),
    "flwr.supercore.task_identity.TaskIdentity": (
        lambda: of_flower.set_identity(1),
        "flwr.supercore.task_identity.TaskIdentity",
    ),
    "Metadata._message_id": (
        lambda: of_flower.set_message_id(SimpleNamespace(metadata=NOTHING), "m"),
        None,
    ),
    "Metadata._src_node_id": (
        lambda: of_flower.set_source(SimpleNamespace(metadata=NOTHING), 1),
        None,
    ),
    "flwr.supercore.run.Run": (lambda: of_flower.new_run(1), "flwr.supercore.run.Run"),
    "flwr.supercore.object_ref.load_app": (
        of_flower.app_loader,
        "flwr.supercore.object_ref.load_app",
    ),
    "LoadClientAppError and LoadServerAppError": (
        of_flower.load_errors,
        "flwr.serverapp.server_app.LoadServerAppError",
    ),
    "flwr.cli.config_utils.load_and_validate": (
        of_flower.project_reader,
        "flwr.cli.config_utils.load_and_validate",
    ),
    "parse_config_args and get_fused_config_from_dir": (
        of_flower.run_config_readers,
        "flwr.common.config.parse_config_args",
    ),
    "recorddict_to_proto": (of_flower.wire_format, "flwr.common.serde.recorddict_to_proto"),
    "fit_clients": (of_flower.asking_functions, "flwr.server.server.fit_clients"),
    "MAIN_PARAMS_RECORD": (
        of_flower.name_of_model,
        "flwr.server.workflow.constant.MAIN_PARAMS_RECORD",
    ),
    "aggregate_metricrecords": (
        of_flower.mean_of_metrics,
        "flwr.serverapp.strategy.strategy_utils.aggregate_metricrecords",
    ),
    "FedAvg._check_and_log_replies": (
        of_flower.checking_method,
        "flwr.serverapp.strategy.FedAvg._check_and_log_replies",
    ),
    "parameters_to_arrayrecord": (
        lambda: of_flower.arrays_of_parameters(NOTHING),
        "flwr.compat.common.recorddict_compat.parameters_to_arrayrecord",
    ),
    "flwr.supercore.logger.FLOWER_LOGGER": (
        of_flower.logger,
        "flwr.supercore.logger.FLOWER_LOGGER",
    ),
    "ray.cloudpickle": (lambda: of_ray.pickled(len), "ray.cloudpickle.dumps"),
    "ray._private.ray_constants.ENABLE_RAY_CLUSTER": (
        of_ray.cluster_constants,
        "ray._private.ray_constants.ENABLE_RAY_CLUSTER",
    ),
    "start_log_monitor, ": (of_ray.starters, "ray._private.node.Node.start_log_monitor"),
}
"""What is looked up: its name in the text, how it is looked up, and what to take away."""


@pytest.mark.parametrize("name", GONE)
def test_a_name_that_is_gone_ends_in_one_line(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    look_up, taken = GONE[name]
    if taken is not None:
        monkeypatch.delattr(taken)
    with pytest.raises(LibraryError) as caught:
        look_up()
    text = str(caught.value)
    (library,) = [one for one in map(library_of, PRIVATE) if text.startswith(f"{one.name} ")]
    begin = f"{library.name} {version(library.package)} no longer has {name}"
    assert text.startswith(begin) and "\n" not in text
    assert ", which Sunflower needs to " in text
    assert text.endswith(f"); it was there in {library.name} {library.seen}")
