"""Studies with all that runs may record, so that every figure and table applies to one."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from tests.analysis.clocked import SCHEDULES, write_clocked

NAMES = ("attack", "defences", "slow", "tuned", "clients", "clock", "classes", "encoded")
"""Folders of these studies."""


def confused(number: int) -> dict[str, float | None]:
    """Return counts of ten classes: the first is never another one, the others are at times."""
    pairs = [(i, j) for i in range(10) for j in range(10)]
    own = 100.0 + 20 * number
    return {f"server_confusion_{i}_{j}": own if i == j else float(i) for i, j in pairs}


def write_kinds(root: Path, write: Callable[..., Path]) -> None:
    """Write them; ``write`` writes one run."""

    def extra(number: int) -> dict[str, float | None]:
        return {
            "drift": 1 / number if number else None,
            "update_norm": 2 / number if number else None,
            "epsilon": 0.3 * number**0.5 if number else None,
        }

    for label in ("FedAvg", "FedProx(mu=0.1)"):
        for seed in range(2):
            for part in (0.0, 0.2):
                write(
                    root / f"attack/{label}{seed}{part}", label, seed=seed, rounds=4, extra=extra,
                    experiment={"attack": {"fraction": part}},
                )  # fmt: skip
                write(
                    root / f"slow/{label}{seed}{part}", label, seed=seed, rounds=4,
                    experiment={"realism": {"stragglers": part}},
                )  # fmt: skip
    for label in ("FedAvg", "Median", "Bucketing(byzantine=0.1, rule=trimmed-mean)"):
        for kind in ("alie", "label-flip", "min-max", "sign-flip", None):
            write(root / f"defences/{label}{kind}", label, rounds=2,
                  experiment={"attack": {"kind": kind, "fraction": 0.2}})  # fmt: skip
    for rate in (0.01, 0.1):
        for mu in (0.01, 1.0):
            write(
                root / f"tuned/{rate}-{mu}", f"FedProx(mu={mu})", rounds=2, clients=10,
                experiment={"training": {"learning_rate": rate},
                            "strategy": {"name": "fedprox", "mu": mu}},
            )  # fmt: skip
    for label in ("FedAvg", "Median"):
        write(root / f"classes/{label}", label, rounds=2, extra=confused,
              experiment={"compression": {"kind": "none"}})  # fmt: skip
    for kind, least in (("none", 1e6), ("top-k", 1e4), ("sign", 4e4)):
        label = "FedAvg" if kind == "none" else f"FedAvg, {kind}"
        write(
            root / f"encoded/{kind}", label, rounds=6, experiment={"compression": {"kind": kind}},
            extra=lambda number, least=least: {"bytes_up": least if number else 0},
        )  # fmt: skip
    for clients in (10, 40, 100):
        write(root / f"clients/{clients}", clients=clients, rounds=3)
    for kind in SCHEDULES:
        for seed in range(2):
            write_clocked(write, root / f"clock/{kind}{seed}", kind, seed=seed)
    work = {"round": [1, 1], "worker": [0, 1], "start": [0.0, 0.1], "end": [1.0, 0.9]}
    pd.DataFrame(work).to_parquet(root / "clients/10/timeline.parquet")
