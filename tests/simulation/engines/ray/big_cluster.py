"""A thousand clients on four nodes with different resources: by address, and by ``ray job submit``.

``main`` makes the cluster (Ray's dashboard too, where ``ray[default]`` is installed) and prints one
JSON object; ``drive`` is the driver, in a process or job of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from simulation.config.experiment import Experiment, parse

ROOT = Path(__file__).parents[4]


def experiment(**resources: Any) -> Experiment:
    """A thousand clients with a tiny model, of five or six images each."""
    return parse(
        {
            "dataset": "fashion-mnist-mini",
            "model": "logistic",
            "clients": 1000,
            "rounds": 2,
            "partition": {"kind": "iid"},
            "resources": resources,
        }
    )


def drive(out: Path, address: str | None) -> None:
    """Run the experiment and note its weights, and how much each node has trained."""
    import ray

    from simulation.engines.ray.pool import Pool
    from simulation.runs.run import simulate

    work: Counter[str] = Counter()
    names: set[str] = set()
    where: dict[Any, str] = {}
    done = Pool._done

    def count(pool: Pool, slot: Any, ticket: Any, status: Any) -> None:
        if ticket.name == "train":
            key = slot.actor._actor_id
            if key not in where:
                where[key] = ray.get(slot.actor.where.remote())[0]
            work[where[key]] += 1
            names.add(ticket.title)
        done(pool, slot, ticket, status)

    Pool._done = count  # type: ignore[method-assign]
    result = simulate(experiment(address=address), out=out)
    found = {
        "weights": result.summary["weights_sha256"],
        "lost": result.summary["clients_lost"],
        "work": work,
        "names": sorted(names),
    }
    out.with_suffix(".json").write_text(json.dumps(found))


def main(folder: Path) -> None:
    """Make a cluster, and drive the experiment on it in two ways."""
    from ray.cluster_utils import Cluster

    from examples.deployment.__main__ import free_ports

    (port,) = free_ports(1)
    jobs = find_spec("opencensus") is not None and find_spec("aiohttp_cors") is not None
    head = {"num_cpus": 0, "include_dashboard": jobs, "dashboard_port": port}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    nodes = [
        cluster.add_node(num_cpus=1, object_store_memory=100 * 2**20),
        cluster.add_node(num_cpus=2, object_store_memory=200 * 2**20, resources={"big": 1}),
        cluster.add_node(num_cpus=1, num_gpus=1, object_store_memory=100 * 2**20),
    ]
    cluster.wait_for_nodes()
    module = (sys.executable, "-m", "tests.simulation.engines.ray.big_cluster", "drive")
    attached, job = folder / "attached", folder / "job"
    subprocess.run([*module, str(attached), cluster.address], check=True, cwd=ROOT)
    found = {
        "nodes": [node.node_id for node in nodes],
        "attached": json.loads(attached.with_suffix(".json").read_text()),
    }
    if jobs:
        ray = Path(sysconfig.get_path("scripts")) / "ray"
        submit = [str(ray), "job", "submit", "--address", f"http://127.0.0.1:{port}"]
        subprocess.run([*submit, "--", *module, str(job)], check=True, stdout=sys.stderr)
        found["job"] = json.loads(job.with_suffix(".json").read_text())
    print(json.dumps(found))
    cluster.shutdown()


if __name__ == "__main__":
    if sys.argv[1] == "drive":
        drive(Path(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else None)
    else:
        main(Path(sys.argv[1]))
