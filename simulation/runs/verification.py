"""Whether a run folder holds what its settings give: some of its rounds are trained again.

The first rounds are trained from the beginning, as many as took a minute, and the last ones from
the checkpoint before the last. All that is recorded of them must be the same again, to the bit
where the same versions compute: whatever the number of workers. What is trained again is kept out
of the folder. Of the rounds between, the records must agree with each other.
"""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from simulation.config.errors import ConfigError
from simulation.config.experiment import Experiment, parse
from simulation.listeners.listener import Listener, Listeners
from simulation.records import checkpoint, files, reading
from simulation.records.run_folder import versions
from simulation.runs.run import simulate

BUDGET = 60.0
"""Seconds of recorded rounds that are trained again from the beginning, where nothing is said."""

OTHERS = 0.01
"""Largest part by which numbers may differ where other versions or another system compute."""

UNTIMED = ("seconds",)
"""What of a round's record is not a result."""

LARGEST = 20
"""Differences that are told one by one."""


class Enough(Exception):
    """As many rounds as are to be trained again have been."""


class Until(Listener):
    """Ends a run when the line of a round has been written."""

    def __init__(self, last: int) -> None:
        self.last = last

    def line(self, record: Mapping[str, Any]) -> None:
        """Hear a line of ``rounds.jsonl``."""
        if record["round"] == self.last:
            raise Enough


@dataclass
class Verdict:
    """What was found.

    Args:
        checked: what was compared and how it came out, a sentence each.
        wrong: what differs: file, round, key, what is recorded and what it should be.
    """

    checked: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def verify(
    path: Path,
    rounds: int | None = None,
    tolerance: float | None = None,
    data_dir: Path | None = None,
    listener: Listener | None = None,
) -> Verdict:
    """Train some rounds of a run again; return what agrees and what does not.

    Args:
        path: the run folder; it stays as it is.
        rounds: how many to train from the beginning; None: as many as took a minute.
        tolerance: largest relative difference of a number; None: 0 where the same versions and
            system compute, else 0.01.
        data_dir: where the data is, if not where it was.
        listener: hears progress.

    Raises:
        ConfigError: ``path`` holds no run that can be trained again.
        RunError: this version computes the settings otherwise, or clients or workers failed.
    """
    config, summary = _read(path)
    lines = reading.read_rounds(path)
    experiment = _experiment(config, data_dir)
    if config.get("hash") != experiment.digest():
        raise ConfigError(
            f"verify: {path / 'config.json'}: hash must be that of its experiment, which was "
            "changed, or which this version computes otherwise"
        )
    done = int(lines[-1]["round"])
    same = config.get("versions") == versions()
    allowed = (0.0 if same else OTHERS) if tolerance is None else tolerance
    found = Verdict()
    found.wrong += _disagreements(path, lines, summary)
    if not found.wrong:
        found.checked.append(f"{len(lines)} lines of rounds.jsonl agree with the other files")
    complete = summary.get("status") == "complete"  # It may have ended before its last round.
    first = min(rounds if rounds is not None else _affordable(lines), done)
    whole = complete and first == done
    heard = listener or Listener()
    with tempfile.TemporaryDirectory(prefix="sunflower-verify-") as folder:
        if first or whole:
            again = _copied(path, Path(folder) / "first", ["config.json"])
            _train(experiment, again, heard, None if whole else first)
            _compare(found, path, again, range(first + 1), allowed, summary if whole else {})
        start = None if whole else _before_the_last(path)
        if start is not None and complete:
            again = _copied(path, Path(folder) / "last", None)
            _newest(again).unlink()
            _train(experiment, again, heard, None)
            _compare(found, path, again, range(start + 1, done + 1), allowed, summary)
        elif not whole:
            why = "no checkpoint is before" if start is None else "the run is not complete"
            found.checked.append(f"the last rounds were not trained again: {why}")
    return found


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    config = reading.read_json(path / "config.json")
    if config is None or not reading.read_rounds(path):
        raise ConfigError(f"verify: {path} holds no run")
    if "app" in config.get("experiment", {}):
        raise ConfigError(f"verify: {path} is a run of an app, which only the app can train again")
    if "options" not in config.get("strategy", {"options": {}}):
        raise ConfigError(f"verify: {path} was run with a strategy object, which it does not hold")
    return config, reading.read_json(path / "summary.json") or {}


def _experiment(config: Mapping[str, Any], data_dir: Path | None) -> Experiment:
    """Return the experiment on as many workers as this machine has."""
    experiment = parse(reading.without_none(config["experiment"]))
    here: dict[str, Any] = {"resources.workers": None, "resources.address": None, "track": ()}
    return experiment.replace(**here, **({"data_dir": data_dir} if data_dir else {}))


def _affordable(lines: Sequence[Mapping[str, Any]]) -> int:
    """Return how many of the first rounds took a minute together; at least one."""
    spent, last = 0.0, 0
    for line in lines[1:]:
        spent += line.get("seconds") or 0.0
        if last and spent > BUDGET:
            break
        last = int(line["round"])
    return last


