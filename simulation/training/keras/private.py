"""What is used of Keras beyond its public interface, each with the reason.

A client's local training is one graph of our own, where Keras has ``fit``: so what Keras keeps of
``compile`` must be found, and Keras tells it to nobody. Seen in Keras 3.12 to 3.15. Of TensorFlow
only public names are used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from simulation.config.libraries import Library

KERAS = Library("Keras", "keras", "3.12 to 3.15")


@KERAS.uses("Model._compile_loss", "to find the loss that a model is compiled with")
def compiled_loss(model: keras.Model) -> Any:
    """Return what Keras computes a model's loss with; None for one that is compiled with none.

    ``model.loss`` is the loss as it was given, a name perhaps, and any class may have put
    something else there.
    """
    return model._compile_loss


@KERAS.uses("Model._compile_metrics", "to find the metrics that a model is compiled with")
def compiled_metrics(model: keras.Model) -> Any:
    """Return the metric that holds those a model is compiled with; None without any.

    In ``model.metrics`` it is one among those of layers and of the model's own.
    """
    return model._compile_metrics


@KERAS.uses("Model._loss_tracker", "to tell a model's mean loss from its other metrics")
def loss_tracker(model: keras.Model) -> Any:
    """Return the metric in ``model.metrics`` that is the mean loss; None before ``compile``.

    By its name, ``loss``, it could be one of the user's.
    """
    return model._loss_tracker


@KERAS.uses(
    "_user_loss, _user_loss_weights, _user_metrics and _user_weighted_metrics of what it compiles",
    "to compile a model once more with another optimizer",
)
def compile_arguments(model: keras.Model) -> dict[str, Any]:
    """Return the losses and metrics that ``compile`` was given, as its keyword arguments.

    ``get_compile_config`` gives them serialised, which functions and classes of the user's need
    not survive.
    """
    loss, metrics = compiled_loss(model), compiled_metrics(model)
    return {
        "loss": None if loss is None else loss._user_loss,
        "loss_weights": None if loss is None else loss._user_loss_weights,
        "metrics": None if metrics is None else metrics._user_metrics,
        "weighted_metrics": None if metrics is None else metrics._user_weighted_metrics,
    }


@KERAS.uses("CompileLoss._flat_losses", "to find the loss of a model's output")
def loss_of_output(whole: Any) -> tuple[keras.losses.Loss, float | None]:
    """Return the loss object of a model's one output, and its weight, None for none.

    The object is one that Keras makes of a name or function; nothing public gives it back.

    Args:
        whole: what :func:`compiled_loss` returns, built.
    """
    first = whole._flat_losses[0]
    return first.loss, first.loss_weights


@KERAS.uses("CompileMetrics._flat_weighted_metrics", "to tell which metrics go by weights")
def weighted_metrics(whole: Any) -> list[keras.Metric]:
    """Return the metrics that were given as ``weighted_metrics``.

    Both kinds are joined in the public ``metrics``.

    Args:
        whole: what :func:`compiled_metrics` returns, built.
    """
    return [m for group in whole._flat_weighted_metrics if group for m in group.metrics]


@KERAS.uses("MeanMetricWrapper._fn and ._fn_kwargs", "to tell which accuracy a metric measures")
def metric_function(metric: keras.Metric) -> tuple[Any, dict[str, Any]]:
    """Return the function that a metric is the mean of, and its options; None for other metrics.

    Keras resolves the names ``accuracy`` and ``acc`` to one that only this tells.
    """
    if not isinstance(metric, keras.metrics.MeanMetricWrapper):
        return None, {}
    return metric._fn, metric._fn_kwargs


@KERAS.uses("Layer._flatten_layers", "to look at the layers of layers")
def layers_of(model: keras.Model, include_self: bool = True) -> list[keras.Layer]:
    """Return all layers of a model and theirs, in the order of Keras' own loss penalties.

    ``model.layers`` leaves out what a layer or model holds inside.
    """
    return model._flatten_layers(include_self=include_self)


@KERAS.uses("Layer._losses", "to tell whether a layer has called add_loss")
def added_losses(layer: keras.Layer) -> list[Any]:
    """Return the losses that a layer has added by ``add_loss`` in its last call.

    The public ``losses`` holds those of inner layers and weights too.
    """
    return layer._losses


@KERAS.uses("Optimizer._learning_rate", "to find the schedule that an optimizer follows")
def rate_setting(optimizer: keras.Optimizer) -> Any:
    """Return the variable of an optimiser's learning rate, or the schedule that it follows.

    The public ``learning_rate`` is a schedule's value for the present step.
    """
    return optimizer._learning_rate


WITHOUT_DECAY = ("_exclude_from_weight_decay", "_exclude_from_weight_decay_pattern")
"""Where an optimiser keeps what ``exclude_from_weight_decay`` was told: there only after a call."""


@KERAS.uses("what exclude_from_weight_decay keeps", "to copy an optimizer of the user's whole")
def exclusions(optimizer: keras.Optimizer) -> dict[str, Any]:
    """Return the attributes by which an optimiser leaves weights without decay; {} for none.

    They are no part of ``get_config``.
    """
    written = keras.Optimizer.exclude_from_weight_decay.__code__.co_names
    for name in WITHOUT_DECAY:
        if name not in written:
            raise AttributeError(f"exclude_from_weight_decay keeps no {name!r}")
    return {name: getattr(optimizer, name) for name in WITHOUT_DECAY if hasattr(optimizer, name)}


@KERAS.uses("KerasTensor._keras_history", "to find the layer that a model ends with")
def maker_of(tensor: Any) -> Any:
    """Return the layer or operation that a symbolic tensor comes from; None for other tensors.

    The last of ``model.layers`` may be another one, where a model has branches.
    """
    if not isinstance(tensor, keras.KerasTensor):
        return None
    return tensor._keras_history.operation


@KERAS.uses("get_keras_mask", "to leave out of the accuracy what layers have masked")
def mask_of(tensor: Any) -> Any:
    """Return the mask that Keras' layers have put on a tensor; None if there is none.

    Keras hands masks from layer to layer with the tensors and never shows them.
    """
    from keras.src.backend import get_keras_mask

    return get_keras_mask(tensor)


@KERAS.uses("set_keras_mask", "to leave rows that only fill a batch up out of the loss")
def set_mask(tensor: Any, mask: Any) -> None:
    """Put a mask on a tensor, as layers with masks do; losses average over what it leaves."""
    from keras.src.backend import set_keras_mask

    set_keras_mask(tensor, mask)


@KERAS.uses("the draws of the backend's random numbers", "to start as on another backend")
def random_draws() -> tuple[Any, Callable[[Any], Any]]:
    """Return the module whose functions Keras' initialisers draw with, and what draws a seed."""
    from keras.src.backend import random
    from keras.src.random.seed_generator import draw_seed

    return random, draw_seed


