"""Days in minutes: many short rounds with a worker killed now and then; a driver killed often.

``rounds``: 2,000 rounds, a worker killed every 50; memory of the driver must stay flat.
``driver``: the driver killed at random moments of a run and resumed, until it is complete.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import common
from benchmarks.common import ROOT, Launch, Report, python, say, stop

SETTINGS: dict[str, Any] = {
    "dataset": "fashion-mnist-mini",
    "model": "logistic",
    "clients": 40,
    "cohort": 8,
    "partition": {"alpha": 0.5},
    "strategy": {"name": "scaffold"},
    "resources": {"workers": 2},
}
"""Short rounds, of a strategy whose clients keep state."""

ONE_BY_ONE: dict[str, Any] = {
    **{name: value for name, value in SETTINGS.items() if name != "strategy"},
    "devices": {"kind": "lognormal", "spread": 1.2},
    "rounds": 30,
    "training": {"local_epochs": 5},
}
"""Clients on virtual time; a schedule of one's own choice sends them out one by one."""

EPOCHS = 20
"""Local epochs where the settings say nothing: a round takes long enough to be hit in all parts."""


def main() -> None:
    """Measure, print, and write ``results/soak``."""
    parser = common.parser(__doc__, repeats=1)
    parser.add_argument("--rounds", type=int, default=2000)
    parser.add_argument("--every", type=int, default=50, help="a worker is killed that often")
    parser.add_argument("--kills", type=int, default=20, help="of the driver")
    parser.add_argument("--part", choices=("rounds", "driver"), help="only one of the two")
    given = parser.parse_args()
    if given.small:
        given.rounds, given.every, given.kills = 60, 20, 4
    name = f"soak-{given.part}" if given.part else "soak"
    report = Report(name, "Soak", given.small)
    if given.part != "driver":
        say(f"{given.rounds} rounds, a worker killed every {given.every}")
        rows = many_rounds(given.rounds, given.every, report.data)
        report.table(("workers killed", "measured"), rows)
    if given.part != "rounds":
        say(f"the driver killed {given.kills} times")
        rows = killed_driver(given.kills, report.data)
        report.table(("driver killed", "measured"), rows)
    report.show()