def _copied(path: Path, to: Path, names: Sequence[str] | None) -> Path:
    """Copy a run folder, or some of its files, to where it is trained again."""
    if names is None:
        shutil.copytree(path, to, ignore=shutil.ignore_patterns("*.keras", "models", "report"))
    else:
        to.mkdir()
        for name in names:
            shutil.copy(path / name, to / name)
    return to


def _train(experiment: Experiment, path: Path, listener: Listener, last: int | None) -> None:
    """Train a copy from where it stands to a round; None: to its end."""
    hearers = [listener] if last is None else [listener, Until(last)]
    with suppress(Enough):
        simulate(experiment, out=path, resume=True, listener=Listeners(hearers))


def _before_the_last(path: Path) -> int | None:
    """Return the round of the checkpoint before the last; None where there is none."""
    found = sorted((path / "checkpoint").glob("round-*.safetensors"))
    return int(found[-2].stem.partition("-")[2]) if len(found) > 1 else None


def _newest(path: Path) -> Path:
    return sorted((path / "checkpoint").glob("round-*.safetensors"))[-1]


def _compare(
    found: Verdict,
    path: Path,
    again: Path,
    rounds: range,
    tolerance: float,
    summary: Mapping[str, Any],
) -> None:
    """Compare what is recorded of some rounds with what was trained again."""
    wrong, worst = [], 0.0
    known, trained = _results(path, rounds), _results(again, rounds)
    for place in dict.fromkeys([*known, *trained]):
        for key, was, now in _differences(known.get(place, {}), trained.get(place, {})):
            off = _relative(was, now)
            worst = max(worst, off)
            if off > tolerance:
                wrong.append(f"{place}: {key} is {was!r}, trained again {now!r}")
    digest = summary.get("weights_sha256")
    ended = (reading.read_json(again / "summary.json") or {}).get("weights_sha256")
    same_weights = digest is None or digest == ended
    if not same_weights and tolerance == 0:
        wrong.append(f"summary.json: weights_sha256 is {digest!r}, trained again {ended!r}")
    found.wrong += wrong
    if wrong:
        return
    how = "equal to the bit" if worst == 0 and same_weights else f"equal within {worst:.2g}"
    weights = (
        "" if digest is None else f", weights {digest[:12]}" if same_weights else ", weights differ"
    )
    span = f"rounds {rounds[0]} to {rounds[-1]}" if len(rounds) > 1 else f"round {rounds[0]}"
    found.checked.append(f"{span} trained again: {how}{weights}")


def _results(path: Path, rounds: range) -> dict[str, Mapping[str, Any]]:
    """Return what is recorded of some rounds and of their clients, by where it stands."""
    found: dict[str, Mapping[str, Any]] = {
        f"rounds.jsonl: round {line['round']}": line
        for line in reading.read_rounds(path)
        if line["round"] in rounds
    }
    if (path / "clients.parquet").exists():
        for row in pq.read_table(path / "clients.parquet").to_pylist():
            if row["round"] in rounds:
                found[f"clients.parquet: round {row['round']}: client {row['client']}"] = row
    return found


def _differences(was: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for key in dict.fromkeys([*was, *now]):
        a, b = was.get(key), now.get(key)
        both_nan = a != a and b != b  # what was not measured
        if key not in UNTIMED and a != b and not both_nan:
            yield key, a, b


def _relative(was: Any, now: Any) -> float:
    """Return by which part two values differ; infinity where they are no numbers."""
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in (was, now))
    return abs(was - now) / max(abs(was), abs(now)) if numbers else math.inf


def _disagreements(
    path: Path, lines: Sequence[Mapping[str, Any]], summary: Mapping[str, Any]
) -> list[str]:
    """Return where the records of a run contradict each other."""
    found = []
    if (final := summary.get("final")) is not None:
        found += [
            f"rounds.jsonl: round {lines[-1]['round']}: {key} is {was!r}, in summary.json {now!r}"
            for key, was, now in _differences(lines[-1], final)
        ]
    newest = checkpoint.latest(path / "checkpoint")
    digest = summary.get("weights_sha256")
    if newest and digest and newest.position.round == lines[-1]["round"]:
        kept = files.weights_sha256(newest.position.model)
        if kept != digest and not newest.clients:
            found.append(f"summary.json: weights_sha256 is {digest!r}, of the checkpoint {kept!r}")
    return [*found, *_clients_disagree(path, lines)][:LARGEST]


def _clients_disagree(path: Path, lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return where the clients' rows do not give a round's numbers."""
    if not (path / "clients.parquet").exists():
        return []
    columns = ["round", "examples"]
    rows = pq.read_table(path / "clients.parquet", columns=columns).to_pydict()
    counts: dict[int, list[int]] = {}
    for round, examples in zip(rows["round"], rows["examples"], strict=True):
        counts.setdefault(round, []).append(examples)
    found = []
    for line in lines[1:]:
        mine = counts.get(line["round"], [])
        for key, value in (("clients", len(mine)), ("examples", sum(mine))):
            if line.get(key) != value:
                found.append(
                    f"rounds.jsonl: round {line['round']}: {key} is {line.get(key)!r}, "
                    f"of clients.parquet {value!r}"
                )
    return found
