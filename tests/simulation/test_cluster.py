"""Clusters: what travels to the nodes, jobs, and the files for clouds, Kubernetes and Slurm."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from simulation import ship
from simulation.cluster import address_of
from simulation.experiment import Resources, parse
from simulation.options import OPTIONS
from simulation.run import simulate
from strategies import FedAvg
from tests.simulation.big_cluster import experiment

ROOT = Path(__file__).parents[2]
FILES = ROOT / "examples/cluster"


def test_what_travels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Our three packages, the user's modules and what these import; nothing that is installed."""
    for name, text in {
        "my_models.py": "import json, numpy, my_layers\ndef build(): ...",
        "my_layers.py": "from my_package import blocks",
        "my_package/__init__.py": "",
        "my_package/blocks.py": "import my_models",
        "unused.py": "",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    run = parse({"model": "my_models:build", "dataset": "numpy:load"})
    found = ship.packages(ship.modules_of(run, FedAvg()))
    ours = [str(ROOT / name) for name in ("simulation", "strategies", "analysis")]
    users = [str(tmp_path / name) for name in ("my_models.py", "my_layers.py", "my_package")]
    assert found == [*ours, *users]
    assert ship.runtime_env(found)["py_modules"] == found
    assert ship.runtime_env([]) == {}


def test_an_app_travels_with_its_folder(tmp_path: Path) -> None:
    (tmp_path / "tfexample").mkdir()
    (tmp_path / "tfexample/__init__.py").write_text("")
    (tmp_path / "helper.py").write_text("")
    (tmp_path / "data").mkdir()
    found = ship.packages(folders=[tmp_path])
    assert found[3:] == [str(tmp_path / "helper.py"), str(tmp_path / "tfexample")]


def test_the_strategy_of_a_script_travels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    from examples.my_strategy import signed

    assert "examples.my_strategy" in ship.modules_of(parse({}), signed())


@pytest.mark.parametrize(
    ("given", "variable", "address"),
    [
        (None, None, None),
        (None, "10.0.0.1:6379", "10.0.0.1:6379"),
        (None, "http://10.0.0.1:8265", None),  # of the jobs' server: no cluster to join
        ("auto", "10.0.0.1:6379", "auto"),
    ],
)
def test_the_address_of_a_job(
    given: str | None, variable: str | None, address: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if variable is not None:
        monkeypatch.setenv("RAY_ADDRESS", variable)
    assert address_of(Resources(address=given)) == address


def commands(text: str) -> list[str]:
    """The options of every ``sunflower run`` in a text."""
    joined = re.sub(r"\\\n", " ", text)
    found = re.findall(r"sunflower run (.*)", joined)
    return [flag for line in found for flag in re.findall(r"--[a-z-]+", line)]


def test_the_cloud_file() -> None:
    text = (FILES / "aws.yaml").read_text()
    found: dict[str, Any] = yaml.safe_load(text)
    types = found["available_node_types"]
    assert found["head_node_type"] in types
    assert types["head"]["resources"] == {"CPU": 0}
    assert sum(t["max_workers"] for t in types.values()) <= found["max_workers"]
    assert any("sunflower-fl" in line for line in found["setup_commands"])


def test_the_kubernetes_file() -> None:
    text = (FILES / "rayjob.yaml").read_text()
    found: dict[str, Any] = yaml.safe_load(text)
    assert (found["apiVersion"], found["kind"]) == ("ray.io/v1", "RayJob")
    spec = found["spec"]["rayClusterSpec"]
    groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    images = {c["image"] for g in groups for c in g["template"]["spec"]["containers"]}
    assert len(images) == 1  # the same Python and Ray everywhere
    mounts = groups[0]["template"]["spec"]["containers"][0]["volumeMounts"]
    assert found["spec"]["entrypoint"].split()[-1].startswith(mounts[0]["mountPath"])
    flags = re.findall(r"--[a-z-]+", found["spec"]["entrypoint"])
    assert set(flags) <= {option.flag for option in OPTIONS} | {"--out"}


def test_the_slurm_script() -> None:
    subprocess.run(["bash", "-n", str(FILES / "slurm.sh")], check=True)
    text = (FILES / "slurm.sh").read_text()
    flags = commands(text)
    assert flags and set(flags) <= {option.flag for option in OPTIONS} | {"--out"}
    options = re.findall(r"^#SBATCH (--[a-z-]+)", text, flags=re.MULTILINE)
    assert {"--nodes", "--ntasks-per-node", "--time"} <= set(options)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_a_thousand_clients_on_four_nodes(tmp_path: Path) -> None:
    """By address, and by ``ray job submit`` where ``ray[default]`` is installed."""
    ran = subprocess.run(
        [sys.executable, "-m", "tests.simulation.big_cluster", str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    found = json.loads(ran.stdout.splitlines()[-1])
    alone = simulate(experiment(engine="inline"), out=tmp_path / "alone")
    for way in [way for way in ("attached", "job") if way in found]:
        assert found[way]["weights"] == alone.summary["weights_sha256"]
        assert found[way]["lost"] == 0
        assert all(found[way]["work"].get(node, 0) > 0 for node in found["nodes"])
        assert found[way]["names"] == ["round 1: train", "round 2: train"]
