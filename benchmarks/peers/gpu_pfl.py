"""pfl-research in PyTorch: federated averaging, one user after the other, data on the card.

Its ``FederatedAveraging`` on its ``SimulatedBackend`` in one process, with users' tensors that are
kept on the card. What it updates is counted and reported.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np

from benchmarks.gpu_work import LEARNING_RATE, SEED, Data, Workload
from benchmarks.peers import gpu_contestant
from benchmarks.peers.gpu_contestant import AT_ONCE, Rounds


def main() -> None:
    """Run the workloads."""
    gpu_contestant.run(__doc__, ("pfl", "torch", "numpy"), start, device)


def device() -> str:
    """Return what PyTorch computes on."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def start() -> Any:
    """Import PyTorch and pfl; return what runs a workload."""
    import torch
    from pfl.aggregate.simulate import SimulatedBackend
    from pfl.aggregate.weighting import WeightByDatapoints
    from pfl.algorithm import FederatedAveraging, NNAlgorithmParams
    from pfl.callback.base import TrainingProcessCallback
    from pfl.data.federated_dataset import FederatedDataset
    from pfl.data.pytorch import PyTorchTensorDataset
    from pfl.data.sampling import get_user_sampler
    from pfl.hyperparam import NNTrainHyperParams
    from pfl.metrics import Metrics, Weighted
    from pfl.model.pytorch import PyTorchModel

    from benchmarks.peers.gpu_torch_models import build

    np.random.seed(SEED)
    torch.manual_seed(SEED)
    torch.backends.cuda.matmul.allow_tf32 = True
    place = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    class Clock(TrainingProcessCallback):
        """Reports every central iteration; ends the run when its time is over."""

        def __init__(self, rounds: Rounds, clients: int) -> None:
            self.rounds, self.clients, self.begun = rounds, clients, 0.0

        def on_train_begin(self, *, model: Any) -> Any:
            self.last = time.perf_counter()
            return Metrics()

        def after_central_iteration(
            self, aggregate_metrics: Any, model: Any, *, central_iteration: int
        ) -> Any:
            if place.type == "cuda":
                torch.cuda.synchronize()
            now = time.perf_counter()
            images = trained(aggregate_metrics)
            told(self.rounds, central_iteration + 1, now - self.last, images, self.clients)
            if central_iteration == 0:
                self.begun = now
            self.last = time.perf_counter()
            over = central_iteration > 0 and now - self.begun > self.rounds.seconds
            return over, Metrics()

    def runs(workload: Workload, data: Data, rounds: Rounds) -> None:
        module, users = with_loss(torch, build(torch, workload.model), Weighted), {}
        x, y = torch.as_tensor(data.x, device=place), torch.as_tensor(data.y, device=place)

        def user(number: int) -> Any:
            if number not in users:
                mine = data.client(number)
                users[number] = PyTorchTensorDataset((x[mine], y[mine]))
            return users[number]

        model = PyTorchModel(module, torch.optim.SGD, torch.optim.SGD(module.parameters(), 1.0))
        before = [w.detach().clone() for w in module.parameters()]
        clients = data.first(AT_ONCE)
        federated = FederatedDataset(user, get_user_sampler("minimize_reuse", range(clients)))
        FederatedAveraging().run(
            algorithm_params=NNAlgorithmParams(
                central_num_iterations=rounds.rounds + 1,
                evaluation_frequency=10**9,
                train_cohort_size=clients,
                val_cohort_size=None,
            ),
            backend=SimulatedBackend(federated, federated, postprocessors=[WeightByDatapoints()]),
            model=model,
            model_train_params=NNTrainHyperParams(
                local_batch_size=workload.batch,
                local_num_epochs=1,
                local_learning_rate=LEARNING_RATE,
            ),
            callbacks=[Clock(rounds, clients)],
            send_metrics_to_platform=False,
        )
        pairs = zip(before, module.parameters(), strict=True)
        assert all(bool((a != b).any()) for a, b in pairs), "it trains only a part of the model"

    return runs


def told(rounds: Rounds, number: int, seconds: float, images: int, clients: int) -> None:
    """Report a round on the stream of the benchmark: pfl prints lines of its own."""
    sys.stdout.flush()
    rounds.tell(number, seconds, images, clients)


def with_loss(torch: Any, module: Any, weighted: Any) -> Any:
    """Give a module the methods that pfl calls, with a metric as a sum and its weight."""
    loss_of = torch.nn.functional.cross_entropy

    def loss(images: Any, labels: Any, eval: bool = False) -> Any:
        module.train(not eval)
        return loss_of(module(images), labels)

    def metrics(images: Any, labels: Any, eval: bool = True) -> Any:
        with torch.no_grad():
            found = loss(images, labels, eval)
        return {"loss": weighted(found.item() * len(labels), len(labels))}

    module.loss, module.metrics = loss, metrics
    return module


def trained(metrics: Any) -> int:
    """Return how many examples the users of a round trained on, as pfl itself counts them."""
    from pfl.aggregate.base import get_num_datapoints_weight_name
    from pfl.common_types import Population

    name = get_num_datapoints_weight_name(Population.TRAIN)
    return int(metrics[name].weighted_value)


if __name__ == "__main__":
    main()
