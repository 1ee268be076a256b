"""What ``sunflower doctor`` looks at: whether this machine can run what Sunflower runs.

Every check is a function that returns findings: what it looked at, whether it is well, what it
found, and how to mend it. TensorFlow is asked in a process of its own, and so is JAX (see
:mod:`.doctor_gpus`).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

from simulation.cli import doctor_gpus
from simulation.cli.endings import first_line
from simulation.cli.findings import Finding
from simulation.config.errors import one_line
from simulation.config.sizes import gib
from simulation.training.backend import backend

PACKAGE = "sunflower-fl"

PYTHON = (3, 11), (3, 13)
"""The oldest and the newest Python."""

SPACE = 2 * 2**30
"""Bytes that a disk, or shared memory, should have free."""

TENSORFLOW_PATIENCE = 180.0
"""Seconds that TensorFlow gets to start."""

ASK = """
import json, time
began = time.perf_counter()
import keras, tensorflow as tf
total = float(tf.reduce_sum(tf.ones((8, 8)) @ tf.ones((8, 8))))
assert total == 512.0, total
gpus = [d.name for d in tf.config.list_physical_devices("GPU")]
print(json.dumps({"tensorflow": tf.__version__, "keras": keras.__version__, "gpus": gpus,
                  "backend": keras.backend.backend(), "seconds": time.perf_counter() - began}))
"""


def python() -> Iterator[Finding]:
    """Look at Python's version."""
    here, (first, last) = sys.version_info[:2], PYTHON
    text = ".".join(map(str, sys.version_info[:3]))
    if first <= here <= last:
        yield Finding("Python", "ok", text)
    else:
        span = " to ".join(".".join(map(str, v)) for v in PYTHON)
        yield Finding("Python", "broken", text, f"make an environment with Python {span}")


def packages() -> Iterator[Finding]:
    """Look at the packages that Sunflower needs: are they there, in versions that it knows?"""
    from packaging.requirements import Requirement

    try:
        needs = [Requirement(text) for text in metadata.requires(PACKAGE) or ()]
    except metadata.PackageNotFoundError:
        yield Finding("packages", "note", f"{PACKAGE} is not installed", "pip install .")
        return
    wrong, count = [], 0
    for need in needs:
        if need.marker is not None and not need.marker.evaluate({"extra": ""}):
            continue
        count += 1
        try:
            version = metadata.version(need.name)
        except metadata.PackageNotFoundError:
            wrong.append((f"{need.name} is missing", str(need)))
            continue
        if not need.specifier.contains(version, prereleases=True):
            wrong.append((f"{need.name} {version}", f"{need.name}{need.specifier}"))
    for found, wanted in wrong:
        yield Finding("packages", "broken", found, f"pip install '{wanted}'")
    if not wrong:
        names = ("flwr", "ray", "keras", "tensorflow", "numpy")
        listed = ", ".join(f"{name} {metadata.version(name)}" for name in names)
        yield Finding("packages", "ok", f"all {count}: {listed}, ...")


def tensorflow() -> Iterator[Finding]:
    """Start TensorFlow as a worker does, multiply, and look for GPUs."""
    environment = {**os.environ, **backend().environment(1, 1.0)}
    try:
        ran = subprocess.run(
            [sys.executable, "-c", ASK],
            capture_output=True,
            text=True,
            timeout=TENSORFLOW_PATIENCE,
            env=environment,
        )
    except subprocess.TimeoutExpired:
        yield Finding(
            "TensorFlow", "broken", f"not ready after {TENSORFLOW_PATIENCE:.0f} s", "see its log"
        )
        return
    if ran.returncode != 0:
        lines = [line for line in ran.stderr.splitlines() if line.strip()] or ["no message"]
        yield Finding("TensorFlow", "broken", lines[-1][:200], "pip install --force tensorflow")
        return
    told = json.loads(ran.stdout.splitlines()[-1])
    slow, count = told["seconds"] > 15, len(told["gpus"])
    seen = f"; it can use {count} GPU{'s'[: count != 1]}" if count else ""
    yield Finding(
        "TensorFlow",
        "note" if slow else "ok",
        f"{told['tensorflow']}, Keras {told['keras']} on {told['backend']}, "
        f"started in {told['seconds']:.1f} s{seen}",
        "python -m compileall -q the environment: it starts in a third of the time" if slow else "",
    )


