"""Ray's agent on the driver's machine: where it dies, the run ends with one line, and goes on."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray

from simulation.engines.policy import POLICY
from simulation.engines.ray.agent import Agent, agent_of
from simulation.records.reading import read_json


def test_an_agent_that_is_killed_is_gone() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        agent = Agent(psutil.Process(process.pid))
        agent._looked -= POLICY.glance
        assert not agent.gone
        process.kill()
        time.sleep(0.1)
        assert not agent.gone  # It is looked for now and then.
        agent._looked -= POLICY.glance
        assert agent.gone  # As a zombie: nobody has waited for it yet.


def test_one_that_is_not_known_is_never_gone() -> None:
    agent = agent_of("no such node", [])
    agent._looked -= POLICY.glance
    assert not agent.gone


def test_the_agent_of_this_node_is_found(ray_cluster: Any) -> None:
    agent = agent_of(ray.get_runtime_context().get_node_id(), ray.nodes())
    assert agent._process is not None and agent._process.name() == "raylet"


@pytest.mark.soak
@pytest.mark.timeout(200)
def test_a_run_whose_agent_is_killed_ends_with_one_line_and_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ["run", "--model", "mlp", "--clients", "100", "--workers", "1"]
    words += ["--rounds", "8", "--out", str(out)]
    command = [sys.executable, "-m", "simulation.cli", *words]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        lines = out / "rounds.jsonl"
        while not (lines.exists() and len(lines.read_text().splitlines()) >= 2):
            assert process.poll() is None
            time.sleep(0.05)
        (agent,) = [p for p in psutil.Process(process.pid).children() if p.name() == "raylet"]
        agent.kill()
        killed = time.monotonic()
        _, said = process.communicate(timeout=60)
        assert process.returncode == 1, said
        assert time.monotonic() - killed < 10
    (line,) = [one for one in said.splitlines() if one.startswith("sunflower:")]
    assert "the run failed: Ray's agent on this machine (raylet) has died" in line
    assert line.endswith(f"go on with: sunflower run --resume --out {out}")
    again = subprocess.run([*command, "--resume"], capture_output=True, text=True, timeout=120)
    assert again.returncode == 0, again.stderr
    assert read_json(out / "summary.json")["rounds"] == 8
