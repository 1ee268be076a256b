"""Layers computed in a way that stays fast when every client has weights of its own.

Under ``vmap`` over the weights a convolution becomes a grouped one, which libraries compute slowly
(on one H200, cuDNN is 4 to 7 times slower than this). As patches times a matrix it becomes one
batched product. Depthwise convolutions and pooling become sums and choices of slices.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import keras
import numpy as np

layers = keras.layers

CONVOLUTIONS = (layers.Conv1D, layers.Conv2D)
DEPTHWISE = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)
SEPARABLE = (layers.SeparableConv1D, layers.SeparableConv2D)
POOLING = (layers.MaxPooling1D, layers.MaxPooling2D)


def fast_call(layer: keras.layers.Layer) -> tuple[str, Callable[..., Any]] | None:
    """Return a layer's method that has a fast form, and that form; None where there is none."""
    kind = type(layer)
    if kind in POOLING and _pools_apart(layer):
        return "call", lambda inputs: max_pool(inputs, layer.pool_size, layer.padding)
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        return None
    if kind in CONVOLUTIONS and layer.groups == 1:
        return "call", lambda inputs: _finished(layer, _convolved(layer, inputs))
    if kind in DEPTHWISE:
        return "call", lambda inputs: _finished(layer, _depthwise(layer, inputs, layer.kernel))
    if kind in SEPARABLE and layer.padding != "causal":
        return "call", lambda inputs: _finished(layer, _separable(layer, inputs))
    return None


def _pools_apart(layer: keras.layers.Layer) -> bool:
    apart = tuple(layer.strides) == tuple(layer.pool_size)
    return apart and layer.data_format == "channels_last" and layer.padding == "valid"


def _finished(layer: keras.layers.Layer, outputs: Any) -> Any:
    if layer.use_bias:
        outputs = outputs + keras.ops.convert_to_tensor(layer.bias)
    return outputs if layer.activation is None else layer.activation(outputs)


def _convolved(layer: keras.layers.Layer, inputs: Any) -> Any:
    kernel = keras.ops.convert_to_tensor(layer.kernel)
    return patches(inputs, kernel, layer.strides, layer.padding, layer.dilation_rate)


def _separable(layer: keras.layers.Layer, inputs: Any) -> Any:
    between = _depthwise(layer, inputs, layer.depthwise_kernel)
    point = keras.ops.convert_to_tensor(layer.pointwise_kernel)
    return between @ point.reshape(point.shape[-2:])


def _depthwise(layer: keras.layers.Layer, inputs: Any, kernel: Any) -> Any:
    kernel = keras.ops.convert_to_tensor(kernel)
    taps = slices(inputs, kernel.shape[:-2], layer.strides, layer.padding, layer.dilation_rate)
    flat = kernel.reshape(-1, *kernel.shape[-2:])
    total = sum(part[..., None] * flat[k] for k, part in enumerate(taps))
    return jnp.reshape(total, (*total.shape[:-2], -1))


def patches(
    inputs: Any, kernel: Any, strides: Sequence[int], padding: str, dilation: Sequence[int]
) -> Any:
    """Return the convolution of inputs [n, ..., c] with a kernel [..., c, o], by one product."""
    parts = slices(inputs, kernel.shape[:-2], strides, padding, dilation)
    columns = parts[0] if len(parts) == 1 else jnp.concatenate(parts, -1)
    return columns @ kernel.reshape(-1, kernel.shape[-1])


def slices(
    inputs: Any,
    window: Sequence[int],
    strides: Sequence[int],
    padding: str,
    dilation: Sequence[int],
) -> list[Any]:
    """Return for every place of a window what all windows have there, row by row.

    Args:
        inputs: [n, ..., c].
        window: its sizes.
        strides: from one window to the next.
        padding: ``valid``, ``same`` or ``causal``, as Keras means it.
        dilation: distance of a window's places.
    """
    spread = [d * (k - 1) + 1 for k, d in zip(window, dilation, strict=True)]
    if padding != "valid":
        around = [(0, 0)]
        for size, step, reach in zip(inputs.shape[1:-1], strides, spread, strict=True):
            whole = max((-(-size // step) - 1) * step + reach - size, 0)
            before = reach - 1 if padding == "causal" else whole // 2
            around.append((before, 0 if padding == "causal" else whole - before))
        inputs = jnp.pad(inputs, [*around, (0, 0)])
    counts = [
        (size - reach) // step + 1
        for size, step, reach in zip(inputs.shape[1:-1], strides, spread, strict=True)
    ]
    found = []
    for place in np.ndindex(*window):
        cut = [
            slice(at * d, at * d + (n - 1) * step + 1, step)
            for at, d, n, step in zip(place, dilation, counts, strides, strict=True)
        ]
        found.append(inputs[(slice(None), *cut)])
    return found


def max_pool(inputs: Any, window: Sequence[int], padding: str = "valid") -> Any:
    """Return the largest value of every window; windows do not overlap.

    Of equal values the first one gets the gradient, as in TensorFlow.
    """
    best, *others = slices(inputs, window, window, padding, [1] * len(window))
    for other in others:
        best = jnp.where((best >= other) | jnp.isnan(best), best, other)
    return best
