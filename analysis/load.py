"""Find run folders and read them into tidy frames.

A run folder holds ``config.json``, ``rounds.jsonl`` and, where the run got that far,
``clients.parquet``, ``labels.parquet``, ``timeline.parquet``, ``events.parquet`` and
``summary.json``. Runs that are still going or were killed are read too: what is there is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from os.path import commonpath
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis import identity
from analysis.names import Names, find_names, read_names
from analysis.reading import read_json, read_rounds
from analysis.runs import Runs
from analysis.schedules import PREFIX, label_encodings, label_schedules
from analysis.settings import assign_settings
from analysis.summarise import DIVERGED
from analysis.working_time import BUSY, busy_of

SIGNS = ("the model is no longer finite", "must be finite, got")
"""What the log of an older run says where it diverged."""

FULL_BATCH = ("fedsgd",)
"""Strategies whose clients make one step on all their examples, whatever the epochs."""


def load(*paths: str | Path, names: str | Path | Names | None = None) -> Runs:
    """Read every run folder at or below ``paths``.

    A run's name is its folder relative to what all the runs have in common.

    Args:
        paths: run folders, or folders of them.
        names: what strategies and settings are called, and in which order: a file as
            :mod:`analysis.names` has it; without, ``figures.toml`` in one of the paths.

    Raises:
        ValueError: a path does not exist or holds no run, or a file cannot be read.
    """
    folders = find_runs(*paths)
    if names is None:
        names = find_names(paths)
    elif not isinstance(names, Names):
        names = read_names(Path(names))
    run_names = name_runs(folders)
    configs, summaries, rows, rounds = {}, {}, [], []
    for run, folder in zip(run_names, folders, strict=True):
        configs[run] = read_json(folder / "config.json")
        if not isinstance(configs[run].get("experiment"), Mapping):
            raise ValueError(f"{folder / 'config.json'}: key 'experiment' must be an object")
    defaults = identity.defaults_of(list(configs.values()))
    options = {run: identity.effective(config, defaults) for run, config in configs.items()}
    for run, folder in zip(run_names, folders, strict=True):
        config = configs[run]
        path = folder / "summary.json"
        summary = read_json(path) if path.exists() else {}
        summaries[run] = summary
        frame = read_rounds(folder / "rounds.jsonl")
        about = describe(config, summary)
        if about["mode"] == "federated":
            about["label"] = identity.title_of(config, defaults) or about["label"]
        about["options"] = identity.options_text(options[run])
        if is_diverged(about["status"], frame, folder):
            about["status"] = DIVERGED
        rows.append({"run": run, **about})
        frame["processed"] = processed(frame, config["experiment"])
        frame["examples_total"] = frame["processed"].cumsum()
        frame[BUSY] = busy_of(frame["round"], folder)
        frame["busy_total"] = frame[BUSY].cumsum()
        rounds.append(frame)
    table = identity.fill_options(pd.DataFrame(rows).set_index("run"), options)
    labels = label_schedules(table, identity.distinct_labels(table, options))
    table["label"] = label_encodings(table, labels)
    names = names.fitted(table["label"])
    table["label"] = table["label"].map(names.label)
    table["setting"], settings = assign_settings(table, names=names)
    lines = pd.concat(rounds, ignore_index=True)
    place = np.repeat(np.arange(len(rounds)), [*map(len, rounds)])
    beside: dict[str, Any] = {"run": pd.Categorical(table.index.to_series().take(place))}
    for column in [c for c in table.columns if c not in lines.columns]:
        values = table[column]
        if not pd.api.types.is_numeric_dtype(values):  # keeps 100,000 rounds x 40 columns small
            values = values.astype("category")
        beside[column] = values.array.take(place)
    located = dict(zip(run_names, folders, strict=True))
    whole = pd.concat([pd.DataFrame(beside, index=lines.index), lines], axis=1)
    return Runs(table, whole, located, configs, summaries, settings, names)


def is_diverged(status: str, rounds: pd.DataFrame, folder: Path) -> bool:
    """Tell whether a run ended because its numbers were no longer finite.

    Older runs say ``failed``, and why in their log; a run can also reach its last round with
    finite weights whose loss is none: it is null there, while it was a number before.
    """
    if status == "failed":
        log = folder / "run.log"
        text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
        return any(sign in text for sign in SIGNS)
    if status != "complete" or not rounds["server_loss"].notna().any():
        return status == DIVERGED
    losses = rounds["server_loss"][rounds["server_accuracy"].notna()]
    return bool(len(losses) and pd.isna(losses.iloc[-1]))


def processed(rounds: pd.DataFrame, experiment: Mapping[str, Any]) -> pd.Series:
    """Return how many examples the clients trained on in each round, every epoch counted.

    Older runs did not record it: their examples times the local epochs, and NaN where stragglers
    did only a part of it.
    """
    if "examples_seen" in rounds and rounds["examples_seen"].notna().any():
        return rounds["examples_seen"].fillna(0.0).astype(float)
    training, realism = experiment.get("training") or {}, experiment.get("realism") or {}
    # Where gradients are averaged each client makes one step on all its examples.
    once = named(experiment.get("strategy", "")) in FULL_BATCH
    epochs = 1 if once else int(training.get("local_epochs") or 1)
    known = float("nan") if realism.get("stragglers") else float(epochs)
    return rounds["examples"].fillna(0.0) * known


def find_runs(*paths: str | Path) -> list[Path]:
    """Return the run folders (those with a ``config.json`` and rounds) at or below ``paths``."""
    if not paths:
        raise ValueError("paths: give at least one run folder, or a folder of run folders")
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        if not path.exists():
            raise ValueError(f"{path}: there is no such folder")
        folders = [
            f.parent
            for f in sorted(path.rglob("config.json"))
            if (f.parent / "rounds.jsonl").exists()
        ]
        if not folders:
            raise ValueError(f"{path}: no run here (a run folder has config.json and rounds.jsonl)")
        found.update(dict.fromkeys(f.resolve() for f in folders))
    return list(found)


def name_runs(folders: list[Path]) -> list[str]:
    """Return the folders' paths below their common parent, with forward slashes."""
    common = Path(commonpath([f.parent for f in folders]))
    return [f.relative_to(common).as_posix() for f in folders]


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as one, keys joined by dots; lists become text."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{name}."))
        else:
            flat[name] = str(value) if isinstance(value, list | tuple) else value
    return flat


