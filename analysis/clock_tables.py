"""Tables and sentences about the virtual clock: time to a target, what it cost, whom it heard."""

from __future__ import annotations

from math import exp, isfinite, isnan, nan
from typing import Any

import numpy as np
import pandas as pd

from analysis.cells import Cell, Table, records
from analysis.clock_drawing import SECONDS, any_events, clocked
from analysis.grouping import best_of, by_setting, long_table
from analysis.participation import accuracy_by_tier, contributions, order_of_tiers, tiers_of
from analysis.plots.base import quantity
from analysis.plots.targets import target_text
from analysis.runs import Runs
from analysis.schedules import SYNCHRONOUS, kinds_of
from analysis.significance import LEVEL, TESTS, holm, interval, paired
from analysis.summarise import (
    check_baseline,
    default_target,
    per_seed,
    rounds_to_target,
    settled,
    to_target,
)
from analysis.text import TIMES, TO, p_text

CLOCK_TABLES = ("virtual_time", "schedules", "participation")
"""The names of the tables here, in the order of a report."""

COSTS = ("energy_joules", "bytes_total")
"""What a target costs besides virtual time."""


def baseline_of(runs: Runs, baseline: str | None = None) -> str:
    """Return whom others are compared with: synchronous FedAvg, or else the first label.

    Raises:
        ValueError: the baseline that was asked for is none of the runs'.
    """
    table = runs.table
    if baseline is not None:
        check_baseline(table["label"], baseline)
        return baseline
    plain = table[kinds_of(table) == SYNCHRONOUS]
    found = plain[plain["strategy"].str.lower() == "fedavg"]
    for rows in (found, plain, table):
        if labels := runs.order(rows["label"]):
            return labels[0]
    raise ValueError("baseline: the runs hold no strategy")


def speed_ups(
    rounds: pd.DataFrame, target: float, metric: str, baseline: str, test: str = "t"
) -> pd.DataFrame:
    """Return how many times as fast as ``baseline`` each label reached the target.

    On the seeds s that both have, with T the virtual time to the target: the geometric mean
    ``exp(mean_s log(T_baseline / T_label))``, Student's interval of that mean of logarithms, and
    the p of a paired test of them, corrected by Holm's method over the labels. A seed that did not
    get there has no logarithm: then there is no speed-up, as leaving it out would flatter.

    Args:
        rounds: a row per run and round, of one setting.
        target: the value of ``metric`` to reach.
        metric: the column that has to reach it.
        baseline: a label.
        test: ``t`` or ``wilcoxon``.

    Returns:
        Columns label, faster, faster_low, faster_high, pairs (common seeds), p, p_holm.
    """
    spent = per_seed(to_target(rounds, target, metric, SECONDS), [SECONDS], ["label"])
    grid = spent.pivot(index="seed" if "seed" in spent else "run", columns="label", values=SECONDS)
    grid.columns = grid.columns.astype(str)
    rows = []
    for label in grid.columns:
        row = {"label": label, "faster": nan, "faster_low": nan, "faster_high": nan, "p": nan}
        both = grid[[label, baseline]].dropna() if baseline in grid and label != baseline else None
        if both is not None and len(both) and np.isfinite(both.to_numpy()).all():
            slow, fast = (np.log(both[c].to_numpy(float)) for c in (baseline, label))
            low, high = interval(slow - fast)
            row |= {
                "faster": exp(float((slow - fast).mean())),
                "faster_low": exp(low),
                "faster_high": exp(high),
                "p": paired(slow, fast, test)[1],
            }
        rows.append(row | {"pairs": 0 if both is None else len(both)})
    out = pd.DataFrame(rows)
    return out.assign(p_holm=holm(out["p"]))


def virtual_time(
    runs: Runs, target: float | None = None, baseline: str | None = None, test: str = "t"
) -> pd.DataFrame:
    """Return the virtual time, energy and data that each label needed to reach the target.

    Returns:
        A row per setting and label: median, low, high (over seeds), reached, n, the medians
        ``energy_joules`` and ``bytes_total``, and the columns of :func:`speed_ups`.
    """
    metric = runs.metric
    target = default_target(runs.rounds, metric) if target is None else target
    runs = clocked(runs)

    def statistic(part: Runs) -> pd.DataFrame:
        against = baseline_of(part, baseline if baseline in set(part.table["label"]) else None)
        out = rounds_to_target(part.rounds, target, metric, cost=SECONDS).drop(columns="speedup")
        out["label"] = out["label"].astype(str)
        for cost in COSTS:
            if cost in part.rounds:
                found = rounds_to_target(part.rounds, target, metric, cost=cost)
                medians = dict(zip(found["label"].astype(str), found["median"], strict=True))
                out[cost] = out["label"].map(medians)
        out = out.merge(speed_ups(part.rounds, target, metric, against, test), on="label")
        return out.assign(baseline=against, target=target)

    return by_setting(runs, statistic)


