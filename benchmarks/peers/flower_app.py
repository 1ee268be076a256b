"""Clients for stock Flower: as in its TensorFlow quickstart, the same with a cached model, asleep.

Flower's actors import this module. The data is in the actor's memory before the first client is
timed twice, so that loading it weighs on nobody.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from benchmarks import work

_DATA: dict[str, Any] = {}
_MODEL: list[Any] = []

app = ClientApp()


def load_model() -> Any:
    """Build and compile the model: what the quickstart calls ``load_model``."""
    import keras

    from simulation.training.keras.models import cnn

    model = cnn((28, 28, 1), 10)
    model.compile(
        optimizer=keras.optimizers.SGD(work.LEARNING_RATE),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def load_data(folder: str, client: int) -> tuple[Any, Any]:
    """Return the images and labels of a client, from this actor's memory."""
    if folder not in _DATA:
        whole = work.read(Path(folder))
        _DATA[folder] = (whole, work.scaled(whole.x))
    whole, x = _DATA[folder]
    rows = whole.client(client)
    return x[rows], whole.y[rows]


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train one client from the global model, or sleep in proportion to its size."""
    config, client = message.content["config"], int(context.node_config["partition-id"])
    start = time.time()
    if config["kind"] == "sleep":
        time.sleep(config["seconds"][client])
        content, count = message.content["arrays"], 1
    else:
        content, count = _fit(message, str(config["data"]), config["kind"] == "cached", client)
    _note(str(config["progress"]), f"{client} {start!r} {time.time()!r}\n")
    metrics = MetricRecord({"num-examples": count})
    return Message(RecordDict({"arrays": content, "metrics": metrics}), reply_to=message)


def _fit(message: Message, folder: str, cached: bool, client: int) -> tuple[ArrayRecord, int]:
    import keras

    x, y = load_data(folder, client)
    if not cached:
        keras.backend.clear_session()
        model = load_model()
    else:
        if not _MODEL:
            _MODEL.append(load_model())
        model = _MODEL[0]
    model.set_weights(message.content["arrays"].to_numpy_ndarrays())
    model.fit(x, y, epochs=1, batch_size=work.BATCH, verbose=0)
    return ArrayRecord([np.asarray(w) for w in model.get_weights()]), len(x)


def _note(path: str, line: str) -> None:
    # One short appending write is atomic: actors need no lock.
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, line.encode())
    finally:
        os.close(file)
