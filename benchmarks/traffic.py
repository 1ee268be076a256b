"""Bytes between hosts in a round, at their links, against what a round cannot do without.

They are counted where they arrive: at the hosts that train, whoever has sent them, as Ray lets a
host have the model from another one; and at the driver's, which gets the sums.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.common import Report, say, verdict
from tests.hosts.network import Host, network
from tests.hosts.runs import HostCluster

ROUNDS = 8
"""The first two and the last are left out: workers begin, and the model is saved."""

MODEL, PARAMETERS = "cnn", 225_034
"""A model whose size makes Ray's own messages small."""

IDEAL = 1.2
"""Times the ideal that the traffic should be at most."""


def measure(nodes: int) -> dict[str, Any]:
    """Run on so many hosts; return bytes a round and node, each way, and the ideal.

    The ideal is the model, float32, once to each node, and one partial sum of each, float64, at
    the driver's host.
    """
    say(f"traffic of {nodes} nodes")
    names = [f"node{n}" for n in range(nodes)]
    counts: list[list[int]] = []
    with tempfile.TemporaryDirectory() as folder, network(("desk", *names)) as net:
        hosts = [net[name] for name in (*names, "desk")]
        cluster = HostCluster(net, Path(folder))
        cluster.start(tuple(names), head="desk")
        found = cluster.run(
            "traffic", None, "desk", "--model", MODEL, "--cohort", "80", rounds=ROUNDS,
            seen=lambda: counts.append([bytes_of(host) for host in hosts]),
        )  # fmt: skip
    if found.status != 0:
        raise SystemExit(f"the run failed: {found.said}")
    first, last = counts[2], counts[ROUNDS - 1]
    rounds = ROUNDS - 1 - 2
    *to, back = (b - a for a, b in zip(first, last, strict=True))
    return {
        "nodes": nodes,
        "to": sum(to) / rounds / nodes,
        "back": back / rounds / nodes,
        "ideal_to": 4 * PARAMETERS,
        "ideal_back": 8 * PARAMETERS,
        "seconds": found.typical,
    }


def bytes_of(host: Host) -> int:
    """Return how many bytes have arrived at a host."""
    words = ("ip", "-n", host.switch, "-s", "-j", "link", "show", "dev", host.port)
    asked = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    # The port is the switch's end of the link: what it sends goes to the host.
    return int(json.loads(asked)[0]["stats64"]["tx"]["bytes"])


def tell(report: Report, found: list[dict[str, Any]]) -> None:
    """Add a table of the traffic."""
    report.data["traffic"] = found
    rows = []
    for one in found:
        ratios = one["to"] / one["ideal_to"], one["back"] / one["ideal_back"]
        rows.append(
            [
                one["nodes"],
                *(f"{one[way] / 1e6:.2f}" for way in ("to", "ideal_to", "back", "ideal_back")),
                *(f"{ratio:.2f}" for ratio in ratios),
                verdict(max(ratios) <= IDEAL),
            ]
        )
    report.text(
        f"Traffic of a round and node: 80 clients of 150 images, a model of {PARAMETERS:,} "
        "parameters. The ideal is the model once to each node, and one partial sum of each at the "
        "driver's host. Bytes are counted where they arrive."
    )
    header = ("nodes", "MB to a node", "ideal", "MB back", "ideal", "to, times", "back, times")
    report.table((*header, f"at most {IDEAL}"), rows)
