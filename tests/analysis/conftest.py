"""Run folders in Sunflower's format, made up from saturating curves with noise."""

import hashlib
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pandas as pd
import pytest

from analysis import parallel

# Asymptotic accuracy and speed of the made-up strategies.
CURVES = {
    "FedAvg": (0.86, 6.0),
    "FedProx(mu=0.1)": (0.87, 6.5),
    "FedAdam": (0.89, 4.0),
    "centralised": (0.91, 1.5),
    "local-only": (0.70, 3.0),
}
PARAMETERS = 225_034


def when(name: str) -> datetime:
    """When a run began: by its name, hours from others, so that they do not overlap."""
    return datetime(2020, 1, 1, tzinfo=UTC) + timedelta(hours=crc32(name.encode()) % 50_000)


def write_run(
    folder: Path,
    label: str = "FedAvg",
    *,
    seed: int = 0,
    rounds: int = 20,
    clients: int = 20,
    cohort: int = 10,
    alpha: float = 0.3,
    mode: str = "federated",
    status: str = "complete",
    per_client: bool = True,
    experiment: dict[str, Any] | None = None,
    extra: Callable[[int], dict[str, Any]] | None = None,
) -> Path:
    """Write one run folder; ``extra(round)`` adds keys to the lines of rounds.jsonl."""
    key = sum(map(ord, label))
    rng = np.random.default_rng([seed, key, int(alpha * 100)])
    top, speed = CURVES.get(label, (0.8 + key % 7 / 100, 5.0))
    if mode == "federated":
        top -= 0.08 / (1 + 10 * alpha)
    folder.mkdir(parents=True)
    strategy = label.split("(")[0]
    config: dict[str, Any] = {
        "format": 1,
        "label": label,
        "hash": "",
        "created": when(folder.name).isoformat(),
        "experiment": {
            "name": "made",
            "seed": seed,
            "rounds": rounds,
            "dataset": "fashion-mnist-mini",
            "model": "cnn",
            "clients": clients,
            "cohort": cohort,
            "partition": {"kind": "dirichlet", "alpha": alpha},
            "training": {
                "local_epochs": 1,
                "batch_size": 32,
                "optimizer": "sgd",
                "learning_rate": 0.1,
            },
            "strategy": {"name": strategy} | ({"mu": 0.1} if "mu=0.1" in label else {}),
            "mode": mode,
            **(experiment or {}),
        },
        "versions": {"sunflower-fl": "0.1.0", "keras": "3.15.1", "flwr": "1.41.0"},
        "parameters": PARAMETERS,
        "resources": {"workers": 2, "cpus": 2},
    }
    text = json.dumps(config["experiment"] | {"name": None}, sort_keys=True)
    config["hash"] = hashlib.sha256(text.encode()).hexdigest()
    (folder / "config.json").write_text(json.dumps(config))

    lines, shards = [], []
    sizes = rng.integers(10, 120, clients)
    own = rng.normal(0, 0.05, clients)
    wall = 0.0
    for number in range(rounds + 1):
        accuracy = top - (top - 0.1) * np.exp(-number / speed) + rng.normal(0, 0.008)
        loss = 2.3 * (1 - accuracy) / 0.9 + rng.normal(0, 0.01)
        line: dict[str, Any] = {
            "round": number,
            "seconds": 0.0,
            "clients": None,
            "examples": None,
            "train_loss": None,
            "train_accuracy": None,
            "server_loss": float(loss),
            "server_accuracy": float(np.clip(accuracy, 0, 1)),
            "client_loss": None,
            "client_accuracy": None,
            "bytes_up": 0,
            "bytes_down": 0,
        }
        if number:
            chosen = np.sort(rng.choice(clients, min(cohort, clients), replace=False))
            values = np.clip(accuracy + own[chosen] + rng.normal(0, 0.03, len(chosen)), 0, 1)
            line |= {
                "seconds": float(1.5 + rng.exponential(0.1)),
                "clients": len(chosen),
                "examples": int(sizes[chosen].sum()),
                "train_loss": float(loss * 0.9),
                "train_accuracy": float(min(1.0, accuracy + 0.01)),
                "client_loss": float(loss * 1.05),
                "client_accuracy": float(np.average(values, weights=sizes[chosen])),
                "bytes_up": 4 * PARAMETERS * len(chosen),
                "bytes_down": 4 * PARAMETERS * len(chosen),
            }
            if mode != "federated":
                line |= {"bytes_up": 0, "bytes_down": 0}
            wall += line["seconds"]
            shards.append(
                pd.DataFrame(
                    {
                        "round": number,
                        "client": chosen,
                        "examples": sizes[chosen] // 5 + 1,
                        "loss": 2.3 * (1 - values),
                        "accuracy": values,
                    }
                )
            )
        if extra:
            line |= extra(number)
        lines.append(json.dumps(line))
    (folder / "rounds.jsonl").write_text("\n".join(lines) + "\n")

    if per_client and mode != "centralised":
        if shards:
            pd.concat(shards).to_parquet(folder / "clients.parquet", index=False)
        shares = rng.dirichlet([alpha] * 10, clients)
        counts = np.floor(shares * sizes[:, None]).astype(int)
        client, name = np.nonzero(counts)
        pd.DataFrame(
            {"client": client, "label": name, "examples": counts[client, name]}
        ).to_parquet(folder / "labels.parquet", index=False)
    if status != "running":
        summary = {
            "status": status,
            "rounds": rounds,
            "final": json.loads(lines[-1]),
            "weights_sha256": hashlib.sha256(rng.bytes(8)).hexdigest(),
            "wall_seconds": wall + 8,
            "images_per_second": 7000.0,
            "parameters": PARAMETERS,
        }
        (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def write_study(
    root: Path,
    labels: tuple[str, ...] = ("FedAvg", "FedProx(mu=0.1)", "FedAdam"),
    alphas: tuple[float, ...] = (0.3,),
    seeds: int = 3,
    baselines: bool = True,
    **options: Any,
) -> Path:
    """Write strategies x alphas x seeds, with centralised and local-only runs beside them."""
    for seed in range(seeds):
        for alpha in alphas:
            for label in labels:
                write_run(
                    root / f"{label}-a{alpha}-s{seed}", label, seed=seed, alpha=alpha, **options
                )
            if baselines:
                write_run(
                    root / f"local-a{alpha}-s{seed}",
                    "local-only",
                    seed=seed,
                    alpha=alpha,
                    **options | {"mode": "local"},
                )
        if baselines:
            write_run(
                root / f"centralised-s{seed}",
                "centralised",
                seed=seed,
                alpha=alphas[0],
                **options | {"mode": "centralised"},
            )
    return root


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three strategies, two alphas, three seeds, both baselines."""
    return write_study(tmp_path_factory.mktemp("study"), alphas=(0.1, 1.0))


@pytest.fixture(scope="session")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three strategies, one alpha, three seeds, both baselines."""
    return write_study(tmp_path_factory.mktemp("single"))


@pytest.fixture(scope="session", autouse=True)
def alone() -> Iterator[None]:
    """Draw in this process: another one takes longer to start than it saves a test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parallel, "cores", lambda: 1)
        yield


@pytest.fixture
def few(tmp_path: Path) -> Path:
    """A file of names for reports of a figure and a table, where the others do not matter."""
    file = tmp_path / "few.toml"
    file.write_text(
        'figures = ["accuracy", "alpha"]\ntables = ["final_server_accuracy", "ranks"]\n'
    )
    return file


@pytest.fixture
def make_run() -> Callable[..., Path]:
    """Write one run."""
    return write_run


@pytest.fixture
def make_study() -> Callable[..., Path]:
    """Write a study."""
    return write_study


@pytest.fixture(scope="session")
def write() -> Callable[..., Path]:
    """Write one run, for fixtures that outlive a test."""
    return write_run