def named(value: Any) -> str:
    """Return the name of a component that is given as a name or as a table with one."""
    if isinstance(value, Mapping):
        value = value.get("name", value.get("kind", ""))
    return str(value)


def describe(config: Mapping[str, Any], summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's row: the short columns first, then every key of its experiment."""
    experiment = config["experiment"]
    partition = experiment.get("partition", {})
    mode = str(experiment.get("mode", "federated"))
    strategy = named(experiment.get("strategy", "")) if mode == "federated" else mode
    alpha = partition.get("alpha") if isinstance(partition, Mapping) else None
    flat = flatten(experiment) | flatten(config.get("resources") or {}, "resources.")
    if isinstance(flat.get("schedule"), str):
        flat[f"{PREFIX}kind"] = flat.pop("schedule")
    if flat.get("attack.kind", "some") is None:  # nobody attacks, whatever the fraction says
        flat["attack.fraction"] = 0.0
    if flat.get("sampling.kind") == "uniform" and "privacy" not in config:
        flat["sampling.kind"] = None  # it is what is done, and was recorded, where nothing is said
    workers = config.get("workers", flat.get("resources.workers"))
    # An app computes with what it likes; other runs that do not say it are older than the choice.
    backend = config.get("backend", None if "app" in experiment else "tensorflow")
    short = {
        "label": str(config.get("label") or strategy),
        "strategy": strategy,
        "seed": int(experiment.get("seed", 0)),
        "dataset": named(experiment.get("dataset", "")),
        "model": named(experiment.get("model", "")),
        "clients": experiment.get("clients"),
        "partition": named(partition),
        "alpha": None if alpha is None else float(alpha),
        "mode": mode,
        "status": str(summary.get("status", "running")),
        "hash": str(config.get("hash", "")),
        "workers": workers if isinstance(workers, int) else None,
        "backend": backend,
        "lanes": config.get("lanes") if backend == "jax" else None,
    }
    return short | {k: v for k, v in flat.items() if k not in short}
