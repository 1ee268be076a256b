"""The model and the data."""

import keras
import numpy as np
from keras import layers

data = None  # loaded once in every process


def load_model(learning_rate):
    """Build and compile a small CNN."""
    model = keras.Sequential(
        [
            keras.Input(shape=(28, 28, 1)),
            layers.Conv2D(32, kernel_size=(3, 3), activation="relu"),
            layers.MaxPooling2D(pool_size=(2, 2)),
            layers.Conv2D(64, kernel_size=(3, 3), activation="relu"),
            layers.MaxPooling2D(pool_size=(2, 2)),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(
        optimizer=keras.optimizers.Adam(learning_rate),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


def load_data(file, partition_id, num_partitions):
    """Return a client's images and labels: 80% to train, 20% to test."""
    global data
    if data is None:
        with np.load(file) as arrays:
            data = arrays["x"], arrays["y"]
    x, y = data[0][partition_id::num_partitions] / np.float32(255), data[1]
    y = y[partition_id::num_partitions]
    cut = int(0.8 * len(x))
    return x[:cut, ..., None], y[:cut], x[cut:, ..., None], y[cut:]
