"""A cluster that others use too, and hosts and jobs that come and go with notice."""

from __future__ import annotations

import re
import signal
import sys
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

import pytest

from tests.hosts.runs import HostCluster, Outcome

pytestmark = [pytest.mark.soak, pytest.mark.timeout(600)]

LEFT = """
import json, sys, time
import ray
from ray._private.state import actors
from ray.util import placement_group_table
ray.init("auto", log_to_driver=False)
began, limit = time.monotonic(), float(sys.argv[1])
while True:
    every, free = ray.cluster_resources(), ray.available_resources()
    left = [one["Name"] for one in actors().values() if one["State"] != "DEAD"]
    groups = [one for one in placement_group_table().values() if one["state"] != "REMOVED"]
    held = {k: every[k] - free.get(k, 0) for k in every if every[k] - free.get(k, 0) > 0.001}
    left += [*groups, *held.items()]
    if not left or time.monotonic() - began > limit:
        break
    time.sleep(0.5)
print(json.dumps(left))
"""
"""Prints what a run has left on a cluster: actors, placement groups, CPUs, objects' memory."""


def left_on(cluster: HostCluster, seconds: float) -> str:
    """Return what is left after so many seconds at most."""
    asked = cluster.net["head"].start(sys.executable, "-c", LEFT, str(seconds), stdout=PIPE)
    return str(asked.communicate()[0].decode().splitlines()[-1])


@pytest.mark.parametrize(
    ("how", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]
)
def test_nothing_is_left_of_a_run_that_is_ended(
    lasting: HostCluster, calm: Outcome, how: signal.Signals, status: int
) -> None:
    """Neither is it of one that goes on: with ``--resume``, as Slurm puts a job back."""
    name = f"ended-{how.name}"
    found = lasting.run(name, lambda: lasting.signal(how))
    assert found.status == status, found.said
    assert left_on(lasting, 30.0) == "[]"
    again = lasting.run(name, None, "desk", "--resume")
    assert again.status == 0, again.said
    assert again.weights == calm.weights and again.summary["clients_lost"] == 0
    assert left_on(lasting, 30.0) == "[]"


def test_nothing_is_left_of_a_driver_whose_host_loses_its_power(quick: HostCluster) -> None:
    """Sums of the round under way stay until Ray gives up to ask the driver about them."""
    quick.run("power", quick.net["desk"].power_off)
    assert left_on(quick, 30.0) == "[]"


def test_a_second_run_waits_and_says_for_what(lasting: HostCluster, calm: Outcome) -> None:
    """It begins when the first has gone."""
    second = list[Popen[Any]]()
    first = lasting.run("first", lambda: second.append(lasting.start_run("second", rounds=2)))
    assert first.status == 0 and first.weights == calm.weights, first.said
    found = lasting.outcome(second[0], "second")
    assert found.status == 0, found.said
    said = " ".join(found.said.split())
    waits = r"waiting since \d+ s for 2 workers that get ready; for one, it needs 1 CPUs"
    assert re.search(f"{waits}, and 0 of 2 are free", said), said


def test_two_runs_share_a_cluster_by_their_workers(lasting: HostCluster, calm: Outcome) -> None:
    """With ``--workers 1`` each, both have one of the two hosts, and equal bits."""
    second = lasting.start_run("half", "desk", "--workers", "1")
    first = lasting.run("other-half", None, "desk", "--workers", "1")
    other = lasting.outcome(second, "half")
    assert first.status == 0 and first.weights == calm.weights, first.said
    assert other.status == 0 and other.weights == calm.weights, other.said
    assert "waiting" not in first.said


def drain(cluster: HostCluster, host: str, seconds: int) -> Callable[[], None]:
    """Return what gives a host notice, and takes its power after so many seconds."""
    net = cluster.net
    program = (
        "import ray, subprocess, sys; ray.init('auto', log_to_driver=False);"
        "node = [n['NodeID'] for n in ray.nodes() if n['NodeManagerAddress'] == sys.argv[1]][0];"
        "subprocess.run([sys.argv[4], 'drain-node', '--address', sys.argv[2], '--node-id', node,"
        "'--reason', 'DRAIN_NODE_REASON_PREEMPTION', '--reason-message', 'spot',"
        "'--deadline-remaining-seconds', sys.argv[3]], check=True)"
    )

    def notice() -> None:
        ray = str(Path(sysconfig.get_path("scripts")) / "ray")
        words = (net[host].address, cluster.address, str(seconds), ray)
        assert net["head"].start(sys.executable, "-c", program, *words).wait() == 0
        time.sleep(seconds)
        net[host].power_off()

    return notice


def test_a_host_goes_with_notice(fresh: HostCluster, calm: Outcome) -> None:
    """As spot machines do: nothing is lost."""
    found = fresh.run("spot", drain(fresh, "one", 5))
    assert found.status == 0, found.said
    assert found.weights == calm.weights and found.summary["clients_lost"] == 0
