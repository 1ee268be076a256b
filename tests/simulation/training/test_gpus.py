"""GPUs by shares, on Ray's logical GPUs: how many workers, and what each may use."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from simulation.config.sections import Resources
from simulation.engines.policy import POLICY
from simulation.engines.ray.cluster import ResourceError, kinds_of_workers
from simulation.engines.ray.slots import PoolRun, WorkerSlot
from simulation.training.process import memory_of_gpus
from simulation.training.tensorflow import process


def test_workers_of_a_share() -> None:
    nodes = [{"CPU": 8.0, "GPU": 2.0}, {"CPU": 2.0}, {"CPU": 3.0, "GPU": 1.0}]
    # Four to each GPU, but no more than a node has CPUs; none where there is no GPU.
    quarters = (4 * 2 + 3) * [0.25]
    assert kinds_of_workers(Resources(client_gpus=0.25), nodes) == quarters
    halves = Resources(client_gpus=0.25, client_cpus=0.5)
    assert kinds_of_workers(halves, nodes) == (4 * 2 + 4) * [0.25]
    assert kinds_of_workers(Resources(client_gpus=1), nodes) == 3 * [1.0]
    # A node without a GPU takes part where that is asked for, with one worker a CPU.
    mixed = Resources(client_gpus=0.25, cpu_nodes=True)
    assert kinds_of_workers(mixed, nodes) == quarters + 2 * [0.0]
    some = Resources(client_gpus=0.25, cpu_nodes=True, workers=12)
    assert kinds_of_workers(some, nodes) == [*quarters, 0.0]


def test_portions_follow_the_slowest_worker() -> None:
    slots, run = [WorkerSlot(None) for _ in range(3)], PoolRun(())
    for slot in slots[:2]:
        run.learn(slot, seconds=1.0, cost=100.0)
    assert run.effective_workers(slots) == 3  # The third one has not trained yet.
    run.learn(slots[2], seconds=1.0, cost=60.0)
    assert run.effective_workers(slots) == 3  # Much the same.
    for _ in range(20):
        run.learn(slots[2], seconds=1.0, cost=20.0)
    assert run.effective_workers(slots) == round((100 + 100 + 20) / 20)
    for _ in range(20):
        run.learn(slots[2], seconds=1000.0, cost=20.0)
    assert run.effective_workers(slots) == POLICY.most_units * 3


def test_no_node_has_a_gpu() -> None:
    with pytest.raises(ResourceError) as error:
        kinds_of_workers(Resources(client_gpus=0.25), [{"CPU": 8.0}])
    text = "resources.client_gpus must be at most the GPUs of a node (0), got 0.25"
    assert str(error.value) == text


@pytest.mark.parametrize(("size", "share"), [(16_000, 0.25), (80_000, 0.1), (2_000, 0.5)])
def test_the_shares_of_a_gpu_fit_together(size: int, share: float) -> None:
    limit = process.memory_limit(size, share)
    assert 0 < limit <= size * share
    if size * share >= 2 * process.CONTEXT:
        assert round(1 / share) * (limit + process.CONTEXT) <= size


NVIDIA = """#!/bin/sh
echo "0, GPU-aaa, 16000"
echo "1, GPU-bbb, 24000"
"""


@pytest.mark.parametrize(
    ("seen", "sizes"), [("1", [24_000]), ("GPU-aaa,1", [16_000, 24_000]), (None, [16_000, 24_000])]
)
def test_a_worker_is_limited_on_what_it_sees(
    seen: str | None, sizes: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(NVIDIA)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    if seen is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", seen)
    assert memory_of_gpus() == sizes
    limits, grown = [], []

    def limit(device: str, parts: list[Any]) -> None:
        limits.append((device, parts[0].memory_limit))

    config = SimpleNamespace(
        list_physical_devices=lambda kind: [f"{kind}:{i}" for i in range(len(sizes))],
        LogicalDeviceConfiguration=SimpleNamespace,
        set_logical_device_configuration=limit,
        experimental=SimpleNamespace(set_memory_growth=lambda d, on: grown.append((d, on))),
    )
    tf = SimpleNamespace(config=config)
    process.share_gpus(tf, 0.25)
    wanted = [process.memory_limit(size, 0.25) for size in sizes]
    assert limits == [(f"GPU:{i}", size) for i, size in enumerate(wanted)] and not grown
    process.share_gpus(tf, 1)
    assert grown == [(f"GPU:{i}", True) for i in range(len(sizes))]


@pytest.mark.soak
def test_workers_on_logical_gpus() -> None:
    # The engine in this process hides GPUs from it, and Ray would hear of that.
    seeing = {k: v for k, v in os.environ.items() if k != "CUDA_VISIBLE_DEVICES"}
    ran = subprocess.run(
        [sys.executable, "-m", "tests.simulation.engines.ray.gpu_nodes"],
        env=seeing,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    found = json.loads(ran.stdout.splitlines()[-1])
    text = "resources.client_gpus must be at most the GPUs of a node (2), got 3"
    assert found["error"] == text
    shares = found["quarter"]
    assert Counter(w["CUDA_VISIBLE_DEVICES"] for w in shares) == {"0": 4, "1": 4}
    assert {w["TF_FORCE_GPU_ALLOW_GROWTH"] for w in shares} == {"true"}
    assert {tuple(w["prepared"]) for w in shares} == {(1, 0.25)}
    # On the node with GPUs four workers each, on the other one a worker a CPU, without any.
    assert Counter(w["CUDA_VISIBLE_DEVICES"] for w in found["mixed"]) == {"0": 4, "1": 4, "-1": 2}
    assert {tuple(w["prepared"]) for w in found["mixed"]} == {(1, 0.25), (1, 0.0)}
    assert len(found["none"]) == 8 // 2 + 2 // 2
    assert {w["CUDA_VISIBLE_DEVICES"] for w in found["none"]} == {"-1"}
