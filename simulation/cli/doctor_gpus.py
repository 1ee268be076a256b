"""What ``sunflower doctor`` finds about GPUs: who can use them, and which backend runs would have.

JAX is asked in a process of its own, in its own words where it fails.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from simulation.cli.findings import Finding
from simulation.config.sections import Resources
from simulation.training.backend import backend

PATIENCE = 120.0
"""Seconds that JAX gets to start on a GPU."""

TAKEN = 0.25
"""Part of a GPU's memory that others may have before it is worth a word."""

INSTALL = "pip install 'sunflower-fl[gpu]'"

ASK = """
import json
from importlib.util import find_spec
try:
    import jax
except ImportError as error:
    print(json.dumps({"missing": str(error)}))
    raise SystemExit
plugins = [n for n in ("jax_cuda12_plugin", "jax_cuda13_plugin") if find_spec(n) is not None]
told = {"jax": jax.__version__, "plugins": plugins}
if plugins:
    try:
        devices = jax.devices("cuda")
        ones = jax.device_put(jax.numpy.ones((8, 8)), devices[0])
        assert float((ones @ ones).sum()) == 512.0
        told["devices"] = [d.device_kind for d in devices]
    except Exception as error:
        told["error"] = f"{type(error).__name__}: {error}"
print(json.dumps(told))
"""

CARDS = ("--query-gpu=index,uuid,name,memory.used,memory.total,driver_version",)
USERS = ("--query-compute-apps=gpu_uuid,pid,process_name",)
FORMAT = "--format=csv,noheader,nounits"


@dataclass(frozen=True)
class Card:
    """A GPU as nvidia-smi tells of it; memory in MiB; ``users``: who computes on it."""

    index: str
    uuid: str
    name: str
    used: int
    total: int
    driver: str
    users: tuple[str, ...] = ()


def findings() -> Iterator[Finding]:
    """Look at GPUs and at the backend that runs on them would have."""
    there = cards()  # before JAX takes memory of its own
    if not there:
        yield Finding("GPUs", "ok", "none; workers use CPUs")
        yield Finding("backend", "ok", "tensorflow, as there is no GPU (--backend jax runs too)")
        return
    names = ", ".join(f"{card.name} ({card.total / 1024:.0f} GiB)" for card in there)
    yield Finding("GPUs", "ok", f"{len(there)}: {names}")
    yield from taken(there)
    yield from told(ask(), there)
    library = Resources(client_gpus=1.0).library
    why = "JAX has its CUDA plugin" if library == "jax" else "JAX has no CUDA plugin here"
    found = f"{library} with --client-gpus, as {why}; tensorflow on processors"
    yield Finding("backend", "ok", found)


def cards() -> list[Card]:
    """Return the GPUs that this process may use; empty if nothing tells of any."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    found, users = (_rows([program, *query, FORMAT]) for query in (CARDS, USERS))
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    chosen = None if seen is None else [name.strip() for name in seen.split(",")]
    there = []
    for index, uuid, name, used, total, driver in (row for row in found if len(row) == 6):
        if not (used.isdigit() and total.isdigit()):
            continue  # "[N/A]": the memory is the machine's own
        if chosen is None or index in chosen or uuid in chosen:
            mine = tuple(f"process {user[1]} ({user[2]})" for user in users if user[0] == uuid)
            there.append(Card(index, uuid, name, int(used), int(total), driver, mine))
    return there


def _rows(command: Sequence[str]) -> list[list[str]]:
    try:
        asked = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [[cell.strip() for cell in line.split(",")] for line in asked.stdout.splitlines()]


def taken(there: Sequence[Card]) -> Iterator[Finding]:
    """Tell of GPUs whose memory others have."""
    for card in there:
        if card.used <= TAKEN * card.total:
            continue
        by = f" by {', '.join(card.users)}" if card.users else ""
        found = (
            f"GPU {card.index}: {card.used / 1024:.0f} of {card.total / 1024:.0f} GiB are taken{by}"
        )
        free = 0.9 * (card.total - card.used) / card.total
        mend = "end it"
        if free >= 0.05:
            mend += f", or --client-gpus {free:.2f}: a worker takes no more than that share"
        yield Finding("memory of GPUs", "note", found, mend)


def ask() -> dict[str, Any]:
    """Return what JAX says of the GPUs, in a process as a worker's."""
    environment = {**os.environ, **backend("jax").environment(1, 1.0)}
    command = [sys.executable, "-c", ASK]
    try:
        ran = subprocess.run(
            command, capture_output=True, text=True, timeout=PATIENCE, env=environment
        )
    except subprocess.TimeoutExpired:
        return {"error": f"not ready after {PATIENCE:.0f} s"}
    if ran.returncode != 0:
        lines = [line for line in ran.stderr.splitlines() if line.strip()]
        return {"error": lines[-1] if lines else f"it ended with status {ran.returncode}"}
    answer: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return answer


def told(answer: dict[str, Any], there: Sequence[Card]) -> Iterator[Finding]:
    """Tell whether JAX can use the GPUs, and how to mend it where it cannot."""
    if "missing" in answer:
        yield Finding("JAX", "note", f"not installed ({answer['missing']})", INSTALL)
    elif "error" in answer:
        text = " ".join(str(answer["error"]).split())
        yield Finding("JAX", "note", f"cannot use the GPU: {text[:300]}", mend(text, there))
    elif not answer["plugins"]:
        found = f"{answer['jax']}, without its CUDA plugin: it cannot use the GPU"
        yield Finding("JAX", "note", found, INSTALL)
    else:
        kinds = ", ".join(answer["devices"])
        yield Finding("JAX", "ok", f"{answer['jax']} on {kinds}")


def mend(error: str, there: Sequence[Card]) -> str:
    """Return how to mend what JAX says, with ``--backend tensorflow`` as the way round it."""
    low = error.lower()
    if "out of memory" in low or "out_of_memory" in low or "resource_exhausted" in low:
        how = "end the programs that hold the GPU's memory (nvidia-smi lists them)"
    elif "driver" in low or "no_device" in low or "system_not_ready" in low:
        versions = ", ".join(dict.fromkeys(card.driver for card in there))
        how = f"update NVIDIA's driver ({versions} is here), or install an older JAX"
    elif any(name in low for name in ("cudnn", "cusolver", "cublas", "cusparse", "outdated")):
        how = f"unset LD_LIBRARY_PATH, and {INSTALL} into an environment of its own"
    else:
        how = f"{INSTALL} into an environment of its own"
    return f"{how}; until then --backend tensorflow"
