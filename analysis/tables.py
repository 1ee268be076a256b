"""The tables of a paper, each from a set of runs; every number can be traced to its runs."""

from __future__ import annotations

from math import isfinite, isnan

import numpy as np
import pandas as pd

from analysis.appearance import base_name
from analysis.cells import Cell, Table, records
from analysis.costs import cost, fairness
from analysis.grouping import best_of, by_setting, federated, long_table
from analysis.plots.base import is_share, name_of, quantity
from analysis.plots.targets import target_text
from analysis.runs import Runs
from analysis.summarise import (
    check_baseline,
    default_target,
    diverged,
    is_lower_better,
    last,
    ranks,
    rounds_to_target,
    settled,
)
from analysis.text import TIMES, TO, plus_minus
from analysis.verdicts import final_table, significance_table
from analysis.working_time import is_known

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


def targets_table(
    runs: Runs,
    target: float | None = None,
    metric: str | None = None,
    baseline: str | None = None,
) -> Table:
    """Return the rounds to a target accuracy with the speed-up over a baseline.

    Args:
        runs: the runs.
        target: to be reached; :func:`analysis.summarise.default_target` without.
        metric: the column that has to reach it; the runs' measure without.
        baseline: a label; FedAvg, or else the first strategy, without.
    """
    metric = metric or runs.metric
    if target is None:
        target = default_target(runs.rounds, metric)
    labels = runs.order(federated(runs)["label"].unique()) or runs.order()
    if baseline is None:
        baseline = next((x for x in labels if base_name(runs.title(x)) == "fedavg"), labels[0])
    else:
        check_baseline(runs.table["label"], baseline)

    def statistic(part: Runs) -> pd.DataFrame:
        here = baseline if baseline in set(part.table["label"]) else None
        return rounds_to_target(part.rounds, target, metric, baseline=here)

    data = by_setting(runs, statistic)
    least = best_of(runs, data, "median", lowest=True)
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
        f"slowest, speed-up of the median over {baseline} on the seeds that both have, and how "
        "many seeds got there. A seed that did not, or that diverged, counts as infinite. Bold: "
        "the fastest federated strategy, where all have the same seeds."
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
    # The smallest spread is the best one, of losses too.
    lowest = {"mean": flip, "std": True, "worst": flip, "best": flip, "jain": False}
    marks = {c: best_of(runs, data, c, low) for c, low in lowest.items()}
    lost = {
        (setting, label): f"{of}/{whole} diverged"
        for setting in runs.settings
        for label, of, whole in diverged(runs.at(setting).rounds).itertuples(index=False)
    }
    rows = []
    for r in records(data):
        cells = [Cell(r["label"])]
        if said := lost.get((r["setting"], r["label"])):
            rest = [Cell(TO)] * (len(marks) + 1)
            rows.append((*cells, Cell(said), *rest, Cell(f"{r['n']:.0f}", value=r["n"])))
            continue
        for c, best in marks.items():
            text = f"{r[c]:.3f}" if c == "jain" else f"{r[c] * factor:.1f}"
            bold = r["mode"] == "federated" and r[c] == best.get(r["setting"])
            cells.append(Cell(text, bold, r[c]))
            if c == "std":
                known = not isnan(r["noise"])
                text = f"{r['noise'] * factor:.1f}" if known else TO
                cells.append(Cell(text, value=r["noise"] if known else None))
        cells.append(Cell(f"{r['clients']:.0f}", value=r["clients"]))
        cells.append(Cell(f"{r['n']:.0f}", value=r["n"]))
        rows.append(tuple(cells))
    unit = " (%)" if is_share(metric) else ""
    caption = (
        f"{name_of(metric)}{unit} over clients in the last measured round, clients counted "
        "equally, attackers left out: mean, standard deviation, the standard deviation that a "
        "perfectly fair model would show since each client has few validation examples (Noise), "
        "mean of the lowest and of the highest tenth, Jain's index; averages over n seeds. Bold: "
        "the best federated strategy of a column, where all have the same seeds. Differences "
        "between clients below the noise say nothing."
    )
    header = [
        "Strategy", "Mean", "Std", "Noise", "Lowest 10%", "Highest 10%", "Jain", "Clients", "n",
    ]  # fmt: skip
    return long_table("fairness", caption, header, rows, data)


