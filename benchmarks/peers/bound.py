"""The bound: one process per core runs nothing but the compiled training loop.

No federated learning and no Ray: the weights are never reset, collected or averaged, the data is
in memory as floats, TensorFlow has one thread and uses oneDNN as in Sunflower's workers.
The batches are those of the clients (the last one of each may be short). The processes work on
disjoint halves of the clients at the same time.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time
from pathlib import Path
from typing import Any

from benchmarks import work


def main() -> None:
    """Run ``--passes`` passes over the data, all processes side by side."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder written by benchmarks.work.write")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--passes", type=int, default=3)
    given = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    barrier, results = spawn.Barrier(given.processes), spawn.Queue()
    parties = [
        spawn.Process(
            target=run_share,
            args=(given.data, i, given.processes, given.passes, barrier, results),
            daemon=True,
        )
        for i in range(given.processes)
    ]
    for party in parties:
        party.start()
    shares = [results.get() for _ in parties]
    for party in parties:
        party.join()
    for number in range(given.passes):
        done = [share[number] for share in shares]
        wall = max(end for _, end, _, _ in done) - min(start for start, _, _, _ in done)
        # The sum of the rates is what perfect balance would give: the stricter bound.
        rate = sum(images / (end - start) for start, end, images, _ in done)
        images = sum(images for _, _, images, _ in done)
        cpu = sum(cpu for _, _, _, cpu in done)
        work.emit(
            "round",
            round=number + 1,
            seconds=images / rate,
            wall=wall,
            examples=images,
            cpu=cpu,
        )


def run_share(data: Path, number: int, count: int, passes: int, barrier: Any, results: Any) -> None:
    """Train on every ``count``-th client; put ``(start, end, images, cpu)`` of every pass."""
    os.environ |= {
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "OMP_NUM_THREADS": "1",
        "TF_NUM_INTRAOP_THREADS": "1",
        "TF_NUM_INTEROP_THREADS": "1",
        "TF_ENABLE_ONEDNN_OPTS": "1",
        "TF_MKL_OPTIMIZE_PRIMITIVE_MEMUSE": "false",
        "CUDA_VISIBLE_DEVICES": "-1",
        "KERAS_BACKEND": "tensorflow",
    }
    import numpy as np

    whole = work.read(data)
    batches = whole.batches()
    owner = np.searchsorted(whole.offsets, batches[:, 0], side="right") - 1
    mine = batches[owner % count == number]
    loop = compiled_loop(work.scaled(whole.x), whole.y, whole.rows, mine)
    loop(min(8, len(mine)))
    loop(min(8, len(mine)))
    images, times = int((mine[:, 1] - mine[:, 0]).sum()), []
    for _ in range(passes):
        barrier.wait()
        start, cpu = time.perf_counter(), time.process_time()
        loop(len(mine))
        times.append((start, time.perf_counter(), images, time.process_time() - cpu))
    results.put(times)


def compiled_loop(x: Any, y: Any, rows: Any, batches: Any) -> Any:
    """Return a function that trains on the first so many batches, as one graph."""
    import keras
    import tensorflow as tf

    from simulation.training.keras.models import build

    keras.utils.set_random_seed(work.SEED)
    model = build("cnn", (28, 28, 1), 10, work.SEED)
    assert model.count_params() == work.PARAMETERS
    weights = [v.value for v in model.trainable_variables]
    images, labels = tf.constant(x), tf.constant(y)
    order, bounds = tf.constant(rows), tf.constant(batches)

    def step(i: Any) -> tuple[Any]:
        at = order[bounds[i, 0] : bounds[i, 1]]
        with tf.GradientTape() as tape:
            logits = model(tf.gather(images, at), training=True)
            loss = tf.reduce_mean(
                tf.nn.sparse_softmax_cross_entropy_with_logits(tf.gather(labels, at), logits)
            )
        gradients = tape.gradient(loss, weights)
        # As in Sunflower's graph: TensorFlow copies a weight that somebody may still read.
        with tf.control_dependencies(gradients):
            for weight, gradient in zip(weights, gradients, strict=True):
                weight.assign_sub(work.LEARNING_RATE * gradient)
        return (i + 1,)

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([], tf.int32)])
    def graph(count: Any) -> Any:
        return tf.while_loop(lambda i: i < count, step, (tf.constant(0),), parallel_iterations=1)[0]

    return lambda count: graph(tf.constant(count)).numpy()


if __name__ == "__main__":
    main()
