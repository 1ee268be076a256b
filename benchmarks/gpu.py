"""Images per second on a GPU: clients side by side against everybody else, on the same card.

Each contestant is a process of its own, alone on the card, that goes through all workloads; they
take turns, and every second time the other way round. ``benchmarks/README.md`` says how each is
run. It starts without network and needs nothing but what the contestants import: one whose library
is missing is left out with a line that says so.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks import common, gpu_work
from benchmarks.common import Launch, Report, python, say
from benchmarks.gpu_table import HEADER, TITLES, Results, notes, rows, verdicts
from benchmarks.gpu_work import FULL, SMALL

MINUTES, SMALL_MINUTES = 6.0, 3.0
"""How long all of it may take."""

ENDING = 10.0
"""Seconds at the end in which no process begins."""

MODULES = {
    "bound": "benchmarks.peers.gpu_bound",
    "sunflower": "benchmarks.peers.gpu_sunflower",
    "pfl": "benchmarks.peers.gpu_pfl",
    "torch": "benchmarks.peers.gpu_torch",
    "fit": "benchmarks.peers.gpu_keras_fit",
}
"""Of the contestants, by key."""

UNSHAPED = ("100x600", "cifar", "resnet18", "20x64", "cifar-4")
"""Workloads of ``fit``, to which only the model matters."""

GET = {
    "pfl": "pip install 'pfl[pytorch]==0.6.0', perhaps into an environment of its own, and "
    "--pfl-python with its Python",
    "torch": "pip install torch",
    "sunflower": "pip install '.[gpu]'",
    "bound": "pip install keras 'jax[cuda12]'",
    "fit": "pip install keras 'jax[cuda12]'",
}
"""How to get what a contestant needs."""

PROCESSORS = {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": "-1"}
"""Environment of the small run."""

QUERY = ("--query-gpu=name,memory.total,driver_version", "--format=csv,noheader")


def main() -> None:
    """Measure, print, and write ``results/gpu``."""
    parser = common.parser(__doc__, repeats=2)
    parser.add_argument("--workloads", help="which, by commas (default: all)")
    parser.add_argument("--contestants", default=",".join(MODULES), help="which, by commas")
    parser.add_argument("--minutes", type=float, help=f"whole time (default: {MINUTES:g})")
    parser.add_argument("--rounds", type=int, default=5, help="after the first, at most")
    parser.add_argument("--seconds", type=float, default=2.5, help="of a slow one's rounds, about")
    parser.add_argument("--pfl-python", default=sys.executable, help="where pfl-research is")
    given = parser.parse_args()
    there = SMALL if given.small else FULL
    asked = given.workloads.split(",") if given.workloads else list(there)
    peers = given.contestants.split(",")
    for name, known in [*((w, gpu_work.ALL) for w in asked), *((p, MODULES) for p in peers)]:
        if name not in known:
            parser.error(f"there is no {name!r}; there are {', '.join(known)}")
    card = "processors" if given.small else card_here()
    if card is None:
        print(refusal(), file=sys.stderr)
        raise SystemExit(2)
    minutes = given.minutes or (SMALL_MINUTES if given.small else MINUTES)
    deadline = time.monotonic() + 60 * minutes
    title = "The small run of the GPU benchmark, on processors" if given.small else "On a GPU"
    report, results = Report("gpu", title, given.small), Results.empty()
    report.data["card"] = card
    with tempfile.TemporaryDirectory() as folder:
        for name in asked:
            gpu_work.write(gpu_work.ALL[name], Path(folder) / name)
        repeats = 1 if given.small else given.repeats
        for peer in schedule(peers, repeats):
            left = deadline - time.monotonic() - ENDING
            if peer in results.left_out:
                continue
            if left <= 0:
                say(f"{TITLES[peer]}: no time is left")
                continue
            works = [w for w in asked if peer != "fit" or w in UNSHAPED]
            say(f"{TITLES[peer]}: {', '.join(works)}")
            options = ("--rounds", given.rounds, "--seconds", given.seconds)
            executable = given.pfl_python if peer == "pfl" else sys.executable
            command = python(
                MODULES[peer], folder, ",".join(works), *options, executable=executable
            )
            launch = Launch([command], [environment(Path(folder), peer, given.small)], left)
            run(results, peer, launch)
            present(report, results, asked, peers, given.small)
    print(report.write())


def card_here() -> str | None:
    """Return the name, memory and driver of this machine's GPUs; None where there are none."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    asked = subprocess.run([program, *QUERY], capture_output=True, text=True)
    cards = [line.strip() for line in asked.stdout.splitlines() if line.strip()]
    return "; ".join(cards) if cards and asked.returncode == 0 else None


def refusal() -> str:
    """Return what is said where there is no GPU."""
    return (
        "benchmarks.gpu needs a GPU, and nvidia-smi shows none here: --small runs on processors, "
        "and is no measure of a GPU"
    )


def schedule(peers: Sequence[str], repeats: int) -> Iterator[str]:
    """Yield who runs: A B C C B A."""
    for repeat in range(repeats):
        yield from list(peers)[:: -1 if repeat % 2 else 1]


def environment(folder: Path, peer: str, small: bool) -> dict[str, str]:
    """Return what a contestant finds in its environment.

    Compiled programs are kept for its second process, apart from those of the others.
    """
    found = {
        "JAX_COMPILATION_CACHE_DIR": str(folder / "programs" / peer),
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    return found | (PROCESSORS if small else {})


def run(results: Results, peer: str, launch: Launch) -> None:
    """Run a contestant and take in what it reported."""
    outcome = common.run(launch)
    results.take(peer, outcome.records)
    if peer in results.left_out:
        say(f"{TITLES[peer]} is left out: {results.left_out[peer]} ({GET[peer]})")
    elif outcome.error is not None and not outcome.of("ready"):
        results.left_out[peer] = f"it did not start: {outcome.error}"
        say(f"{TITLES[peer]} is left out: {results.left_out[peer]}")
    elif outcome.error is not None:
        say(f"{TITLES[peer]} ended early: {outcome.error}")
    elif outcome.limited:
        say(f"{TITLES[peer]} was stopped: the time is over")
    for record in outcome.of("failed"):
        say(f"{TITLES[peer]} failed with {record['work']}: {record['why']}")


def present(
    report: Report, results: Results, asked: Sequence[str], peers: Sequence[str], small: bool
) -> None:
    """Fill in and write the report, with the results so far."""
    report.data["results"] = results.data()
    report.lines.clear()
    if small:
        report.text(
            "**The small run**: little work on processors, once. It shows that everything runs; "
            "it says nothing about GPUs."
        )
    else:
        report.text(f"Card (name, memory, driver): {report.data['card']}.")
    told = ", ".join(f"{name} {number}" for name, number in sorted(results.versions.items()))
    report.text(f"The contestants' versions: {told}.")
    for peer, why in results.left_out.items():
        report.text(f"{TITLES[peer]} is left out: {why} ({GET[peer]}).")
    for name in asked:
        workload = gpu_work.ALL[name]
        report.text(f"## {workload.title}")
        present_peers = [p for p in peers if p != "fit" or name in UNSHAPED]
        report.table(HEADER, rows(results, workload, present_peers))
        for note in notes(results, workload):
            report.text(note)
    found = list(verdicts(results)) if not small else []
    if found:
        report.text("## Targets")
        report.table(("work", "against", "at least", "measured", "met"), found)
    report.text(
        "Medians, least and most over all rounds but the first of each process, which compiles and "
        "is apart. *Sunflower is*: its images/s over the contestant's."
    )
    report.write()


if __name__ == "__main__":
    main()
