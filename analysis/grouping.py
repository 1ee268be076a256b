"""What all tables share: a row per setting and label, and which of them is best."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd

from analysis.cells import Cell, Table
from analysis.runs import Runs


def by_setting(runs: Runs, statistic: Callable[[Runs], pd.DataFrame]) -> pd.DataFrame:
    """Return ``statistic`` of each setting's runs, with columns setting, mode and runs added.

    ``statistic`` returns a row per label; rows come in the order of settings and legends.
    """
    parts = []
    for setting in runs.settings:
        part = runs.at(setting)
        rows = statistic(part)
        if rows.empty:
            continue
        rows = rows.assign(label=rows["label"].astype(str), setting=setting)
        groups = part.table.groupby("label")
        rows["mode"] = rows["label"].map(groups["mode"].first())
        names = {label: "; ".join(group.index) for label, group in groups}
        rows["runs"] = rows["label"].map(names)
        place = {label: i for i, label in enumerate(runs.order(rows["label"]))}
        parts.append(rows.sort_values("label", key=lambda c: c.map(place), kind="stable"))
    if not parts:
        return pd.DataFrame({"setting": [], "label": [], "mode": [], "runs": []})
    out = pd.concat(parts, ignore_index=True)
    first = ["setting", "label", "mode"]
    return out[[*first, *[c for c in out.columns if c not in (*first, "runs")], "runs"]]


def federated(runs: Runs) -> pd.DataFrame:
    """Return the rounds of the federated runs: the rivals; baselines do not compete."""
    return runs.rounds[runs.rounds["mode"] == "federated"]


def seeds_of(runs: Runs) -> dict[str, tuple[int, ...]]:
    """Return the seeds of each federated label of a setting."""
    table = runs.table[runs.table["mode"] == "federated"]
    return {str(x): tuple(sorted(set(g["seed"]))) for x, g in table.groupby("label", sort=False)}


def uneven(runs: Runs) -> bool:
    """Tell whether the federated labels of a setting have different seeds."""
    return len(set(seeds_of(runs).values())) > 1


def long_table(
    name: str,
    caption: str,
    header: Sequence[str],
    rows: Sequence[tuple[Cell, ...]],
    data: pd.DataFrame,
    texts: int = 1,
) -> Table:
    """Return a table with a row per setting and label; one setting needs no column for it."""
    if data["setting"].nunique() > 1:
        rows = [(Cell(s), *row) for s, row in zip(data["setting"], rows, strict=True)]
        header, texts = ["Setting", *header], texts + 1
    groups = header[0] == "Setting"
    return Table(name, caption, tuple(header), tuple(rows), data, texts, groups)


def best_of(runs: Runs, data: pd.DataFrame, column: str, lowest: bool) -> dict[str, float]:
    """Return the best value of ``column`` among the federated strategies of each setting.

    A setting whose strategies have different seeds has none: their means are over different luck.
    """
    even = [setting for setting in runs.settings if not uneven(runs.at(setting))]
    rivals = data[(data["mode"] == "federated") & data[column].notna()]
    rivals = rivals[rivals["setting"].isin(even)]
    best = rivals.groupby("setting")[column].agg("min" if lowest else "max")
    return {str(s): float(v) for s, v in best.items()}
