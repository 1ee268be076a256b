"""Nodes that leave and join, and who can talk to the Ray that we start."""

from __future__ import annotations

import json
import subprocess
import sys
from ipaddress import ip_address
from pathlib import Path

import pytest

from simulation.config.experiment import parse
from simulation.runs.run import simulate
from tests.simulation.conftest import SMALL

LISTENERS = """
import json, psutil
from simulation.engines.ray.cluster import Cluster
from simulation.config.experiment import Resources
cluster = Cluster(Resources(workers=1))
import ray
ray.get(ray.remote(lambda: 1).remote())
found = []
for process in psutil.Process().children(recursive=True):
    spare = [part for part in process.cmdline() if part.endswith(("monitor.py", "dashboard.py"))]
    assert not spare, spare
    for c in process.net_connections("inet"):
        if c.status == psutil.CONN_LISTEN:
            found.append((process.name(), c.laddr.ip))
print(json.dumps(found))
cluster.close()
"""


@pytest.mark.soak
def test_a_node_leaves_in_mid_round_and_another_joins(tmp_path: Path) -> None:
    """With clients that keep state: nothing goes down with the node."""
    ran = subprocess.run(
        [sys.executable, "-m", "tests.simulation.engines.ray.three_nodes", str(tmp_path / "run")],
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    found = json.loads(ran.stdout.splitlines()[-1])
    alone = parse({**SMALL, "strategy": "scaffold", "rounds": 7})
    calm = simulate(alone, out=tmp_path / "calm")
    assert found["weights"] == calm.summary["weights_sha256"]
    assert found["rounds"] == list(range(8))
    assert found["lost"] == 0
    assert found["victim"] > 0 and found["stayed"] > 0 and found["joined"] > 0


@pytest.mark.slow
def test_ray_listens_on_the_loopback_address_only() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", LISTENERS], capture_output=True, text=True, timeout=120
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    found = json.loads(ran.stdout.splitlines()[-1])
    assert {"gcs_server", "raylet"} <= {name for name, _ in found}
    # 127.0.0.1 of a socket for both protocols is shown as ::ffff:127.0.0.1.
    addresses = [(name, ip_address(ip.removeprefix("::ffff:"))) for name, ip in found]
    assert not [(name, ip) for name, ip in addresses if not ip.is_loopback]
