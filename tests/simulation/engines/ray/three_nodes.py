"""A run on a Ray cluster of three nodes, one of which leaves in mid-round while another joins.

A program of its own, as Ray can be joined only once in a process. Prints one JSON object.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster

from simulation.config.experiment import parse
from simulation.engines.calls import Train
from simulation.engines.ray.engine import RayEngine
from simulation.engines.ray.pool import Pool
from simulation.engines.ray.slots import Ticket
from simulation.runs.run import Listener, simulate
from tests.simulation.conftest import SMALL


class Script(Listener):
    """Kill a node in the middle of round 2, add one when round 2 is told."""

    def __init__(self, cluster: Cluster, victim: Any) -> None:
        self.cluster, self.victim, self.round = cluster, victim, 1
        self.grid: Any = None
        self.joined = ""

    def clients(self, kind: str, clients: int, examples: int) -> None:
        if kind == "train" and self.round == 2 and self.victim is not None:
            self.cluster.remove_node(self.victim, allow_graceful=False)
            self.victim = None

    def line(self, record: Mapping[str, Any]) -> None:
        self.round = record["round"] + 2  # The line comes while the next round trains.
        if record["round"] == 2:
            self.joined = self.cluster.add_node(num_cpus=1).node_id
        if record["round"] == 4:
            # A worker that was asked for a round ago: wait for its TensorFlow.
            end = time.monotonic() + 120
            while not all(s.opened for s in self.grid.pool.slots) and time.monotonic() < end:
                with suppress(TimeoutError):
                    self.grid.pool.wait(Ticket(self.grid._pool_run), 0.5)


def main(out: Path) -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    victim = cluster.add_node(num_cpus=1)
    stays = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    script = Script(cluster, victim)
    work: Counter[str] = Counter()
    where: dict[Any, str] = {}
    done, made = Pool._done, RayEngine.start

    def count(pool: Pool, slot: Any, ticket: Any, status: Any) -> None:
        if isinstance(ticket.call, Train):
            key = slot.actor._actor_id
            if key not in where:
                where[key] = ray.get(slot.actor.where.remote())[0]
            work[where[key]] += 1
        done(pool, slot, ticket, status)

    def start(grid: RayEngine, *given: Any) -> None:
        script.grid = grid
        made(grid, *given)

    Pool._done, RayEngine.start = count, start  # type: ignore[method-assign]
    resources = {"engine": "ray", "address": cluster.address}
    experiment = parse({**SMALL, "strategy": "scaffold", "rounds": 7, "resources": resources})
    result = simulate(experiment, out=out, listener=script)
    found = {
        "weights": result.summary["weights_sha256"],
        "rounds": [r["round"] for r in result.rounds],
        "lost": result.summary["clients_lost"],
        "victim": work[victim.node_id],
        "stayed": work[stays.node_id],
        "joined": work[script.joined],
        "workers": script.grid.workers if script.grid.pool.slots else 2,
    }
    print(json.dumps(found))
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
