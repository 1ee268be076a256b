"""Links that fail, hosts that lose their power: what it costs, what is said; the bits are equal."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pandas as pd
import pytest

from tests.hosts.runs import LINKS, LONG, HostCluster, Outcome

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


def test_the_drivers_link_is_cut_for_long(patient: HostCluster, calm: Outcome) -> None:
    """Where Ray is told to wait for a host: with its own limits it counts the desk as dead."""
    assert_same(patient.run("desk-30", lambda: patient.net["desk"].cut_for(30.0)), calm, 30.0)


@pytest.mark.parametrize("seconds", [5.0])
def test_the_heads_link_is_cut(lasting: HostCluster, calm: Outcome, seconds: float) -> None:
    found = lasting.run(f"head-{seconds:g}", lambda: lasting.net["head"].cut_for(seconds))
    assert_same(found, calm, seconds)


@pytest.mark.parametrize("link", LINKS, ids=LINKS)
def test_a_workers_link_is_bad(lasting: HostCluster, calm: Outcome, link: str) -> None:
    lasting.net["one"].shape(**LINKS[link])
    try:
        found = lasting.run(f"bad {link}".replace(" ", "-"))
    finally:
        lasting.net["one"].unshape()
    # With 100 ms, rounds were three times as long, and one in five took 45 s more.
    assert_same(found, calm, 45.0 if "ms" in link else 0.0)


def test_a_workers_host_loses_its_power(fresh: HostCluster, calm: Outcome) -> None:
    found = fresh.run("power", fresh.net["one"].power_off)
    # One of two workers is left, which needs twice as long.
    assert_same(found, calm, calm.longest)
    assert re.search(r"calls\s+go\s+to\s+others\s+too", found.said)


def test_a_host_comes_late(fresh: HostCluster, long_calm: Outcome) -> None:
    late = fresh.net["spare"]
    began = lambda: late.start_ray(fresh.net["head"], cpus=1)  # noqa: E731
    found = fresh.run("late", began, rounds=LONG)
    assert_same(found, long_calm, 0.0)
    work = pd.read_parquet(fresh.folder / "late" / "timeline.parquet")
    trained = work[work["kind"] == "train"].groupby("node")["round"].min()
    # Ray starts there, and then TensorFlow: some 12 s.
    assert len(trained) == 3 and 2 < trained.max() < LONG, trained


@pytest.fixture
def other_tensorflow(tmp_path: Path) -> Path:
    """A folder that makes the installed TensorFlow look like another version."""
    told = tmp_path / "other" / "tensorflow-1.2.3.dist-info" / "METADATA"
    told.parent.mkdir(parents=True)
    told.write_text("Metadata-Version: 2.1\nName: tensorflow\nVersion: 1.2.3\n")
    return tmp_path / "other"


def test_a_host_has_other_versions(fresh: HostCluster, other_tensorflow: Path) -> None:
    """As it comes late, it gets no work; a run that finds it there does not begin."""
    spare, head = fresh.net["spare"], fresh.net["head"]
    began = lambda: spare.start_ray(head, modules=other_tensorflow)  # noqa: E731
    found = fresh.run("late", began, rounds=LONG)
    wrong = f"{spare.address} has tensorflow 1.2.3 instead of"
    said = " ".join(found.said.split())
    assert found.status == 0 and f"{wrong} " in said and "it gets no work" in said, said
    work = pd.read_parquet(fresh.folder / "late" / "timeline.parquet")
    assert work["node"].nunique() == 2
    spare.wait_for_ray()
    found = fresh.run("not begun")
    assert found.status == 2 and not found.lines, found.said
    (line,) = [one for one in found.said.splitlines() if one.startswith("sunflower:")]
    assert "must be that of a cluster whose hosts have the same versions" in line and wrong in line


def test_the_heads_host_loses_its_power(fresh: HostCluster, long_calm: Outcome) -> None:
    net = fresh.net
    found = fresh.run("head", net["head"].power_off, rounds=LONG)
    assert found.status == 1, found.said
    assert found.ended < 20 + 2, found.said
    (line,) = [one for one in found.said.splitlines() if one.startswith("sunflower:")]
    assert "the cluster's head is out of reach: nothing answers at" in line
    assert f"go on with: sunflower run --resume --out {fresh.folder / 'head'}" in line
    # The run folder lies on the driver's host: another cluster goes on with it.
    for name in ("desk", "one", "two"):
        net[name].kill()
    fresh.start(head="spare")
    again = fresh.run("head", None, "desk", "--resume", rounds=LONG)
    assert again.status == 0, again.said
    assert again.weights == long_calm.weights and again.summary["clients_lost"] == 0


def test_the_agent_of_the_drivers_host_is_killed(fresh: HostCluster, long_calm: Outcome) -> None:
    found = fresh.run("agent", lambda: fresh.net["desk"].kill_one("raylet"), rounds=LONG)
    assert found.status == 1 and found.ended < 15, found.said
    (line,) = [one for one in found.said.splitlines() if one.startswith("sunflower:")]
    assert "Ray's agent on this machine (raylet) has died" in line
    assert f"go on with: sunflower run --resume --out {fresh.folder / 'agent'}" in line
    fresh.net["desk"].kill()
    fresh.net["desk"].start_ray(fresh.net["head"], cpus=0)
    fresh.net["desk"].wait_for_ray()
    again = fresh.run("agent", None, "desk", "--resume", rounds=LONG)
    assert again.status == 0 and again.weights == long_calm.weights, again.said


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
