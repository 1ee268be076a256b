"""The bound: the bare loop of lanes in JAX, without any of Sunflower's code.

All lanes step together by ``vmap``; each trains its clients one after the other, the longest first.
What a client ends with is folded into the weighted sum of deltas, on a branch that is taken only
when one ends. Images, orders and weights are on the device before the clock starts, and nothing is
recorded. Convolutions are patches times a matrix and pooling goes by reshape, as in Sunflower.
"""

from __future__ import annotations

import heapq
import os
import time
import types
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.gpu_work import LEARNING_RATE, Data, Workload
from benchmarks.peers import gpu_contestant
from benchmarks.peers.gpu_contestant import Rounds, emit

LANES = {"cnn": 100, "resnet18": 50, "cifar-cnn": 50}
MANY_LANES, MANY = 500, 10_000
"""Lanes where there are so many clients of few images."""

ON_PROCESSORS = 8
NARROWER, NARROWEST = 4, 1
"""When a quarter of the lanes is left the loop goes on with these alone."""


def main() -> None:
    """Run the workloads."""
    gpu_contestant.run(__doc__, ("jax", "keras", "numpy"), start, device)


def device() -> str:
    """Return what JAX computes on."""
    import jax

    return str(jax.devices()[0].device_kind)


def start() -> Any:
    """Import Keras on JAX; return what runs a workload."""
    os.environ["KERAS_BACKEND"] = "jax"
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    import jax
    import keras  # noqa: F401 - missing here, it is told as missing

    processors = jax.devices()[0].platform == "cpu"

    def runs(workload: Workload, data: Data, rounds: Rounds) -> None:
        lanes = MANY_LANES if workload.clients >= MANY else LANES[workload.model]
        lanes = min(ON_PROCESSORS if processors else lanes, workload.clients)
        loop = Loop(workload, data)
        sizes = np.diff(data.offsets)
        one_round = loop.round(np.arange(len(data)), lanes)
        rounds.time(one_round, int(sizes.sum()), len(data))
        if workload.skewed:
            alone = loop.round(np.array([int(sizes.argmax())]), 1)
            alone()
            before = time.perf_counter()
            alone()
            emit("alone", work=workload.name, seconds=time.perf_counter() - before)

    return runs


@dataclass
class Table:
    """What ``K`` lanes do in ``T`` steps, on the device.

    Args:
        rows: images of each step [T, K, B].
        count: how many of them count [T, K].
        begin: whether a client begins [T, K].
        weight: images of the client that ends, else 0 [T, K].
    """

    rows: Any
    count: Any
    begin: Any
    weight: Any


class Loop:
    """The compiled loop of a workload.

    Args:
        workload: gives the model and the batch.
        data: the images, which go to the device.
    """

    def __init__(self, workload: Workload, data: Data) -> None:
        import jax
        import jax.numpy as jnp

        from benchmarks.gpu_models import build

        self.workload, self.data = workload, data
        self.batch = min(workload.batch, int(np.diff(data.offsets).max()))
        self.model = fast(build(workload.model))
        self.trained = [v.value for v in self.model.trainable_variables]
        self.others = [v.value for v in self.model.non_trainable_variables]
        self.x, self.y = jnp.asarray(data.x), jnp.asarray(data.y.astype(np.int32))
        self._run = jax.jit(self._steps)

    def round(self, clients: NDArray[np.int64], lanes: int) -> Any:
        """Return a function that trains some clients and waits until the device has ended."""
        import jax
        import jax.numpy as jnp

        tables = [
            Table(*map(jnp.asarray, part))
            for part in tables_of(self.data.offsets, clients, self.batch, lanes)
        ]
        jax.block_until_ready([t.rows for t in tables])

        def one_round() -> None:
            carry, total = None, [jnp.zeros(w.shape, jnp.float32) for w in self.trained]
            for table in tables:
                width = table.count.shape[1]
                if carry is None:
                    carry = [jnp.zeros((width, *w.shape), w.dtype) for w in self.trained]
                carry = [w[:width] for w in carry]
                found = (table.rows, table.count, table.begin, table.weight)
                carry, total = self._run(carry, total, self.x, self.y, *found)
            jax.block_until_ready(total)

        return one_round

    def _steps(
        self, lanes: Any, total: Any, x: Any, y: Any, rows: Any, count: Any, begin: Any, weight: Any
    ) -> Any:
        import jax
        import jax.numpy as jnp
        from jax import lax

        step = jax.vmap(partial(self._step, x, y))

        def fold(total: Any, lanes: Any, weight: Any) -> Any:
            return [
                t + jnp.tensordot(weight, w - start, 1, precision="highest")
                for t, w, start in zip(total, lanes, self.trained, strict=True)
            ]

        def body(t: Any, carry: Any) -> Any:
            lanes, total = carry
            lanes = step(lanes, rows[t], count[t], begin[t])
            ended = weight[t]
            total = lax.cond(jnp.any(ended > 0), fold, lambda total, *_: total, total, lanes, ended)
            return lanes, total

        return lax.fori_loop(0, rows.shape[0], body, (lanes, total))

    def _step(self, x: Any, y: Any, weights: Any, rows: Any, count: Any, begin: Any) -> Any:
        """Take a step of one lane, or none where ``count`` is 0."""
        import jax
        import jax.numpy as jnp

        weights = [
            jnp.where(begin, start, w) for start, w in zip(self.trained, weights, strict=True)
        ]
        counts = (jnp.arange(self.batch) < count).astype(jnp.float32)
        images, labels = x[rows].astype(jnp.float32) / 255, y[rows]

        def loss(weights: Any) -> Any:
            output, _ = self.model.stateless_call(weights, self.others, images, training=True)
            logits = jax.nn.log_softmax(output.astype(jnp.float32))
            each = -jnp.take_along_axis(logits, labels[:, None], 1)[:, 0]
            return (each * counts).sum() / jnp.maximum(counts.sum(), 1)

        gradients = jax.grad(loss)(weights)
        rate = jnp.where(count > 0, LEARNING_RATE, 0.0)
        return [w - rate * g for w, g in zip(weights, gradients, strict=True)]


