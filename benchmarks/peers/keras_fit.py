"""Centralised training: Keras ``fit`` on the pooled data, with all cores."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

from benchmarks import work


def main() -> None:
    """Fit for ``--epochs`` epochs and report each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder written by benchmarks.work.write")
    parser.add_argument("--epochs", type=int, default=3)
    given = parser.parse_args()
    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}
    import keras

    from simulation.training.keras.models import build

    data = work.read(given.data)
    x, y = work.scaled(data.x[data.rows]), data.y[data.rows]
    model = build("cnn", (28, 28, 1), 10, work.SEED)
    assert model.count_params() == work.PARAMETERS
    model.compile(
        optimizer=keras.optimizers.SGD(work.LEARNING_RATE),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )

    class Report(keras.callbacks.Callback):  # type: ignore[misc]
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.start = time.perf_counter()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            seconds = time.perf_counter() - self.start
            work.emit("round", round=epoch + 1, seconds=seconds, examples=len(x))

    model.fit(x, y, batch_size=work.BATCH, epochs=given.epochs, verbose=0, callbacks=[Report()])


if __name__ == "__main__":
    main()
