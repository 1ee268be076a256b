"""Centralised training: Keras ``fit`` on JAX, all images pooled as one array in memory."""

from __future__ import annotations

import os
import time
from typing import Any

from benchmarks.gpu_work import LEARNING_RATE, Data, Workload
from benchmarks.peers import gpu_contestant
from benchmarks.peers.gpu_contestant import Rounds


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
    import jax  # noqa: F401 - missing here, it is told as missing
    import keras
    import numpy as np

    from benchmarks.gpu_models import build

    def runs(workload: Workload, data: Data, rounds: Rounds) -> None:
        model = build(workload.model)
        model.compile(
            optimizer=keras.optimizers.SGD(LEARNING_RATE),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        x, y = data.x.astype(np.float32) / np.float32(255), data.y
        begun = time.perf_counter()

        class Clock(keras.callbacks.Callback):  # type: ignore[misc]
            def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
                self.start = time.perf_counter()

            def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
                nonlocal begun
                end = time.perf_counter()
                rounds.tell(epoch + 1, end - self.start, len(x), 1)
                if epoch == 0:
                    begun = end
                elif end - begun > rounds.seconds:
                    self.model.stop_training = True

        model.fit(
            x,
            y,
            batch_size=workload.batch,
            epochs=rounds.rounds + 1,
            verbose=0,
            callbacks=[Clock()],
        )

    return runs


if __name__ == "__main__":
    main()