def cost_table(runs: Runs) -> Table:
    """Return what a run takes: rounds, time, bytes, examples.

    The time is what workers computed where every run recorded it: of runs that share workers the
    wall-clock time says nothing about a strategy.
    """
    data = by_setting(runs, lambda part: cost(settled(part.rounds)))
    busy = is_known(runs.rounds)
    times = ("busy", "busy_round") if busy else ("seconds", "seconds_round")
    rows = []
    for r in records(data):
        cells = [Cell(r["label"]), Cell(f"{r['rounds']:g}", value=r["rounds"])]
        for column in (*times, "bytes_up", "bytes_down"):
            axis = "seconds" if column in times else column
            cells.append(Cell(quantity(axis, r[column]), value=r[column]))
        seen = r["examples"]
        cells.append(Cell(TO) if isnan(seen) else Cell(f"{seen:,.0f}", value=seen))
        cells.append(Cell(f"{r['n']:.0f}", value=r["n"]))
        rows.append(tuple(cells))
    time = (
        "time that all workers computed for it together, in all and per round, the first round's "
        "compilation left out"
        if busy
        else "wall-clock time in all and per round, compilation included"
    )
    caption = (
        f"What one run takes that did not diverge: rounds, {time}, data sent up and down, training "
        "examples that the clients processed, every local epoch counted; means over n seeds."
    )
    word = "Work" if busy else "Time"
    header = ["Strategy", "Rounds", word, f"{word}/round", "Upload", "Download", "Examples", "n"]
    return long_table("cost", caption, header, rows, data)


def ranks_table(runs: Runs, metric: str | None = None) -> Table:
    """Return the mean rank of each federated strategy over the settings."""
    metric = metric or runs.metric
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
        "in, by the seeds that all have there; 1 is best, ties share their mean rank, and who "
        "diverged is last."
    )
    names = {x: "; ".join(g.index) for x, g in runs.table.groupby("label")}
    data["runs"] = data["label"].map(names)
    return Table("ranks", caption, ("Strategy", "Mean rank", "Settings"), cells, data)


def runs_table(runs: Runs) -> Table:
    """Return every run with its seed, state, final accuracy, weights and experiment hash."""
    metric = runs.metric
    share = is_share(metric)
    ends = last(runs.rounds, metric).set_index("run")[metric]
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
                Cell(plus_minus(value, np.nan, share), value=value),
                Cell(weights[:12] or TO),
                Cell(r["hash"][:12] or TO),
            )
        )
    data = runs.table.reset_index()
    data[f"final_{metric}"] = data["run"].map(finals)
    data["weights_sha256"] = [runs.summaries[r].get("weights_sha256") for r in data["run"]]
    measure = f"{name_of(metric)}{' (%)' if share else ''}"
    header = ("Run", "Strategy", "Seed", "Status", measure, "Weights", "Experiment")
    caption = (
        f"Every run: last {name_of(metric).lower()}, and the first digits of the sha256 of its "
        "final weights and of its experiment."
    )
    return Table("runs", caption, header, tuple(rows), data, texts=2)


def own_metrics(runs: Runs) -> list[str]:
    """Return the metrics of the models' own that the server measured, such as ``server_auc``.

    A model's own name for its accuracy is not told again.
    """
    rounds, known = runs.rounds, ("server_accuracy", "server_loss", runs.metric)
    return [
        name
        for name in rounds.columns
        if name.startswith("server_")
        and name not in known
        and not name.startswith(("server_confusion_", "server_per_class_"))
        and rounds[name].notna().any()
        and not rounds[name].equals(rounds["server_accuracy"])
    ]


def all_tables(
    runs: Runs,
    *,
    test: str = "t",
    target: float | None = None,
    baseline: str | None = None,
    bold: str = "ties",
) -> list[Table]:
    """Return every table that the runs give."""
    tables = []
    if runs.rounds[runs.metric].notna().any():
        tables.append(final_table(runs, test=test, bold=bold))
        pairs = significance_table(runs, test=test)
        if pairs.rows:
            tables.append(pairs)
        if target is not None or isfinite(default_target(runs.rounds, runs.metric)):
            tables.append(targets_table(runs, target, baseline=baseline))
        rivals = federated(runs)
        if rivals["setting"].nunique() > 1 and rivals["label"].nunique() > 1:
            tables.append(ranks_table(runs))
    loss = f"{runs.metric.partition('_')[0]}_loss"
    if loss != runs.metric and loss in runs.rounds and runs.rounds[loss].notna().any():
        tables.append(final_table(runs, loss, test, bold=bold))
    tables += [final_table(runs, metric, test, bold=bold) for metric in own_metrics(runs)]
    if not runs.last_clients.empty:
        tables.append(fairness_table(runs))
    return [*tables, cost_table(runs), runs_table(runs)]
