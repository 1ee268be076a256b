"""Run folders with a virtual clock: a small simulation of devices of three tiers."""

import heapq
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

TIERS = ("fast", "middle", "slow")
SCHEDULES: dict[str, dict[str, Any]] = {
    "synchronous": {"kind": "synchronous"},
    "deadline": {"kind": "deadline", "deadline": 60.0},
    "buffered": {"kind": "buffered", "buffer": 4, "concurrency": 10, "staleness": "polynomial"},
    "asynchronous": {"kind": "asynchronous", "concurrency": 10, "mixing": 0.6},
}
COHORT, STEPS, BYTES, WATTS = 10, 5, 4000, 2.0


def durations_of(clients: int, seed: int) -> np.ndarray:
    """Return the seconds that each client's work takes; client i is of tier i % 3."""
    rng = np.random.default_rng([seed, 7])
    means = np.array([10.0, 20.0, 40.0])[np.arange(clients) % len(TIERS)]
    return means * rng.lognormal(0.0, 0.5, clients)


def simulate(kind: str, clients: int, rounds: int, seed: int) -> list[dict[str, Any]]:
    """Return the events of a run: cohorts that wait, or clients that follow each other."""
    rng, spans = np.random.default_rng([seed, 1]), durations_of(clients, seed)
    events: list[dict[str, Any]] = []

    def event(step: int, client: int, version: int, at: float, reason: str = "") -> None:
        events.append(
            {"round": step, "client": client, "tier": TIERS[client % 3], "version": version,
             "dispatched": at, "arrived": at + spans[client], "staleness": step - 1 - version,
             "steps": STEPS, "bytes_up": BYTES, "bytes_down": BYTES,
             "joules": WATTS * spans[client], "used": not reason, "reason": reason}
        )  # fmt: skip

    if kind in ("synchronous", "deadline"):
        now, limit = 0.0, SCHEDULES[kind].get("deadline", np.inf)
        for step in range(1, rounds + 1):
            cohort = rng.choice(clients, COHORT, replace=False)
            for client in map(int, cohort):
                event(step, client, step - 1, now, "late" if spans[client] > limit else "")
            now += min(limit, spans[cohort].max())
        return events
    size = SCHEDULES[kind].get("buffer", 1)
    queue: list[tuple[float, int, int, float, int]] = []
    idle, number, version, held, now = list(range(clients)), 0, 0, 0, 0.0
    while version < rounds:
        while len(queue) < COHORT:
            client = idle.pop(int(rng.integers(len(idle))))
            heapq.heappush(queue, (now + spans[client], number, client, now, version))
            number += 1
        now, _, client, at, old = heapq.heappop(queue)
        idle.append(client)
        stale = version - old > 8
        event(version + 1, client, old, at, "stale" if stale else "")
        held += not stale
        if held == size:
            held, version = 0, version + 1
    return events


def write_clocked(
    write: Any, folder: Path, kind: str, *, seed: int = 0, rounds: int = 30, clients: int = 30,
    label: str = "FedAvg", schedule: dict[str, Any] | None = None, parts: int = 1, **options: Any,
) -> Path:  # fmt: skip
    """Write a run folder with a clock; ``write`` is the fixture that writes one without.

    The accuracy follows the updates that were used, so that speed on the clock is a gain.
    """
    events = pd.DataFrame(simulate(kind, clients, rounds, seed))
    rng = np.random.default_rng([seed, 2])
    used = events[events["used"]]
    ends = used.groupby("round")["arrived"].max().cummax()
    spent = events.groupby("round")["joules"].sum().cumsum()
    done = used.groupby("round").size().cumsum()
    stale = used.groupby("round")["staleness"]

    def extra(number: int) -> dict[str, Any]:
        accuracy = 0.85 - 0.75 * np.exp(-done.get(number, 0) / 60) + rng.normal(0, 0.004)
        return {
            "server_accuracy": float(accuracy),
            "virtual_seconds": float(ends.get(number, 0.0)),
            "staleness_mean": float(stale.mean()[number]) if number else None,
            "staleness_max": int(stale.max()[number]) if number else None,
            "energy_joules": float(spent.get(number, 0.0)),
            "utilisation": 0.5 + 0.01 * (number % 2) if number else None,
        }

    said = SCHEDULES[kind] | (schedule or {})
    devices = {"kind": "tiers"}
    experiment = {"devices": devices, **({} if kind == "synchronous" else {"schedule": said})}
    write(folder, label, seed=seed, rounds=rounds, clients=clients, extra=extra,
          experiment=experiment | options.pop("experiment", {}), **options)  # fmt: skip
    if parts == 1:
        events.to_parquet(folder / "events.parquet", index=False)
    else:
        (folder / "events.parquet").mkdir()
        for i, rows in enumerate(np.array_split(np.arange(len(events)), parts)):
            events.iloc[rows].to_parquet(folder / f"events.parquet/{i:05d}.parquet", index=False)
    own = np.random.default_rng([seed, 3]).normal(0, 0.03, clients)
    pd.DataFrame(
        {"round": rounds, "client": np.arange(clients), "validation": 50,
         "accuracy": 0.8 - 0.05 * (np.arange(clients) % 3) + own, "loss": 0.5,
         "attacker": np.arange(clients) == 5}
    ).to_parquet(folder / "all_clients.parquet", index=False)  # fmt: skip
    return folder


def lines_of(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of ``rounds.jsonl``."""
    return [json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]