@KERAS.uses("what loads TensorFlow when it is needed", "to set seeds without loading TensorFlow")
def lazy_tensorflow() -> Any:
    """Return what stands for TensorFlow in Keras; ``_available`` says whether it is used.

    ``keras.utils.set_random_seed`` loads TensorFlow wherever it is installed.
    """
    from keras.src.utils.module_utils import tensorflow

    return tensorflow if hasattr(tensorflow, "_available") else tensorflow._available


@KERAS.uses("Operation._inbound_nodes", "to see whether a model rescales its inputs")
def applications(operation: Any) -> list[tuple[list[Any], list[Any]]]:
    """Return inputs and outputs of an operation, for each place of a model where it is applied.

    The public ``input`` and ``output`` are those of the first place.
    """
    return [(node.input_tensors, node.outputs) for node in operation._inbound_nodes]


ARITHMETIC = ("Add", "Subtract", "Multiply", "Divide", "TrueDivide")
"""Classes of operations that rescale inputs, as Keras' ``preprocess_input`` functions use them.

The classes of ``keras.ops`` functions have no public names.
"""

PASSING = ("Cast", "GetItem", "Reshape", "Transpose", "ExpandDims", "Concatenate", "Stack", "Flip")
"""Those that leave values as they are: what follows them may still rescale the inputs."""


@KERAS.uses("keras.src.models.functional.Functional", "to tell Keras' own models from a user's")
def functional() -> type[keras.Model]:
    """Return the class of a model that is made of inputs and outputs.

    ``keras.Model(inputs, outputs)`` makes one, but the class has no public name.
    """
    from keras.src.models.functional import Functional

    return Functional


@KERAS.uses("LossFunctionWrapper", "to find the function that a model is compiled with for a loss")
def wrapped_function(loss: Any) -> Any:
    """Return the function that Keras has made a loss object of; None for other losses.

    A class derived from it is a loss of its own, whose ``fn`` may be used in another way.
    """
    from keras.src.losses.losses import LossFunctionWrapper

    return loss.fn if type(loss) is LossFunctionWrapper else None


GLOBAL_SEED = "global_seed_generator"
"""Where Keras' global state keeps that generator; a constant has the name after Keras 3.12."""


@KERAS.uses("the global seed generator", "to build a model without a draw from the app's seeds")
def global_seed() -> keras.Variable | None:
    """Return the state of the generator that layers without a seed draw from; None before it is.

    ``keras.utils.set_random_seed`` decides how it begins; nothing public reads or sets it.
    """
    from keras.src.backend.common import global_state
    from keras.src.random import seed_generator

    written = seed_generator.global_seed_generator.__code__.co_consts
    if GLOBAL_SEED not in (*written, vars(seed_generator).get("GLOBAL_SEED_GENERATOR")):
        raise AttributeError(f"global_seed_generator keeps no {GLOBAL_SEED!r}")
    generator = global_state.get_global_attribute(GLOBAL_SEED)
    return None if generator is None else generator.state


PREPROCESSING = ".preprocessing."
"""In the module names of layers that may keep, beside variables, what they have adapted to."""