def gpus() -> Iterator[Finding]:
    """Look at GPUs, and at what would compute on this machine: JAX on them, else TensorFlow."""
    yield from doctor_gpus.findings()


def ray() -> Iterator[Finding]:
    """Start Ray (or join the cluster that ``RAY_ADDRESS`` names) and count workers."""
    from simulation.config.errors import ConfigError
    from simulation.config.sections import Resources
    from simulation.engines.ray.cluster import Cluster, address_of

    began = time.perf_counter()
    try:
        cluster = Cluster(Resources())
    except (ConfigError, RuntimeError, OSError) as error:
        yield Finding("Ray", "broken", first_line(error), "see /tmp/ray/session_latest/logs")
        return
    try:
        seconds, nodes = time.perf_counter() - began, len(cluster.nodes)
        where = address_of(Resources()) or "here"
        found = f"started {where} in {seconds:.1f} s: room for {len(cluster.workers)} workers"
        yield Finding("Ray", "ok", found + (f" on {nodes} nodes" if nodes > 1 else ""))
        yield from _memory(len(cluster.workers))
    finally:
        cluster.close()


def _memory(workers: int) -> Iterator[Finding]:
    import psutil

    from simulation.runs.memory import BASE

    free = psutil.virtual_memory().available
    need = workers * BASE
    found = f"{gib(free)} free, {workers} workers need at least {gib(need)}"
    few = max(1, free // BASE)
    yield Finding(
        "memory",
        "ok" if free >= need else "broken",
        found,
        "" if free >= need else f"--workers {few}, or end other programs",
    )


def disks() -> Iterator[Finding]:
    """Look at shared memory, where Ray keeps data, and at the disks of runs and of Ray."""
    shared = Path("/dev/shm")
    if shared.is_dir():
        yield _space("/dev/shm", shared, "docker run --shm-size=8g, or mount -o remount,size=8g")
    yield _space("disk of Ray", Path("/tmp"), "make room in /tmp")
    yield _space("disk of runs", Path.cwd(), "make room, or use --out on another disk")
    if not os.access(Path.cwd(), os.W_OK):
        yield Finding("disk of runs", "note", f"{Path.cwd()} is not writable", "use --out")


def _space(what: str, path: Path, mend: str) -> Finding:
    free = shutil.disk_usage(path).free
    low = free < SPACE
    return Finding(what, "note" if low else "ok", f"{gib(free)} free", mend if low else "")


def data() -> Iterator[Finding]:
    """Load what comes with Sunflower; look where the full Fashion-MNIST is."""
    from simulation.datasets import errors, fashion_mnist, registry

    mini = registry.load("fashion-mnist-mini")
    yield Finding("fashion-mnist-mini", "ok", f"{len(mini.x_train)} + {len(mini.x_test)} images")
    for folder in (
        fashion_mnist.own_cache(),
        fashion_mnist.keras_cache(),
        fashion_mnist.SYSTEM_DIR,
    ):
        try:
            fashion_mnist.read_folder(folder)
        except errors.DataError:
            continue
        yield Finding("fashion-mnist", "ok", f"in {folder}")
        return
    mend = "downloaded when first used; offline: apt install dataset-fashion-mnist, or --data-dir"
    yield Finding("fashion-mnist", "note", "not on this machine", mend)


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    python,
    packages,
    tensorflow,
    gpus,
    ray,
    disks,
    data,
)


def examine(checks: tuple[Callable[[], Iterator[Finding]], ...] = CHECKS) -> Iterator[Finding]:
    """Yield the findings of all checks; a check that fails is a finding too."""
    for check in checks:
        try:
            yield from check()
        except Exception as error:  # whatever is broken here is what the user wants to know
            yield Finding(check.__name__, "broken", one_line(error)[:200], "report it")


def show() -> bool:
    """Examine this machine and show what was found; tell whether all that is needed is there."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    marks = {"ok": ("ok", "green"), "note": ("note", "yellow"), "broken": ("broken", "red")}
    table, broken = Table(box=None, padding=(0, 2, 0, 0)), 0
    for title in ("", "What", "Found, and how to mend it"):
        table.add_column(title)
    with console.status("looking around"):
        for one in examine():
            broken += one.state == "broken"
            text = Text.assemble(one.found, *((("\n" + one.mend, "dim"),) if one.mend else ()))
            table.add_row(Text(*marks[one.state]), one.what, text)
    console.print(table)
    ending = "Sunflower can run here." if not broken else f"{broken} things must be mended first."
    console.print(ending)
    return not broken
