"""What the doctor finds about GPUs, with doubles of what nvidia-smi and JAX say."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from simulation.cli import doctor_gpus
from simulation.cli.doctor_gpus import Card
from simulation.cli.findings import Finding
from simulation.config import sections

CARD = Card("0", "GPU-a", "NVIDIA H100", 400, 81_559, "550.54")


def told(answer: dict[str, Any]) -> Finding:
    (one,) = doctor_gpus.told(answer, [CARD])
    return one


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which nvidia-smi tells of two GPUs, of which others use the second one."""
    program = tmp_path / "nvidia-smi"
    program.write_text(
        "#!/bin/sh\n"
        'case "$1" in\n'
        "--query-gpu*)\n"
        "echo '0, GPU-a, NVIDIA H100, 400, 81559, 550.54'\n"
        "echo '1, GPU-b, NVIDIA H100, 61000, 81559, 550.54'\n"
        "echo '2, GPU-c, NVIDIA GB10, [N/A], [N/A], 550.54' ;;\n"
        "*) echo 'GPU-b, 4711, python' ;;\n"
        "esac\n"
    )
    program.chmod(0o755)
    monkeypatch.setattr(doctor_gpus.shutil, "which", lambda name: str(program))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_gpus.shutil, "which", lambda name: None)
    gpus, library = doctor_gpus.findings()
    assert (gpus.state, gpus.found) == ("ok", "none; workers use CPUs")
    assert (library.what, library.state) == ("backend", "ok")
    assert library.found.startswith("tensorflow, as there is no GPU")


def test_gpus_are_those_that_the_process_may_use(
    smi: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = doctor_gpus.cards()
    assert one == CARD
    assert (two.used, two.users) == (61_000, ("process 4711 (python)",))
    for seen, indices in (("1", ["1"]), ("GPU-a", ["0"]), ("-1", []), ("", [])):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", seen)
        assert [card.index for card in doctor_gpus.cards()] == indices


def test_memory_that_others_have(smi: None) -> None:
    (one,) = doctor_gpus.taken(doctor_gpus.cards())
    assert one.state == "note"
    assert one.found == "GPU 1: 60 of 80 GiB are taken by process 4711 (python)"
    assert one.mend == "end it, or --client-gpus 0.23: a worker takes no more than that share"
    full = Card("0", "GPU-a", "NVIDIA H100", 81_000, 81_559, "550.54")
    (one,) = doctor_gpus.taken([full])
    assert one.mend == "end it"


@pytest.mark.parametrize(
    ("answer", "state", "found", "mend"),
    [
        ({"jax": "0.10.2", "plugins": ["jax_cuda12_plugin"], "devices": ["NVIDIA H100"]}, "ok",
         "0.10.2 on NVIDIA H100", ""),
        ({"missing": "No module named 'jax'"}, "note",
         "not installed (No module named 'jax')", "pip install 'sunflower-fl[gpu]'"),
        ({"jax": "0.10.2", "plugins": []}, "note",
         "0.10.2, without its CUDA plugin: it cannot use the GPU",
         "pip install 'sunflower-fl[gpu]'"),
        ({"error": "RuntimeError: Backend 'cuda' failed to initialize: CUDA driver version is\n "
                   "insufficient for CUDA runtime version"}, "note",
         "cannot use the GPU: RuntimeError: Backend 'cuda' failed to initialize: CUDA driver "
         "version is insufficient for CUDA runtime version",
         "update NVIDIA's driver (550.54 is here), or install an older JAX; until then --backend "
         "tensorflow"),
        ({"error": "Outdated cuDNN installation found. Minimum supported: 9100"}, "note",
         "cannot use the GPU: Outdated cuDNN installation found. Minimum supported: 9100",
         "unset LD_LIBRARY_PATH, and pip install 'sunflower-fl[gpu]' into an environment of its "
         "own; until then --backend tensorflow"),
        ({"error": "XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory"}, "note",
         "cannot use the GPU: XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory",
         "end the programs that hold the GPU's memory (nvidia-smi lists them); until then "
         "--backend tensorflow"),
        ({"error": "not ready after 120 s"}, "note", "cannot use the GPU: not ready after 120 s",
         "pip install 'sunflower-fl[gpu]' into an environment of its own; until then --backend "
         "tensorflow"),
    ],
)  # fmt: skip
def test_what_jax_says(answer: dict[str, Any], state: str, found: str, mend: str) -> None:
    one = told(answer)
    assert (one.what, one.state, one.found, one.mend) == ("JAX", state, found, mend)


@pytest.mark.parametrize("plugin", [True, False])
def test_the_backend_is_the_one_that_runs_would_have(
    smi: None, monkeypatch: pytest.MonkeyPatch, plugin: bool
) -> None:
    monkeypatch.setattr(sections, "find_spec", lambda name: object() if plugin else None)
    monkeypatch.setattr(doctor_gpus, "ask", lambda: {"missing": "No module named 'jax'"})
    last = list(doctor_gpus.findings())[-1]
    assert last.what == "backend"
    assert last.found.startswith("jax with" if plugin else "tensorflow with --client-gpus")


def test_jax_is_asked_in_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    before = "jax" in sys.modules
    monkeypatch.setattr(doctor_gpus, "ASK", "print('warnings of its own'); print('{\"a\": 1}')")
    assert doctor_gpus.ask() == {"a": 1}
    monkeypatch.setattr(doctor_gpus, "ASK", "raise OSError('libcuda.so.1: cannot open')")
    assert doctor_gpus.ask() == {"error": "OSError: libcuda.so.1: cannot open"}
    assert ("jax" in sys.modules) == before


def test_jax_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(*_: Any, **more: Any) -> Any:
        raise subprocess.TimeoutExpired("python", more["timeout"])

    monkeypatch.setattr(doctor_gpus.subprocess, "run", hang)
    assert doctor_gpus.ask() == {"error": "not ready after 120 s"}


def test_the_question_can_be_asked_of_what_is_installed_here() -> None:
    """Without a double: JAX is not here, or here without the plugin for CUDA."""
    answer = doctor_gpus.ask()
    assert ("missing" in answer) == (find_spec("jax") is None)
    (one,) = doctor_gpus.told(answer, [CARD])
    assert one.what == "JAX"
