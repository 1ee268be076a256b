"""Who contributed how much on a virtual clock, by the tier of the clients' devices.

All functions take the frame of :attr:`analysis.Runs.events`, a row per piece of work. Runs of one
setting and seed have the same devices, so a client's tier is known from any of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from analysis.costs import over_seeds
from analysis.summarise import check_columns, check_settings, per_seed, spread

SHARES = ("clients", "asked", "used", "steps", "joules")
"""What a tier can have a share of."""


def duration_of(events: pd.DataFrame) -> pd.Series:
    """Return how long each piece of work took on the clock [s]; NaN where it never arrived."""
    return events["arrived"].astype(float) - events["dispatched"].astype(float)


def tiers_of(events: pd.DataFrame) -> pd.DataFrame:
    """Return the tier of every client that was asked in some run: columns seed, client, tier."""
    check_columns(events, "seed", "client", "tier")
    rows = events[["seed", "client", "tier"]].drop_duplicates(["seed", "client"])
    return rows.assign(tier=rows["tier"].astype(str)).reset_index(drop=True)


def order_of_tiers(events: pd.DataFrame) -> list[str]:
    """Return the tiers, the one with the shortest median duration first."""
    known = pd.DataFrame({"tier": events["tier"].astype(str), "seconds": duration_of(events)})
    medians = known.groupby("tier")["seconds"].median().reset_index()
    return [str(t) for t in medians.sort_values(["seconds", "tier"])["tier"]]


def contributions(events: pd.DataFrame, by: Sequence[str] = ("label",)) -> pd.DataFrame:
    """Return what each tier's clients gave to training, averaged over seeds.

    Returns:
        Columns ``by``, tier; its shares of the ``clients`` that some run asked, of the times that
        clients were ``asked``, of the updates ``used``, of the local ``steps`` behind these, and
        of the ``joules`` spent; ``unused``, the part of its own work that did not count;
        ``seconds``, the median duration of its work; ``staleness``, the mean of its used updates;
        n. A tier that a run never asked has no ``unused``, ``seconds`` and ``staleness``.
    """
    check_columns(events, "run", "seed", "used", "steps", "joules", "staleness", *by)
    check_settings(events, "contributions", by)
    texts = {c: events[c].astype(str) for c in ("run", "tier")}
    rows = events.assign(**texts, seconds=duration_of(events))
    good = rows[rows["used"].astype(bool)]
    keys = ["run", "tier"]
    population = tiers_of(events).groupby(["seed", "tier"]).size().rename("clients").reset_index()
    runs = events[[*by, "seed", "run"]].drop_duplicates("run").astype({"run": str})
    grid = runs.merge(population, on="seed")
    sums = {
        "asked": rows.groupby(keys, observed=True).size(),
        "used": good.groupby(keys, observed=True).size(),
        "steps": good.groupby(keys, observed=True)["steps"].sum(),
        "joules": rows.groupby(keys, observed=True)["joules"].sum(),
        "seconds": rows.groupby(keys, observed=True)["seconds"].median(),
        "staleness": good.groupby(keys, observed=True)["staleness"].mean(),
    }
    places = pd.MultiIndex.from_frame(grid[keys])
    for name, values in sums.items():
        grid[name] = values.reindex(places).to_numpy(float)
    counts = ["asked", "used", "steps", "joules"]
    grid[counts] = grid[counts].fillna(0.0)
    grid["unused"] = (1 - grid["used"] / grid["asked"]).where(grid["asked"] > 0)
    for name in SHARES:
        whole = grid.groupby("run")[name].transform("sum")
        grid[name] = (grid[name] / whole).where(whole > 0)
    return over_seeds(grid, [*by, "tier"])


def accuracy_by_tier(
    clients: pd.DataFrame,
    tiers: pd.DataFrame,
    metric: str = "accuracy",
    by: Sequence[str] = ("label",),
) -> pd.DataFrame:
    """Return how well the model serves the clients of each tier.

    Clients count equally in a run's mean; clients whose tier nobody knows, as no run asked them,
    are left out.

    Args:
        clients: :attr:`analysis.Runs.last_clients`.
        tiers: of :func:`tiers_of`.
        metric: a column of ``clients``.
        by: what makes a row besides the tier.

    Returns:
        Columns ``by``, tier, and the statistics over seeds of :func:`analysis.summarise.spread`.
    """
    check_settings(clients, "accuracy_by_tier", by)
    known = with_tiers(clients, tiers)
    known = known[known[metric].notna()]
    runs = known.groupby([*by, "seed", "run", "tier"], observed=True)[metric].mean().reset_index()
    return spread(per_seed(runs, [metric], [*by, "tier"]), metric, [*by, "tier"])


def with_tiers(clients: pd.DataFrame, tiers: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of clients whose tier is known, with a column for it."""
    return clients.merge(tiers, on=["seed", "client"])
