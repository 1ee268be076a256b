"""Workers on logical GPUs: one node with two, one without. Prints one JSON object.

A program of its own, as Ray can be joined only once in a process.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import ray
from ray.cluster_utils import Cluster

from simulation.config.experiment import parse
from simulation.config.sections import Resources
from simulation.engines.calls import Info
from simulation.engines.ray.cluster import ResourceError
from simulation.engines.ray.engine import RayEngine
from simulation.worker.setup import Setup
from tests.simulation.conftest import SMALL


def main() -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    cluster.add_node(num_cpus=8, num_gpus=2)
    cluster.add_node(num_cpus=2)
    cluster.wait_for_nodes()
    found: dict[str, Any] = {}
    try:
        RayEngine(Resources(client_gpus=3, address=cluster.address))
    except ResourceError as error:
        found["error"] = str(error)
    kinds: dict[str, dict[str, Any]] = {
        "quarter": {"client_gpus": 0.25},
        "mixed": {"client_gpus": 0.25, "cpu_nodes": True},
        "none": {"client_cpus": 2},
    }
    for name, kind in kinds.items():
        resources = Resources(address=cluster.address, **kind)
        grid = RayEngine(resources, executor="tests.simulation.engines.ray.probe:Probe")
        inputs: Any = (Setup(parse(SMALL)), None, None)
        grid.start(*inputs)
        answers = {}
        while len(answers) < grid.workers:  # Calls go to whichever worker is free.
            tickets = [grid.submit(Info()) for _ in range(4 * grid.workers)]
            for answer in map(grid.result, tickets):
                answers[answer.pop("pid")] = answer
        found[name] = list(answers.values())
        grid.close()
    print(json.dumps(found))
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    sys.exit(main())
