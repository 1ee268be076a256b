"""Links that fail, hosts that lose their power: what it costs, what is said; the bits are equal."""

from __future__ import annotations

import re
import time

import pytest

from tests.hosts.runs import HostCluster, Outcome

pytestmark = [pytest.mark.soak, pytest.mark.timeout(600)]

SPARE = 15.0
"""Seconds that a fault may cost beyond the time that it lasts."""


def assert_same(found: Outcome, calm: Outcome, seconds: float) -> None:
    """The run went to its end with equal bits, and no round took longer than it may."""
    assert found.status == 0, found.said
    assert found.weights == calm.weights
    assert found.summary["clients_lost"] == 0
    assert found.longest <= calm.longest + seconds + SPARE, found.said


@pytest.mark.parametrize("seconds", [1.0, 5.0, 15.0, 30.0, 60.0])
def test_a_workers_link_is_cut(lasting: HostCluster, calm: Outcome, seconds: float) -> None:
    found = lasting.run(f"cut-{seconds:g}", lambda: lasting.net["one"].cut_for(seconds))
    assert_same(found, calm, seconds)
    if seconds >= 15:
        assert re.search(r"calls\s+go\s+to\s+others\s+too", found.said)


@pytest.mark.parametrize("seconds", [5.0, 15.0])
def test_the_drivers_link_is_cut(lasting: HostCluster, calm: Outcome, seconds: float) -> None:
    found = lasting.run(f"desk-{seconds:g}", lambda: lasting.net["desk"].cut_for(seconds))
    assert_same(found, calm, seconds)


@pytest.mark.parametrize("seconds", [5.0])
def test_the_heads_link_is_cut(lasting: HostCluster, calm: Outcome, seconds: float) -> None:
    found = lasting.run(f"head-{seconds:g}", lambda: lasting.net["head"].cut_for(seconds))
    assert_same(found, calm, seconds)


@pytest.mark.parametrize(
    "netem",
    [("loss", "1%"), ("loss", "5%"), ("delay", "100ms"), ("rate", "50mbit", "delay", "100ms")],
    ids=" ".join,
)
def test_a_workers_link_is_bad(lasting: HostCluster, calm: Outcome, netem: tuple[str, ...]) -> None:
    lasting.net["one"].shape(*netem)
    try:
        found = lasting.run("-".join(netem).replace("%", ""))
    finally:
        lasting.net["one"].unshape()
    assert_same(found, calm, 0.0)


def test_a_workers_host_loses_its_power(fresh: HostCluster, calm: Outcome) -> None:
    found = fresh.run("power", fresh.net["one"].power_off)
    # One of two workers is left, which needs twice as long.
    assert_same(found, calm, calm.longest)
    assert re.search(r"calls\s+go\s+to\s+others\s+too", found.said)


def test_a_host_comes_late(fresh: HostCluster, calm: Outcome) -> None:
    late = fresh.net["spare"]
    found = fresh.run("late", lambda: late.start_ray(fresh.net["head"], cpus=1), rounds=5)
    assert_same(found, calm, 0.0)


def test_the_heads_host_loses_its_power(fresh: HostCluster) -> None:
    net, rounds = fresh.net, 9
    found = fresh.run("head", net["head"].power_off, rounds=rounds)
    assert found.status == 1, found.said
    assert found.ended < 20 + 2, found.said
    (line,) = [one for one in found.said.splitlines() if one.startswith("sunflower:")]
    assert "the cluster's head is out of reach: nothing answers at" in line
    assert f"go on with: sunflower run --resume --out {fresh.folder / 'head'}" in line
    # The run folder lies on the driver's host: another cluster goes on with it.
    for name in ("desk", "one", "two"):
        net[name].kill()
    fresh.start(head="spare")
    again = fresh.run("head", None, "desk", "--resume", rounds=rounds)
    assert again.status == 0, again.said
    whole = fresh.run("whole", rounds=rounds)
    assert again.weights == whole.weights and again.summary["clients_lost"] == 0


def test_the_head_goes_as_the_run_ends(fresh: HostCluster) -> None:
    """What was computed is written; nobody waits for Ray to take leave."""
    found = fresh.run("end", fresh.net["head"].power_off, rounds=2)
    assert found.status == 0, found.said
    assert found.ended < 30 and found.weights


def test_a_machine_that_is_no_node(fresh: HostCluster) -> None:
    began = time.monotonic()
    found = fresh.run("outside", None, "spare", address=fresh.address)
    assert found.status == 2 and time.monotonic() - began < 20
    assert "this machine is no node of that cluster" in found.said
    assert f"ray start --address={fresh.address}" in " ".join(found.said.split())
    closed = fresh.run("closed", None, "desk", address=f"{fresh.net['head'].address}:6399")
    assert closed.status == 2 and "nobody listens" in closed.said
    fresh.net["two"].cut()
    began = time.monotonic()
    silent = fresh.run("silent", None, "desk", address=f"{fresh.net['two'].address}:6379")
    assert silent.status == 2 and time.monotonic() - began < 20
    assert "nothing answers" in silent.said