def many_rounds(rounds: int, every: int, data: dict[str, Any]) -> list[list[object]]:
    """Run many rounds and look at the memory of the driver."""
    experiment = json.dumps({**SETTINGS, "rounds": rounds, "evaluation": {"every": 50}})
    command = python("benchmarks.peers.sunflower_killed", experiment, "--every", every, "--memory")
    outcome = common.run(Launch([command], limit=7200))
    if outcome.error or not outcome.of("end"):
        raise SystemExit(f"Sunflower failed: {outcome.error}")
    lines, kills = outcome.of("round")[1:], len(outcome.of("kill"))
    memory = [line["driver_own_mb"] for line in lines]
    fifth = max(1, len(memory) // 5)
    # The first fifth warms caches up.
    early, late = median(memory[fifth : 2 * fifth]), median(memory[-fifth:])
    data["rounds"] = {"memory_mb": memory, "kills": kills, "end": outcome.of("end")[0]}
    return [
        ["rounds", len(lines)],
        ["workers killed", kills],
        ["clients lost", outcome.of("end")[0]["lost"]],
        ["driver's own memory, second fifth of the rounds", f"{early:.0f} MB"],
        ["driver's own memory, last fifth", f"{late:.0f} MB ({late - early:+.1f})"],
        ["seconds", f"{outcome.seconds:.0f}"],
    ]


def killed_driver(
    kills: int,
    data: dict[str, Any],
    seed: int = 0,
    settings: dict[str, Any] = SETTINGS,
    workers: Sequence[int] = (2,),
) -> list[list[object]]:
    """Kill the driver at random moments, resume each time, and compare with a calm run.

    Workers take longer to start than the rounds do. So the moment is one of the process's whole
    life every other time, and one of the rounds' else, in turn the next at which a checkpoint is
    half written.

    Args:
        kills: how many.
        data: gets what happened, as ``driver``.
        seed: of the moments.
        settings: of the experiment.
        workers: how many there are, in turn; the calm run has none, on the engine ``inline``.
    """
    draw, done, rounds = random.Random(seed), [], settings.get("rounds", 6)
    counts = cycle(workers)
    with tempfile.TemporaryDirectory() as folder:
        calm, out = Path(folder) / "calm", Path(folder) / "cut"
        file = Path(folder) / "experiment.toml"
        import tomli_w

        slow = {"training": {"local_epochs": EPOCHS}, **settings, "rounds": rounds}
        slow["faults"] = {**settings.get("faults", {}), "checkpoint_seconds": 0.5}
        file.write_text(tomli_w.dumps(slow))
        base = python("simulation.cli", "run", file)
        _finish([*base, "--out", str(calm), "--engine", "inline"])
        lines = (calm / "rounds.jsonl").read_text().splitlines()
        pace = sum(json.loads(line)["seconds"] for line in lines)
        hits, resumed, writing, early = 0, 0, 0, 0
        starting: dict[int, float] = {}  # How long it took the last time, by the workers.
        while hits < kills:
            begun = (out / "config.json").exists()
            if begun and (out / "summary.json").exists():
                done.append(_compare(calm, out))
                out = out.with_name(f"cut-{len(done)}")
                begun = False
            count = next(counts)
            options = ["--workers", str(count), *(["--resume"] if begun else [])]
            resumed, starts, left = resumed + begun, _starts(out), _half_written(out)
            most = 0.7 * pace * max(0.3, 1 - _saved(out) / rounds)
            process = subprocess.Popen(
                [*base, "--out", str(out), *options],
                cwd=ROOT,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            began = time.monotonic()
            try:
                if hits % 2 and count in starting:
                    process.wait(draw.uniform(0.0, starting[count] + most))
                else:
                    while _starts(out) == starts and process.poll() is None:
                        time.sleep(0.02)
                    starting[count] = time.monotonic() - began
                    process.wait(draw.uniform(0.0, most))
                if process.returncode:
                    raise SystemExit(f"a run failed: exit status {process.returncode}")
            except subprocess.TimeoutExpired:
                while hits % 4 == 2 and not _half_written(out) - left and process.poll() is None:
                    time.sleep(0.0005)  # The run needs the cores.
                process.send_signal(signal.SIGKILL)
                hits += 1
                process.wait()
                writing += bool(_half_written(out) - left)
                early += _starts(out) == starts
            finally:
                stop(process)
        if not (out / "summary.json").exists():
            begun = (out / "config.json").exists()
            options = ["--workers", str(next(counts)), *(["--resume"] if begun else [])]
            _finish([*base, "--out", str(out), *options])
        done.append(_compare(calm, out))
    data["driver"] = {
        "kills": hits, "writing": writing, "starting": early, "resumed": resumed, "runs": done,
    }  # fmt: skip
    return [
        ["kills at random moments", hits],
        ["of these before the rounds began", early],
        ["of these while a checkpoint was written", writing],
        ["resumes", resumed],
        ["runs completed", len(done)],
        ["with the weights of the undisturbed run", sum(d["weights"] for d in done)],
        ["with each round's line once", sum(d["lines"] for d in done)],
    ]


def _starts(out: Path) -> int:
    log = out / "run.log"
    return log.read_text().count("data from") if log.exists() else 0


def _saved(out: Path) -> int:
    """Return the round of the last checkpoint; 0 where there is none."""
    kept = (out / "checkpoint").glob("round-*.safetensors")
    return max((int(path.stem.partition("-")[2]) for path in kept), default=0)


def _half_written(out: Path) -> set[tuple[str, int]]:
    """Return the files that are being written, or were when the driver was killed."""
    found = set()
    for path in (out / "checkpoint").glob("**/.*.tmp"):
        with suppress(FileNotFoundError):
            found.add((path.name, path.stat().st_mtime_ns))
    return found


def _finish(command: list[str]) -> None:
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if ran.returncode:
        raise SystemExit(f"a run failed: {ran.stderr}")


def _compare(calm: Path, cut: Path) -> dict[str, bool]:
    summaries = [json.loads((path / "summary.json").read_text()) for path in (calm, cut)]
    lines = [
        [json.loads(line) for line in (path / "rounds.jsonl").read_text().splitlines()]
        for path in (calm, cut)
    ]
    plain = [[{**line, "seconds": 0} for line in run] for run in lines]
    same = summaries[0]["weights_sha256"] == summaries[1]["weights_sha256"]
    return {"weights": same, "lines": plain[0] == plain[1] and _events(calm) == _events(cut)}


def _events(path: Path) -> dict[str, list[Any]]:
    """Return what happened on a run's virtual clock; nothing where it has none."""
    import pyarrow.parquet as pq

    file = path / "events.parquet"
    return pq.read_table(file).to_pydict() if file.exists() else {}


if __name__ == "__main__":
    sys.exit(main())
