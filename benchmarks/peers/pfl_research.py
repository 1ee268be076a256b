"""pfl-research: federated averaging of all users, in one process or as one of several.

Runs in an environment of its own (see ``benchmarks.environment``) with legacy Keras: with Keras 3
variable names repeat between layers, and pfl, which keys by name, trains only a part of the model.
What it updates is counted and reported.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import work

RANK = "PFL_WORKER_RANK"


def main() -> None:
    """Run ``--rounds`` rounds in which every user trains."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder written by benchmarks.work.write")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    os.environ |= {"TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    # pfl prints its own lines; ours must not get lost among them.
    ours, sys.stdout = sys.stdout, sys.stderr
    import numpy as np
    import tensorflow as tf
    from pfl.aggregate.simulate import SimulatedBackend
    from pfl.aggregate.weighting import WeightByDatapoints
    from pfl.algorithm import FederatedAveraging, NNAlgorithmParams
    from pfl.callback.base import TrainingProcessCallback
    from pfl.data.federated_dataset import FederatedDataset
    from pfl.data.sampling import get_user_sampler
    from pfl.data.tensorflow import TFTensorDataset
    from pfl.hyperparam import NNTrainHyperParams
    from pfl.metrics import Metrics
    from pfl.model.tensorflow import TFModel

    np.random.seed(work.SEED)
    tf.random.set_seed(work.SEED)
    data = work.read(given.data)
    x, users = work.scaled(data.x), {}

    def user(number: int) -> Any:
        # Kept, so that pfl cuts a user into batches once and not in every round.
        if number not in users:
            rows = data.client(number)
            users[number] = TFTensorDataset(tf.constant(x[rows]), tf.constant(data.y[rows]))
        return users[number]

    keras_model = build(tf)
    before = [w.numpy() for w in keras_model.trainable_variables]
    model = TFModel(model=keras_model, metrics={}, central_optimizer=tf.keras.optimizers.SGD(1.0))
    federated = FederatedDataset(user, get_user_sampler("minimize_reuse", range(len(data))))
    backend = SimulatedBackend(federated, federated, postprocessors=[WeightByDatapoints()])

    class Clock(TrainingProcessCallback):
        def on_train_begin(self, *, model: Any) -> Any:
            self.last, self.cpu = time.perf_counter(), time.process_time()
            return Metrics()

        def after_central_iteration(
            self, aggregate_metrics: Any, model: Any, *, central_iteration: int
        ) -> Any:
            now, cpu = time.perf_counter(), time.process_time()
            if os.environ.get(RANK, "0") == "0":
                after = [w.numpy() for w in keras_model.trainable_variables]
                pairs = list(zip(before, after, strict=True))
                moved = sum(a.size for b, a in pairs if not np.array_equal(b, a))
                sys.stdout, kept = ours, sys.stdout
                work.emit(
                    "round",
                    round=central_iteration + 1,
                    seconds=now - self.last,
                    examples=trained(aggregate_metrics),
                    updated=moved,
                    cpu=cpu - self.cpu,  # of this process alone
                )
                sys.stdout = kept
            self.last, self.cpu = time.perf_counter(), time.process_time()
            return False, Metrics()

    FederatedAveraging().run(
        algorithm_params=NNAlgorithmParams(
            central_num_iterations=given.rounds,
            evaluation_frequency=10**9,
            train_cohort_size=len(data),
            val_cohort_size=None,
        ),
        backend=backend,
        model=model,
        model_train_params=NNTrainHyperParams(
            local_batch_size=work.BATCH, local_num_epochs=1, local_learning_rate=work.LEARNING_RATE
        ),
        callbacks=[Clock()],
        send_metrics_to_platform=False,
    )


def trained(metrics: Any) -> int:
    """Return how many examples the users of a round trained on, as pfl itself counts them."""
    from pfl.aggregate.base import get_num_datapoints_weight_name
    from pfl.common_types import Population

    name = get_num_datapoints_weight_name(Population.TRAIN)
    # A pfl metric is a sum over users and its weight, the number of users.
    return int(metrics[name].weighted_value)


def build(tf: Any) -> Any:
    """Return the CNN in legacy Keras."""
    layers = tf.keras.layers
    model = tf.keras.Sequential(
        [
            tf.keras.Input((28, 28, 1)),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dense(10),
        ]
    )
    assert model.count_params() == work.PARAMETERS
    model.compile(
        tf.keras.optimizers.SGD(work.LEARNING_RATE),
        loss=tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return model


if __name__ == "__main__":
    main()
