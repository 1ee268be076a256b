"""A plain loop in PyTorch: one client after the other, all data on the card.

Weights are set to the global model, batches are slices of what is on the card, the weighted sum of
deltas is added up there by operations on all weights at once; nothing waits for the card until the
round ends. Matrix products may use TF32, as JAX does by default.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.gpu_work import LEARNING_RATE, SEED, Data, Workload
from benchmarks.peers import gpu_contestant
from benchmarks.peers.gpu_contestant import AT_ONCE, Rounds


def main() -> None:
    """Run the workloads."""
    gpu_contestant.run(__doc__, ("torch", "numpy"), start, device)


def device() -> str:
    """Return what PyTorch computes on."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def start() -> Any:
    """Import PyTorch; return what runs a workload."""
    import torch

    from benchmarks.peers.gpu_torch_models import build

    torch.manual_seed(SEED)
    torch.backends.cuda.matmul.allow_tf32 = True
    place = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def wait() -> None:
        if place.type == "cuda":
            torch.cuda.synchronize()

    def runs(workload: Workload, data: Data, rounds: Rounds) -> None:
        model = build(torch, workload.model).to(place).train()
        x, y = torch.as_tensor(data.x, device=place), torch.as_tensor(data.y, device=place)
        weights = list(model.parameters())
        start = [w.detach().clone() for w in weights]
        total = [torch.zeros_like(w) for w in start]
        clients = data.first(AT_ONCE)
        loss_of = torch.nn.functional.cross_entropy

        def train(mine: slice) -> None:
            with torch.no_grad():
                torch._foreach_copy_(weights, start)
            optimizer = torch.optim.SGD(weights, lr=LEARNING_RATE, foreach=True)
            for first in range(mine.start, mine.stop, workload.batch):
                last = min(first + workload.batch, mine.stop)
                optimizer.zero_grad(set_to_none=True)
                loss_of(model(x[first:last]), y[first:last]).backward()
                optimizer.step()
            with torch.no_grad():
                delta = torch._foreach_sub(weights, start)
                torch._foreach_add_(total, delta, alpha=mine.stop - mine.start)

        def one_round() -> None:
            torch._foreach_zero_(total)
            for client in range(clients):
                train(data.client(client))
            wait()

        images = int(np.diff(data.offsets)[:clients].sum())
        rounds.time(one_round, images, clients)

    return runs


if __name__ == "__main__":
    main()
