"""A worker killed in the middle of each round: what Sunflower loses, and what stock Flower does."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks import common, work
from benchmarks.common import ROOT, Launch, Report, python, say
from benchmarks.work import Shape

RECEIVED = re.compile(r"Received (\d+) results and (\d+) failures")
"""What Flower logs of a round."""


def main() -> None:
    """Measure, print, and write ``results/faults``."""
    parser = common.parser(__doc__, repeats=3)
    parser.add_argument("--shape", type=Shape.parse, default="100x600")
    parser.add_argument("--rounds", type=int, default=6)
    given = parser.parse_args()
    if given.small:
        given.repeats, given.shape = 1, Shape(100, 60)
    kills = list(range(1, given.rounds))
    report = Report("faults", "A worker killed in mid-round", given.small)
    calm, killed = [], []
    for _ in range(given.repeats):
        say("Sunflower, undisturbed")
        calm.append(sunflower(given.shape, given.rounds, []))
        say(f"Sunflower, a worker killed in rounds {kills}")
        killed.append(sunflower(given.shape, given.rounds, kills))
    say("stock Flower, an actor killed in round 2")
    stock = flower(100)
    same = {end["sha256"] for _, end in calm + killed}
    lost = [end["lost"] for _, end in killed]
    short = [given.shape.clients - r["clients"] for rounds, _ in killed for r in rounds]
    more = [
        (k["run_seconds"] - c["run_seconds"]) / len(kills)
        for (_, c), (_, k) in zip(calm, killed, strict=True)
    ]
    report.data |= {"calm": calm, "killed": killed, "flower": stock, "kills": kills}
    report.text(
        f"{given.shape} images, {given.rounds} rounds, two workers; SIGKILL to one of them when a "
        f"quarter of a round's clients have trained, in each of {len(kills)} rounds."
    )
    report.table(
        ("", "Sunflower", "stock Flower 1.41"),
        [
            ["workers killed", f"{len(kills)} in {len(kills)} rounds", "1 in 1 round"],
            [
                "clients lost in the round of the kill",
                f"{max(short)} of {given.shape.clients}",
                f"{stock['failures'][1]} of {stock['clients']}",
            ],
            [
                "clients lost in the round after",
                f"{max(lost)} of {given.shape.clients}",
                f"{stock['failures'][2]} of {stock['clients']}",
            ],
            ["exit status", "0", str(stock["status"])],
            ["weights of the undisturbed run", common.verdict(len(same) == 1), "no"],
            ["extra time for a kill", f"{sum(more) / len(more):.1f} s", ""],
        ],
    )
    report.show()


def sunflower(
    shape: Shape, rounds: int, kills: list[int]
) -> tuple[list[common.Record], common.Record]:
    """Run Sunflower; return its rounds and how it ended."""
    experiment = work.settings(shape, rounds, **{"resources": {"workers": 2}})
    command = python(
        "benchmarks.peers.sunflower_killed",
        json.dumps(experiment),
        "--kill",
        ",".join(map(str, kills)),
    )
    outcome = common.run(Launch([command]))
    if outcome.error or not outcome.of("end"):
        raise SystemExit(f"Sunflower failed: {outcome.error}")
    done = [record["round"] for record in outcome.of("kill") if record["pid"]]
    if done != kills:
        raise SystemExit(f"workers were to be killed in rounds {kills}, were in {done}")
    return outcome.of("round")[1:], outcome.of("end")[0]


def flower(clients: int, rounds: int = 3) -> dict[str, Any]:
    """Run stock Flower with two actors, kill one in the middle of round 2."""
    with tempfile.TemporaryDirectory() as folder:
        notes, log, naps = (Path(folder) / name for name in ("notes", "log", "naps"))
        naps.write_text(json.dumps([0.1] * clients))
        options = ("sleep", "--sleep", naps, "--progress", notes, "--cpus", 2)
        command = python("benchmarks.peers.flower", *options, "--rounds", rounds)
        with open(log, "w") as errors:
            process = subprocess.Popen(
                command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=errors, start_new_session=True
            )
        victim, end = 0, time.monotonic() + 600
        try:
            while process.poll() is None and time.monotonic() < end:
                trained = notes.read_text().count("\n") if notes.exists() else 0
                if not victim and trained >= clients * 5 // 4:
                    victim = _kill_actor(process.pid)
                time.sleep(0.05)
            status = process.poll()
        finally:
            common.stop(process)
        found = RECEIVED.findall(log.read_text())
    if not victim or len(found) < rounds:
        raise SystemExit(f"stock Flower: actor {victim} killed, {len(found)} rounds seen")
    failures = [int(failed) for _, failed in found]
    return {"clients": clients, "failures": failures, "status": status}


def _kill_actor(parent: int) -> int:
    for child in psutil.Process(parent).children(recursive=True):
        try:
            if child.name().startswith("ray::ClientApp"):
                os.kill(child.pid, signal.SIGKILL)
                return int(child.pid)
        except (psutil.Error, ProcessLookupError):
            continue
    return 0


if __name__ == "__main__":
    sys.exit(main())