def virtual_time_table(
    runs: Runs, target: float | None = None, baseline: str | None = None, test: str = "t"
) -> Table:
    """Return the virtual time to a target with the speed-up over synchronous FedAvg."""
    data = virtual_time(runs, target, baseline, test)
    least = best_of(clocked(runs), data, "median", lowest=True)
    costs = [c for c in COSTS if c in data]
    rows = []
    for r in records(data):
        reached = isfinite(r["median"])
        ends = TO
        if isfinite(r["low"]):
            slowest = quantity(SECONDS, r["high"]) if isfinite(r["high"]) else "never"
            ends = f"{quantity(SECONDS, r['low'])} {TO} {slowest}"
        bold = reached and r["mode"] == "federated" and r["median"] == least.get(r["setting"])
        time = quantity(SECONDS, r["median"]) if reached else "not reached"
        rows.append(
            (
                Cell(r["label"]),
                Cell(time, bold, r["median"]),
                Cell(ends, value=r["low"]),
                _times(r["faster"]),
                _between(r),
                Cell(p_text(r["p_holm"]), r["p_holm"] < LEVEL, r["p_holm"]),
                *(_amount(c, r[c]) for c in costs),
                Cell(f"{r['reached']}/{r['n']}", value=r["reached"] / r["n"]),
            )
        )
    names = {"energy_joules": "Energy", "bytes_total": "Data"}
    header = ["Strategy", "Virtual time", "Range", "Speed-up", "95% CI", "p (Holm)",
              *(names[c] for c in costs), "Reached"]  # fmt: skip
    against, goal = " or ".join(runs.order(data["baseline"])), float(data["target"].iloc[0])
    caption = (
        f"Virtual time to {target_text(goal, runs.metric)}, at the end of the first measured "
        "server step that has it: median over seeds, from the fastest to the slowest; speed-up "
        f"over {against}: geometric mean of the ratios on the seeds that both have, with "
        f"Student's interval of the logarithms, of the pair by itself; p of a {TESTS[test]} of "
        "them with Holm's correction over the strategies. Where a seed did not get there, or "
        "diverged, it counts as infinite and there is no speed-up. Energy of all clients and data "
        "sent up to then are medians. Bold: the fastest, where all have the same seeds, and p "
        "below 0.05."
    )
    return long_table("virtual_time", caption, header, rows, data)


def _times(value: float) -> Cell:
    return Cell(TO) if isnan(value) else Cell(f"{value:.2f}{TIMES}", value=value)


def _between(row: dict[str, float]) -> Cell:
    low, high = row["faster_low"], row["faster_high"]
    return Cell(TO) if isnan(low) else Cell(f"[{low:.2f}, {high:.2f}]", value=low)


def _amount(column: str, value: float) -> Cell:
    return Cell(quantity(column, value), value=value) if isfinite(value) else Cell(TO)


def schedules_table(runs: Runs) -> Table:
    """Return what whole runs took on the clock: time, energy, staleness, what was not used."""
    runs = clocked(runs)
    events = any_events(runs)

    def statistic(part: Runs) -> pd.DataFrame:
        rows = settled(part.rounds)
        ends = rows.groupby(["label", "seed", "run"], observed=True)
        found = ends.agg(
            steps=("round", "max"),
            virtual_seconds=(SECONDS, "max"),
            energy_joules=("energy_joules", "max"),
            utilisation=("utilisation", "mean"),
            staleness_mean=("staleness_mean", "mean"),
            staleness_max=("staleness_max", "max"),
        ).reset_index()
        if events:
            used = part.events.groupby("run", observed=True)["used"].mean()
            found["used"] = found["run"].astype(object).map(used)
        names = [str(c) for c in found if c not in ("label", "seed", "run")]
        seeds = per_seed(found.astype({"label": str}), names, ["label"])
        groups = seeds.groupby("label", sort=False)
        return groups[names].mean().assign(n=groups.size()).reset_index()

    data = by_setting(runs, statistic)
    rows = []
    for r in records(data):
        cells = [Cell(r["label"]), Cell(f"{r['steps']:g}", value=r["steps"])]
        cells += [_amount(c, r[c]) for c in (SECONDS, "energy_joules")]
        cells.append(_number(r["utilisation"], 100, 0))
        cells += [_number(r["staleness_mean"]), _number(r["staleness_max"], 1, 0)]
        if events:
            cells.append(_number(r["used"], 100))
        rows.append((*cells, Cell(f"{r['n']:.0f}", value=r["n"])))
    header = ["Strategy", "Steps", "Virtual time", "Energy", "Utilisation (%)", "Staleness",
              "Largest", *(["Used (%)"] if events else []), "n"]  # fmt: skip
    caption = (
        "Whole runs on the virtual clock that did not diverge: server steps, virtual time, energy "
        "of all clients, part of the time that clients were away in which they computed, mean and "
        "largest staleness of used updates, and how many of the clients that were asked gave an "
        "update that was used. Means over n seeds, of the largest staleness too."
    )
    return long_table("schedules", caption, header, rows, data)


