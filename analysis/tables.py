"""The tables of a paper, each from a set of runs; every number can be traced to its runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isfinite, isnan
from typing import Any

import numpy as np
import pandas as pd

from analysis.cells import Cell, Table, records
from analysis.costs import cost, fairness
from analysis.plots.base import is_share, name_of, quantity
from analysis.plots.targets import target_text
from analysis.runs import Runs
from analysis.significance import TESTS, against_best
from analysis.style import base_name, order
from analysis.summarise import (
    check_baseline,
    default_target,
    final,
    is_lower_better,
    last,
    ranks,
    rounds_to_target,
)
from analysis.text import TIMES, TO, p_text, plus_minus, span

DAGGER = "†"
TABLES = (
    "final_server_accuracy",
    "significance_server_accuracy",
    "rounds_to_target",
    "ranks",
    "final_server_loss",
    "fairness",
    "cost",
    "runs",
)
"""The names of all tables, in the order of a report."""


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
        place = {label: i for i, label in enumerate(order(rows["label"]))}
        parts.append(rows.sort_values("label", key=lambda c: c.map(place), kind="stable"))
    if not parts:
        return pd.DataFrame({"setting": [], "label": [], "mode": [], "runs": []})
    out = pd.concat(parts, ignore_index=True)
    first = ["setting", "label", "mode"]
    return out[[*first, *[c for c in out.columns if c not in (*first, "runs")], "runs"]]


def federated(runs: Runs) -> pd.DataFrame:
    """Return the rounds of the federated runs: the rivals; baselines do not compete."""
    return runs.rounds[runs.rounds["mode"] == "federated"]


def final_table(
    runs: Runs, metric: str = "server_accuracy", test: str = "t", level: float = 0.05
) -> Table:
    """Return the table of final metrics: a row per strategy, a column per setting.

    Bold marks the best federated mean of each setting and its ties: strategies whose paired
    test against the best, Holm-corrected within the setting, does not reject at ``level``.
    Without two common seeds there is no test and only the best is bold.
    """
    data = by_setting(runs, lambda part: with_ties(part, metric, test, level))
    if data.empty:
        raise ValueError(f"final_table: no run measured {metric!r}")
    share = is_share(metric)
    settings = [s for s in runs.settings if s in set(data["setting"])]
    found: dict[tuple[str, str], Any] = {
        (row["setting"], row["label"]): row for row in data.to_dict("records")
    }
    rows = []
    for label in order(data["label"]):
        row = [Cell(label)]
        for setting in settings:
            at = found.get((setting, label))
            if at is None:
                row.append(Cell(TO))
                continue
            text = plus_minus(at["mean"], at["std"], share) + (f" {DAGGER}" if at["tie"] else "")
            row.append(Cell(text, bool(at["first"] or at["tie"]), at["mean"]))
        counts = data.loc[data["label"] == label, "n"]
        row.append(Cell(span(counts), value=float(counts.min())))
        rows.append(tuple(row))
    unit = " (%)" if share else ""
    caption = (
        f"{name_of(metric)}{unit} after the last round: mean ± standard deviation over n seeds. "
        "Bold: the best federated strategy of a column"
    )
    if data["p"].notna().any():
        caption += (
            f" and its ties ({DAGGER}: {TESTS[test]} over seeds against the best, "
            f"Holm-corrected, p ≥ {level:g})"
        )
    if len(settings) == 1:
        header = ["Strategy", f"{name_of(metric)}{unit}", "n"]
    else:
        header = ["Strategy", *settings, "n"]
    return Table(f"final_{metric}", f"{caption}.", tuple(header), tuple(rows), data)


def with_ties(part: Runs, metric: str, test: str, level: float) -> pd.DataFrame:
    """Return final statistics with columns first (the best federated one), p, p_holm, tie."""
    out = final(part.rounds, metric)
    rivals = federated(part)
    if rivals[metric].notna().any():
        means = final(rivals, metric).set_index("label")["mean"]
        best = means.idxmin() if is_lower_better(metric) else means.idxmax()
        tests = against_best(rivals, metric, test, level)[["label", "p", "p_holm", "tie"]]
    else:
        best, tests = None, pd.DataFrame({"label": [], "p": [], "p_holm": [], "tie": []})
    out = out.assign(label=out["label"].astype(str)).merge(tests, on="label", how="left")
    return out.assign(first=out["label"] == best, tie=out["tie"].eq(True))


def findings(
    runs: Runs, test: str = "t", metric: str = "server_accuracy", level: float = 0.05
) -> list[str]:
    """Return a sentence per setting: who is best, by how much, and whether that is luck."""
    sentences: list[str] = []
    if not runs.rounds[metric].notna().any():
        return sentences
    share = is_share(metric)

    def value(row: dict[str, Any]) -> str:
        return plus_minus(row["mean"], row["std"], share) + ("%" if share else "")

    for setting in runs.settings:
        part = runs.at(setting)
        rows = records(with_ties(part, metric, test, level))
        first = next((row for row in rows if row["first"]), None)
        if first is None:
            continue
        alone = federated(part)["label"].nunique() == 1
        text = f"{first['label']} {'reaches' if alone else 'is best with'} {value(first)}"
        if ties := order(row["label"] for row in rows if row["tie"]):
            text += f", not distinguishable from {', '.join(ties)} ({TESTS[test]})"
        elif any(row["p"] == row["p"] for row in rows):
            text += f", ahead of all others (p < {level:g}, {TESTS[test]}, Holm-corrected)"
        pooled = [row for row in rows if base_name(row["label"]) == "centralised"]
        text += f"; centralised training reaches {value(pooled[0])}" if pooled else ""
        sentences.append(f"{setting}: {text}." if setting else f"{text}.")
    return sentences


def significance_table(runs: Runs, metric: str = "server_accuracy", test: str = "t") -> Table:
    """Return the paired tests behind :func:`final_table`: every strategy against the best."""
    data = by_setting(runs, lambda part: against_best(federated(part), metric, test))
    share = is_share(metric)
    unit = " (points)" if share else ""
    rows = [
        (
            Cell(r["label"]),
            Cell(r["best"]),
            Cell(str(r["n"]), value=r["n"]),
            Cell(f"{r['difference'] * (100 if share else 1):+.2f}", value=r["difference"]),
            Cell(p_text(r["p"]), value=r["p"]),
            Cell(p_text(r["p_holm"]), r["p_holm"] < 0.05, r["p_holm"]),
        )
        for r in records(data)
    ]
    header = ["Strategy", "Best", "n", f"Difference{unit}", "p", "p (Holm)"]
    caption = (
        f"{name_of(metric)} after the last round against the best strategy of the setting: "
        f"{TESTS[test]} over n seeds, two-sided; Holm's correction over the strategies of a "
        "setting. Bold: p below 0.05 after correction."
    )
    return long_table(f"significance_{metric}", caption, header, rows, data, texts=2)


def targets_table(
    runs: Runs,
    target: float | None = None,
    metric: str = "server_accuracy",
    baseline: str | None = None,
) -> Table:
    """Return the rounds to a target accuracy with the speed-up over a baseline.

    Args:
        runs: the runs.
        target: to be reached; :func:`analysis.summarise.default_target` without.
        metric: the column that has to reach it.
        baseline: a label; FedAvg, or else the first strategy, without.
    """
    if target is None:
        target = default_target(runs.rounds, metric)
    labels = order(federated(runs)["label"].unique()) or order(runs.table["label"])
    if baseline is None:
        baseline = next((x for x in labels if base_name(x) == "fedavg"), labels[0])
    else:
        check_baseline(runs.table["label"], baseline)

    def statistic(part: Runs) -> pd.DataFrame:
        here = baseline if baseline in set(part.table["label"]) else None
        return rounds_to_target(part.rounds, target, metric, baseline=here)

    data = by_setting(runs, statistic)
    least = best_of(data, "median", lowest=True)
    rows = []
    for r in records(data):
        reached = isfinite(r["median"])
        slowest = f"{r['high']:g}" if isfinite(r["high"]) else "never"
        ends = f"{r['low']:g}{TO}{slowest}" if isfinite(r["low"]) else TO
        bold = reached and r["mode"] == "federated" and r["median"] == least.get(r["setting"])
        faster = r["speedup"]
        speed = Cell(TO) if isnan(faster) else Cell(f"{faster:.2f}{TIMES}", value=faster)
        rows.append(
            (
                Cell(r["label"]),
                Cell(f"{r['median']:g}" if reached else "not reached", bold, r["median"]),
                Cell(ends, value=r["low"]),
                speed,
                Cell(f"{r['reached']}/{r['n']}", value=r["reached"] / r["n"]),
            )
        )
    caption = (
        f"Rounds to {target_text(target, metric)}: median over seeds, from the fastest to the "
        f"slowest, speed-up of the median over {baseline}, and how many seeds got there. A seed "
        "that did not counts as infinite. Bold: the fastest federated strategy."
    )
    header = ["Strategy", "Rounds", "Range", "Speed-up", "Reached"]
    return long_table("rounds_to_target", caption, header, rows, data.assign(target=target))


def fairness_table(runs: Runs, metric: str = "accuracy") -> Table:
    """Return how evenly the final model serves the clients."""
    clients = runs.last_clients

    def statistic(part: Runs) -> pd.DataFrame:
        return fairness(clients[clients["run"].isin(part.table.index)], metric)

    data = by_setting(runs, statistic)
    factor = 100 if is_share(metric) else 1
    flip = is_lower_better(metric)
    marks = {
        c: best_of(data, c, lowest=(c == "std") != (flip and c != "jain"))
        for c in ("mean", "std", "worst", "best", "jain")
    }
    rows = []
    for r in records(data):
        cells = [Cell(r["label"])]
        for c, best in marks.items():
            text = f"{r[c]:.3f}" if c == "jain" else f"{r[c] * factor:.1f}"
            bold = r["mode"] == "federated" and r[c] == best.get(r["setting"])
            cells.append(Cell(text, bold, r[c]))
        cells.append(Cell(f"{r['clients']:.0f}", value=r["clients"]))
        cells.append(Cell(f"{r['n']:.0f}", value=r["n"]))
        rows.append(tuple(cells))
    unit = " (%)" if is_share(metric) else ""
    caption = (
        f"{name_of(metric)}{unit} over clients in the last measured round, clients counted "
        "equally: mean, standard deviation, mean of the lowest and of the highest tenth, Jain's "
        "index; averages over n seeds. Bold: the best federated strategy of a column."
    )
    header = ["Strategy", "Mean", "Std", "Lowest 10%", "Highest 10%", "Jain", "Clients", "n"]
    return long_table("fairness", caption, header, rows, data)


def cost_table(runs: Runs) -> Table:
    """Return what a run takes: rounds, time, bytes, examples."""
    data = by_setting(runs, lambda part: cost(part.rounds))
    rows = []
    for r in records(data):
        cells = [Cell(r["label"]), Cell(f"{r['rounds']:g}", value=r["rounds"])]
        for column in ("seconds", "seconds_round", "bytes_up", "bytes_down"):
            axis = "seconds" if column == "seconds_round" else column
            cells.append(Cell(quantity(axis, r[column]), value=r[column]))
        cells.append(Cell(f"{r['examples']:,.0f}", value=r["examples"]))
        cells.append(Cell(f"{r['n']:.0f}", value=r["n"]))
        rows.append(tuple(cells))
    caption = (
        "What one run takes: rounds, wall-clock time in all and per round, data sent up and down, "
        "training examples of the clients that took part, summed over rounds; means over n seeds."
    )
    header = ["Strategy", "Rounds", "Time", "Time/round", "Upload", "Download", "Examples", "n"]
    return long_table("cost", caption, header, rows, data)


def ranks_table(runs: Runs, metric: str = "server_accuracy") -> Table:
    """Return the mean rank of each federated strategy over the settings."""
    rows = runs.by_setting
    data = ranks(rows[rows["mode"] == "federated"], metric)
    data["label"] = data["label"].astype(str)
    best = data["rank"].min()
    cells = tuple(
        (
            Cell(r["label"]),
            Cell(f"{r['rank']:.2f}", r["rank"] == best, r["rank"]),
            Cell(str(r["blocks"]), value=r["blocks"]),
        )
        for r in records(data)
    )
    caption = (
        f"Mean rank by final {name_of(metric).lower()} over the settings that every strategy ran "
        "in; 1 is best, ties share their mean rank."
    )
    names = {x: "; ".join(g.index) for x, g in runs.table.groupby("label")}
    data["runs"] = data["label"].map(names)
    return Table("ranks", caption, ("Strategy", "Mean rank", "Settings"), cells, data)


def runs_table(runs: Runs) -> Table:
    """Return every run with its seed, state, final accuracy, weights and experiment hash."""
    ends = last(runs.rounds).set_index("run")["server_accuracy"]
    finals = {str(run): float(v) for run, v in ends.items()}
    rows = []
    for run, r in zip(runs.table.index, records(runs.table), strict=True):
        value = finals.get(run, np.nan)
        weights = str(runs.summaries[run].get("weights_sha256") or "")
        rows.append(
            (
                Cell(run),
                Cell(r["label"]),
                Cell(str(r["seed"]), value=r["seed"]),
                Cell(r["status"]),
                Cell(plus_minus(value, np.nan, True), value=value),
                Cell(weights[:12] or TO),
                Cell(r["hash"][:12] or TO),
            )
        )
    data = runs.table.reset_index()
    data["final_server_accuracy"] = data["run"].map(finals)
    data["weights_sha256"] = [runs.summaries[r].get("weights_sha256") for r in data["run"]]
    header = ("Run", "Strategy", "Seed", "Status", "Accuracy (%)", "Weights", "Experiment")
    caption = (
        "Every run: final test accuracy, and the first digits of the sha256 of its final weights "
        "and of its experiment."
    )
    return Table("runs", caption, header, tuple(rows), data, texts=2)


def all_tables(
    runs: Runs,
    *,
    test: str = "t",
    target: float | None = None,
    baseline: str | None = None,
) -> list[Table]:
    """Return every table that the runs give."""
    tables = []
    if runs.rounds["server_accuracy"].notna().any():
        tables.append(final_table(runs, test=test))
        pairs = significance_table(runs, test=test)
        if pairs.rows:
            tables.append(pairs)
        tables.append(targets_table(runs, target, baseline=baseline))
        rivals = federated(runs)
        if rivals["setting"].nunique() > 1 and rivals["label"].nunique() > 1:
            tables.append(ranks_table(runs))
    if runs.rounds["server_loss"].notna().any():
        tables.append(final_table(runs, "server_loss", test))
    if not runs.last_clients.empty:
        tables.append(fairness_table(runs))
    return [*tables, cost_table(runs), runs_table(runs)]


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
    return Table(name, caption, tuple(header), tuple(rows), data, texts)


def best_of(data: pd.DataFrame, column: str, lowest: bool) -> dict[str, float]:
    """Return the best value of ``column`` among the federated strategies of each setting."""
    rivals = data[(data["mode"] == "federated") & data[column].notna()]
    best = rivals.groupby("setting")[column].agg("min" if lowest else "max")
    return {str(s): float(v) for s, v in best.items()}
