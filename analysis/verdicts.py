"""Who is best, by how much, and whether that is more than luck: the tables and the sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from analysis.cells import Cell, Table, records
from analysis.grouping import by_setting, long_table
from analysis.names import ELSEWHERE, Reported
from analysis.plots.base import is_share, name_of
from analysis.runs import Runs
from analysis.significance import LEVEL, TESTS, Comparison, compare, resolution_of
from analysis.summarise import final, slim
from analysis.text import TO, p_text, plus_minus, span

DAGGER = "†"


def resolution(part: Runs, metric: str) -> float:
    """Return the step of an accuracy: one example of those it was counted on; 0: unknown."""
    if "accuracy" not in metric:
        return 0.0
    key = "test" if metric.startswith("server_") else "validation"
    return resolution_of((c.get("data") or {}).get(key) for c in part.configs.values())


def verdict(part: Runs, metric: str, test: str = "t", level: float = LEVEL) -> Comparison:
    """Compare the federated strategies of one setting."""
    key = ("verdict", metric, test, level)
    if key not in part.memo:
        rivals = slim(part.rounds, metric)
        rivals = rivals[rivals["mode"] == "federated"]
        known = rivals[metric].notna().any()
        step = resolution(part, metric)
        part.memo[key] = compare(rivals, metric, test, level, step) if known else Comparison()
    found: Comparison = part.memo[key]
    return found


BOLD = ("ties", "best")
"""What a final table prints bold: the best and those not told from it, or the best alone."""


def final_table(
    runs: Runs,
    metric: str | None = None,
    test: str = "t",
    level: float = LEVEL,
    bold: str = "ties",
) -> Table:
    """Return the table of final metrics: a row per strategy, a column per setting.

    Bold marks the best federated strategy of each setting, by its mean over the seeds that all
    have. A dagger (†) marks those that the test did not tell from it, if it could have: they are
    bold too, unless ``bold`` is ``best``. A strategy of which a run diverged has no mean: its cell
    says how many did.
    """
    metric = metric or runs.metric
    data = by_setting(runs, lambda part: with_ties(part, metric, test, level))
    if data.empty:
        raise ValueError(f"final_table: no run measured {metric!r}")
    settings = [s for s in runs.settings if s in set(data["setting"])]
    found: dict[tuple[str, str], Any] = {
        (row["setting"], row["label"]): row for row in data.to_dict("records")
    }
    rows = []
    for label in runs.order(data["label"]):
        row = [Cell(label)]
        row += [
            _final_cell(found.get((setting, label)), is_share(metric), bold == "ties")
            for setting in settings
        ]
        counts = data.loc[data["label"] == label, "n"]
        row.append(Cell(span(counts), value=float(counts.min())))
        rows.append(tuple(row))
    others = [one for one in runs.names.reported if one.metric == metric]
    rows += [_reported_row(runs, one, settings, is_share(metric)) for one in others]
    unit = " (%)" if is_share(metric) else ""
    header = ["Strategy", *(settings if len(settings) > 1 else [f"{name_of(metric)}{unit}"]), "n"]
    caption = _final_caption(runs, data, metric, test, level, bold == "ties")
    if others:
        sources = dict.fromkeys(f"{one.label}: {one.source}" for one in others)
        caption += f" {ELSEWHERE} As reported, not run here: {'; '.join(sources)}."
        data = pd.concat([data, _reported_data(others)], ignore_index=True)
    return Table(f"final_{metric}", caption, tuple(header), tuple(rows), data)


def _reported_row(
    runs: Runs, one: Reported, settings: Sequence[str], share: bool
) -> tuple[Cell, ...]:
    """Return the row of a result of another paper; its mark tells it from our own."""
    own = runs.names.of_runs(one.setting, settings)
    cells = [
        Cell(plus_minus(one.value, one.std, share), value=one.value) if s == own else Cell(TO)
        for s in settings
    ]
    return (Cell(f"{one.label} {ELSEWHERE}"), *cells, Cell(TO))


def _reported_data(others: Sequence[Reported]) -> pd.DataFrame:
    rows = [
        {"setting": one.setting, "label": one.label, "mode": "reported", "mean": one.value,
         "std": one.std, "runs": one.source}
        for one in others
    ]  # fmt: skip
    return pd.DataFrame(rows)


def _final_cell(at: dict[str, Any] | None, share: bool, ties: bool) -> Cell:
    if at is None:
        return Cell(TO)
    if at["diverged"]:
        return Cell(f"{at['diverged']}/{at['seeds']} diverged", value=float("nan"))
    text = plus_minus(at["mean"], at["std"], share) + (f" {DAGGER}" if at["tie"] else "")
    return Cell(text, bool(at["first"] or (ties and at["tie"])), at["mean"])


def _final_caption(
    runs: Runs, data: pd.DataFrame, metric: str, test: str, level: float, ties: bool
) -> str:
    unit = " (%)" if is_share(metric) else ""
    caption = (
        f"{name_of(metric)}{unit} after the last round: mean ± standard deviation over n seeds. "
        "Bold: the best federated strategy of a column on the seeds that all strategies have"
    )
    if data["tie"].any():
        how = (
            f"{TESTS[test]} over these seeds, p ≥ {level:g} after Holm's correction over all pairs "
            "of strategies"
        )
        caption += (
            f", and those not told from it ({DAGGER}: {how})"
            if ties
            else f". {DAGGER}: not told from it ({how})"
        )
    caption += "."
    verdicts = {s: verdict(runs.at(s), metric, test, level) for s in runs.settings}
    for text in dict.fromkeys(t for one in verdicts.values() for t in one.caveats):
        where = [s for s, one in verdicts.items() if text in one.caveats and s]
        caption += f" {f'{where[0]}: ' if len(where) == 1 else ''}{text[0].upper()}{text[1:]}."
    if (data["diverged"] > 0).any():
        caption += (
            " Diverged: seeds whose model was no longer finite, of all; such a strategy has no "
            "mean and is not compared."
        )
    return caption


def with_ties(part: Runs, metric: str, test: str, level: float) -> pd.DataFrame:
    """Return final statistics with columns first (the best federated one), p, p_holm, tie."""
    out = final(part.rounds, metric)
    one = verdict(part, metric, test, level)
    out = out.assign(label=out["label"].astype(str))
    out = out.merge(one.rows[["label", "p", "p_holm", "tie"]], on="label", how="left")
    return out.assign(first=out["label"] == one.best, tie=out["tie"].eq(True))


def findings(
    runs: Runs, test: str = "t", metric: str | None = None, level: float = LEVEL
) -> list[str]:
    """Return a sentence per setting: who is best, by how much, and whether that is luck."""
    metric = metric or runs.metric
    sentences: list[str] = []
    if not runs.rounds[metric].notna().any():
        return sentences
    for setting in runs.settings:
        part = replace(runs.at(setting), metric=metric)
        rows = {row["label"]: row for row in records(final(part.rounds, metric))}
        one = verdict(runs.at(setting), metric, test, level)
        text = _finding(part, one, rows, test, level)
        rivals = set(part.table.loc[part.table["mode"] == "federated", "label"])
        for label in runs.order(x for x in rivals if x in rows and rows[x]["diverged"]):
            share = f"{rows[label]['diverged']} of {rows[label]['seeds']} seeds"
            text += f"{'; ' if text else ''}{label} diverged in {share} and is not compared"
        modes = part.table.groupby("label")["mode"].first()
        pooled = [row for label, row in rows.items() if modes[label] == "centralised"]
        if text and pooled and not pooled[0]["diverged"]:
            text += f"; centralised training reaches {_value(pooled[0], metric)}"
        if text:
            sentences.append(f"{setting}: {text}." if setting else f"{text}.")
    return sentences


def _value(row: dict[str, Any], metric: str) -> str:
    share = is_share(metric)
    return plus_minus(row["mean"], row["std"], share) + ("%" if share else "")


def _finding(part: Runs, one: Comparison, rows: dict[str, Any], test: str, level: float) -> str:
    """Return what a comparison says, without a full stop; '' where nobody was measured."""
    metric = part.metric
    if one.best is None:
        return f"No strategy can be called best: {one.caveats[0]}" if one.caveats else ""
    name = name_of(metric)[0].lower() + name_of(metric)[1:]
    if one.rows.empty:
        return f"{one.best} reaches a {name} of {_value(rows[one.best], metric)}"
    labels = [one.best, *one.rows["label"]]
    here = f"on the {len(one.seeds)} seed{'s'[: len(one.seeds) != 1]} that all strategies share"
    even = all(rows[label]["n"] == len(one.seeds) for label in labels)
    text = f"{one.best} has the best {name}, {_value(rows[one.best], metric)}"
    text += "" if even else f" over its {rows[one.best]['n']} seeds; it is best {here}"
    if ties := part.order(one.rows.loc[one.rows["tie"], "label"]):
        text += f", not distinguishable from {', '.join(ties)} ({TESTS[test]}, Holm over all pairs)"
    elif one.ahead:
        p = p_text(one.closest)
        text += (
            f", ahead of all others (each difference p < {level:g}; the closest rival: "
            f"p {p if p[0] == '<' else f'= {p}'}, {TESTS[test]} over {len(one.seeds)} seeds)"
        )
    return "; ".join([text, *one.caveats])


def significance_table(runs: Runs, metric: str | None = None, test: str = "t") -> Table:
    """Return the paired tests behind :func:`final_table`: every strategy against the best."""
    metric = metric or runs.metric
    data = by_setting(runs, lambda part: verdict(part, metric, test).rows)
    share = is_share(metric)
    factor, unit = (100, " (points)") if share else (1, "")
    rows = [
        (
            Cell(r["label"]),
            Cell(r["best"]),
            Cell(str(r["n"]), value=r["n"]),
            Cell(f"{r['difference'] * factor:+.2f}", value=r["difference"]),
            Cell(_between(r["low"] * factor, r["high"] * factor), value=r["low"]),
            Cell(p_text(r["p"]), value=r["p"]),
            Cell(p_text(r["p_holm"]), r["p_holm"] < LEVEL, r["p_holm"]),
        )
        for r in records(data)
    ]
    header = ["Strategy", "Best", "n", f"Difference{unit}", "95% CI", "p", "p (Holm)"]
    caption = (
        f"{name_of(metric)} after the last round against the best strategy of the setting, on the "
        f"n seeds that all strategies have: mean difference with Student's interval, "
        f"{TESTS[test]}, two-sided, both of the pair by itself; and p with Holm's correction over "
        "all pairs of strategies, since any might have been the best. Bold: below 0.05 after the "
        "correction. The best is ahead of all others where every p by itself is below 0.05 (Hung "
        "and Fithian, 2019)."
    )
    return long_table(f"significance_{metric}", caption, header, rows, data, texts=2)


def _between(low: float, high: float) -> str:
    return TO if low != low else f"[{low:+.2f}, {high:+.2f}]"