def _number(value: float, factor: float = 1, digits: int = 1) -> Cell:
    return Cell(TO) if isnan(value) else Cell(f"{value * factor:.{digits}f}", value=value)


def participation_table(runs: Runs) -> Table:
    """Return what each tier of devices gave, and how well the model serves its clients."""
    runs = clocked(runs)
    measured = not runs.last_clients.empty

    def statistic(part: Runs) -> pd.DataFrame:
        if part.events.empty:
            return pd.DataFrame()
        out = contributions(part.events).astype({"label": str})
        if measured:
            found = accuracy_by_tier(part.last_clients, tiers_of(part.events))
            found = found.astype({"label": str})[["label", "tier", "mean"]]
            out = out.merge(found.rename(columns={"mean": "accuracy"}), "left", ["label", "tier"])
        place = {tier: i for i, tier in enumerate(order_of_tiers(part.events))}
        return out.sort_values("tier", key=lambda c: c.map(place), kind="stable")

    data = by_setting(runs, statistic)
    shares = ("clients", "asked", "used", "steps", "joules", "unused")
    rows = []
    for r in records(data):
        cells = [Cell(r["label"]), Cell(r["tier"] or "all")]
        cells += [_number(r[c], 100) for c in shares]
        cells += [_amount(SECONDS, r["seconds"]), _number(r["staleness"])]
        if measured:
            cells.append(_number(r["accuracy"], 100))
        rows.append((*cells, Cell(f"{r['n']:.0f}", value=r["n"])))
    header = ["Strategy", "Tier", "Clients (%)", "Asked (%)", "Used (%)", "Steps (%)",
              "Energy (%)", "In vain (%)", "Duration", "Staleness",
              *(["Accuracy (%)"] if measured else []), "n"]  # fmt: skip
    caption = (
        "Participation by tier of devices: its share of the clients that some run asked, of the "
        "times that clients were asked, of used updates, of the local steps behind them and of "
        "the energy; which part of its own work was not used; the median duration of its work; "
        "the mean staleness of its used updates"
        + ("; the mean accuracy of its clients on their validation data" if measured else "")
        + ". Means over n seeds. Training is biased where a tier's share of used updates is not "
        "its share of the clients."
    )
    return long_table("participation", caption, header, rows, data, texts=2)


def clock_tables(
    runs: Runs, target: float | None = None, baseline: str | None = None, test: str = "t"
) -> list[Table]:
    """Return the tables of the runs that have a clock; none without."""
    here = clocked(runs)
    if not len(here):
        return []
    tables = []
    if has_target_value(runs, target):
        tables.append(virtual_time_table(runs, target, baseline, test))
    tables.append(schedules_table(runs))
    return [*tables, participation_table(runs)] if any_events(here) else tables


def has_target_value(runs: Runs, target: float | None) -> bool:
    """Tell whether runs with a clock have a target that can be looked for."""
    if not clocked(runs).rounds[runs.metric].notna().any():
        return False
    return target is not None or isfinite(default_target(runs.rounds, runs.metric))


def clock_findings(
    runs: Runs, target: float | None = None, baseline: str | None = None, test: str = "t"
) -> list[str]:
    """Return a sentence per setting: who reached the target when, and how much faster that is."""
    if not len(clocked(runs)) or not has_target_value(runs, target):
        return []
    data = virtual_time(runs, target, baseline, test)
    goal = target_text(float(data["target"].iloc[0]), runs.metric)
    sentences = []
    for setting, rows in data.groupby("setting", sort=False):
        texts = [_finding(r) for r in records(rows)]
        head = f"{setting!s}: on" if setting else "On"
        sentences.append(f"{head} the virtual clock, {goal} is reached by {'; '.join(texts)}.")
    return sentences


def _finding(row: dict[str, Any]) -> str:
    label, seeds = row["label"], f"{row['n']} seed{'s'[: row['n'] != 1]}"
    if not isfinite(row["median"]):
        return f"{label} in {row['reached']} of {seeds} only"
    text = f"{label} in {quantity(SECONDS, row['median'])} (median of {seeds})"
    if isnan(row["faster"]):
        return text
    text += f", {row['faster']:.2f} times as fast as {row['baseline']}"
    if isnan(row["faster_low"]):
        return f"{text} ({row['pairs']} common seed{'s'[: row['pairs'] != 1]} allow no interval)"
    text += f" (95% interval {row['faster_low']:.2f} to {row['faster_high']:.2f})"
    return text if row["p_holm"] < LEVEL else f"{text}, not distinguishable from it"