def tables_of(
    offsets: NDArray[np.int64], clients: NDArray[np.int64], batch: int, lanes: int
) -> list[tuple[NDArray[Any], ...]]:
    """Deal clients to lanes; return rows, count, begin and weight for each width in turn.

    Args:
        offsets: where each client's images begin, and the end.
        clients: who trains.
        batch: images of a step.
        lanes: how many lanes there are.
    """
    sizes = np.diff(offsets)[clients]
    steps = -(-sizes // batch)
    free, queues = [(0, lane) for lane in range(lanes)], [[] for _ in range(lanes)]
    for place in np.argsort(-steps, kind="stable"):
        load, lane = heapq.heappop(free)
        queues[lane].append((int(place), load))
        heapq.heappush(free, (load + int(steps[place]), lane))
    loads = np.array([load for load, _ in sorted(free, key=lambda pair: pair[1])])
    longest = np.argsort(-loads, kind="stable")
    whole = int(loads.max())
    rows = np.zeros((whole, lanes, batch), np.int32)
    count, weight = np.zeros((whole, lanes), np.int32), np.zeros((whole, lanes), np.float32)
    begin = np.zeros((whole, lanes), bool)
    for column, lane in enumerate(longest):
        for place, at in queues[lane]:
            size, end = int(sizes[place]), at + int(steps[place])
            first = int(offsets[clients[place]])
            numbers = np.minimum(np.arange((end - at) * batch), size - 1)
            rows[at:end, column] = first + numbers.reshape(-1, batch)
            count[at:end, column] = np.minimum(batch, size - batch * np.arange(end - at))
            begin[at, column], weight[end - 1, column] = True, size
    cuts = cuts_of(loads[longest])
    return [
        tuple(table[first:last, :width] for table in (rows, count, begin, weight))
        for width, first, last in cuts
    ]


def cuts_of(loads: NDArray[np.int64]) -> list[tuple[int, int, int]]:
    """Return (width, first step, last step) for lanes of falling loads."""
    cuts, width, first = [], len(loads), 0
    while True:
        narrower = width // NARROWER
        last = int(loads[0] if narrower < NARROWEST else loads[narrower])
        if last > first:
            cuts.append((width, first, last))
        if narrower < NARROWEST:
            return cuts
        width, first = narrower, max(first, last)


def fast(model: Any) -> Any:
    """Let a Keras model compute convolutions and pooling in a way that is fast under ``vmap``."""
    import keras

    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            layer.convolution_op = types.MethodType(_convolution, layer)
        elif isinstance(layer, keras.layers.MaxPooling2D):
            layer.call = types.MethodType(_pooling, layer)
    return model


def _convolution(layer: Any, inputs: Any, kernel: Any) -> Any:
    import jax.numpy as jnp
    import keras

    kernel = keras.ops.convert_to_tensor(kernel)
    height, width, channels, filters = kernel.shape
    down, right = layer.strides
    if layer.padding == "same":
        around = [
            max((-(-size // step) - 1) * step + reach - size, 0)
            for size, step, reach in zip(
                inputs.shape[1:3], (down, right), (height, width), strict=True
            )
        ]
        pads = [(n // 2, n - n // 2) for n in around]
        inputs = jnp.pad(inputs, [(0, 0), *pads, (0, 0)])
    rows = (inputs.shape[1] - height) // down + 1
    columns = (inputs.shape[2] - width) // right + 1
    patches = [
        inputs[:, i : i + (rows - 1) * down + 1 : down, j : j + (columns - 1) * right + 1 : right]
        for i in range(height)
        for j in range(width)
    ]
    return jnp.concatenate(patches, -1) @ kernel.reshape(height * width * channels, filters)


def _pooling(layer: Any, inputs: Any) -> Any:
    (down, right), (batch, height, width, channels) = layer.pool_size, inputs.shape
    inputs = inputs[:, : height // down * down, : width // right * right]
    parts = inputs.reshape(batch, height // down, down, width // right, right, channels)
    return parts.max((2, 4))


if __name__ == "__main__":
    main()
