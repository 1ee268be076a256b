"""What a strategy costs, and how evenly it serves its clients."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, nan, sqrt

import numpy as np
import pandas as pd

from analysis.summarise import check_columns, check_settings, per_seed

FAIRNESS = ("mean", "std", "worst", "best", "jain")


def spread_over_clients(values: pd.Series, share: float = 0.1) -> dict[str, float]:
    """Return how a metric is spread over the clients of one run, clients counted equally.

    mean and std (over all clients, so with n in the denominator); worst and best: the mean of
    the lowest and highest ``share`` of clients, at least one (Li et al., 2020, q-FFL,
    arXiv:1905.10497); jain: Jain's index (sum x)^2 / (n sum x^2), 1 when all are equal.
    """
    x = np.sort(values.to_numpy(np.float64))
    tail = max(1, ceil(share * len(x)))
    squares = float((x**2).sum())
    return {
        "mean": float(x.mean()),
        "std": float(x.std()),
        "worst": float(x[:tail].mean()),
        "best": float(x[-tail:].mean()),
        "jain": float(x.sum() ** 2 / (len(x) * squares)) if squares else 1.0,
        "clients": float(len(x)),
    }


def noise_floor(clients: pd.DataFrame, metric: str = "accuracy") -> float:
    """Return the standard deviation over clients that a perfectly fair model would show.

    With the accuracy p of all of them together and m_i validation examples a client, counts are
    binomial: ``sqrt(mean_i p (1 - p) / m_i)``. NaN for other metrics, and where older runs did not
    record m_i (``validation``).
    """
    if metric != "accuracy" or "validation" not in clients or clients["validation"].isna().any():
        return nan
    rows = clients["validation"].to_numpy(np.float64)
    p = float((clients[metric].to_numpy(np.float64) * rows).sum() / rows.sum())
    return sqrt(max(0.0, p * (1 - p)) * float((1 / rows).mean()))


def fairness(
    clients: pd.DataFrame,
    metric: str = "accuracy",
    by: Sequence[str] = ("label",),
    share: float = 0.1,
) -> pd.DataFrame:
    """Return the spread over clients (see :func:`spread_over_clients`), averaged over seeds.

    Args:
        clients: :attr:`analysis.Runs.last_clients`.
        metric: a column of it.
        by: what makes a row.
        share: the fraction of clients that ``worst`` and ``best`` are about.

    Returns:
        Columns ``by``, mean, std, worst, best, jain, clients (measured per run), noise (see
        :func:`noise_floor`), n (seeds).
    """
    check_columns(clients, "run", metric, *by)
    check_settings(clients, "fairness", by)
    known = clients[clients[metric].notna()]
    keys = [*by, *(["seed"] if "seed" in known and "seed" not in by else []), "run"]
    rows = [
        {
            **dict(zip(keys, key, strict=True)),
            **spread_over_clients(group[metric], share),
            "noise": noise_floor(group, metric),
        }
        for key, group in known.groupby(keys, observed=True, sort=False)
    ]
    return over_seeds(pd.DataFrame(rows, columns=[*keys, *FAIRNESS, "clients", "noise"]), by)


def cost(rounds: pd.DataFrame, by: Sequence[str] = ("label",)) -> pd.DataFrame:
    """Return what a run takes, averaged over seeds.

    Returns:
        Columns ``by``, rounds, seconds (of the wall clock, all rounds), seconds_round (mean of a
        round), busy (what workers computed [s], without the first round's compilation; NaN: not
        recorded), busy_round, bytes_up, bytes_down, examples (that clients trained on, every epoch
        counted; NaN: not known), n.
    """
    check_columns(rounds, "run", "round", "seconds", "bytes_up", "bytes_down", "examples", *by)
    check_settings(rounds, "cost", by)
    seen = "processed" if "processed" in rounds else "examples"
    keys = [*by, *(["seed"] if "seed" in rounds and "seed" not in by else []), "run"]
    trained = rounds["seconds"].where(rounds["round"] > 0)  # round 0 only evaluates
    busy = rounds["busy"] if "busy" in rounds else pd.Series(nan, rounds.index)
    rounds = rounds.assign(
        seconds_round=trained, busy=busy, busy_round=busy.where(rounds["round"] > 0)
    )
    groups = rounds.groupby(keys, observed=True, sort=False, dropna=False)
    runs = groups.agg(
        rounds=("round", "max"),
        seconds=("seconds", "sum"),
        seconds_round=("seconds_round", "mean"),
        busy=("busy", lambda v: v.sum(skipna=False)),
        busy_round=("busy_round", "mean"),
        bytes_up=("bytes_up", "sum"),
        bytes_down=("bytes_down", "sum"),
        examples=(seen, lambda v: v.sum(skipna=False)),
    )
    return over_seeds(runs.reset_index(), by)


def over_seeds(frame: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Return the mean of every number over seeds, for each group ``by``, and their count n."""
    numbers = [c for c in frame.columns if c not in {*by, "seed", "run"}]
    seeds = per_seed(frame, numbers, by)
    groups = seeds.groupby(list(by), observed=True, sort=False, dropna=False)
    return groups[numbers].mean().assign(n=groups.size()).reset_index()
